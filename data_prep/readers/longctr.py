"""Parquet files of LongCTR's benchmark (KuaiVideo_x2, MicroVideo1.7M_x2, Ebnerd_small_x1).

`train.parquet`, `valid.parquet` and `test.parquet` have `user_index, item_index, seq_len` and a label;
`user_info.parquet` has `full_item_seq`, everything that happened to the user of each row, oldest first. A sample
sees the first `seq_len` events of its user. There are no times: the place in the sequence stands for them.
"""

import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from data_prep.events import ITEM, NO_IMPRESSION, SPLIT, TIME, USER, Chunk, bad_rows, make_chunk
from data_prep.readers.base import Piece, Reader
from data_prep.readers.cells import DECIMAL, INTEGER
from data_prep.readers.impressions import SPLIT_NUMBERS, ImpressionColumns
from data_prep.readers.side_files import beside, by_pattern, text_option
from data_prep.readers.table_files import TableFile, open_parquet, open_table
from dgin_tf.records import LABEL

_USER, _ITEM, _LENGTH, _SEQUENCE = "user_index", "item_index", "seq_len", "full_item_seq"
_TYPES = {USER: INTEGER, ITEM: INTEGER, TIME: INTEGER, LABEL: DECIMAL}
_SAMPLES = r"(train|valid|test)\.parquet"
_BATCH_ROWS = 1 << 10


class LongCtrReader(Reader):
    """Reads the samples of all splits and the users' sequences; the input is their folder.

    Options: `label_column`, default `is_click` or `label`, which the samples have, and `label_threshold`.
    """

    where_to_get_it = (
        "Expected train.parquet, valid.parquet, test.parquet and user_info.parquet of LongCTR's benchmark "
        "(https://github.com/reczoo/LongCTR); pass their folder as --input (they are never downloaded for you)."
    )
    impression_columns = (LABEL, SPLIT)
    has_behavior_log = True
    has_categories = False

    def __init__(self, paths: Sequence[str], options: Mapping[str, object]):
        folders = [
            os.path.join(path, "") if os.path.isdir(path) else path for path in by_pattern(paths)
        ]
        samples = [file for path in folders for file in beside(f"{path}x", _SAMPLES)]
        users = [file for path in folders for file in beside(f"{path}x", r"user_info\.parquet")]
        if len(users) != 1 or not samples:
            raise FileNotFoundError(
                f"expected a folder with samples and user_info.parquet; got {', '.join(paths)}. "
                f"{self.where_to_get_it}"
            )
        super().__init__([*samples, *users], options)
        self._users = users[0]

    def pieces(self) -> list[Piece]:
        pieces = [piece for path in self.paths[:-1] for piece in self._samples(path).pieces()]
        names = open_parquet(self._users).schema_arrow.names
        if _SEQUENCE not in names:
            raise ValueError(
                f"{self._users}: expected the column {_SEQUENCE}; got {', '.join(names)}."
            )
        groups = range(open_parquet(self._users).num_row_groups)
        return [*pieces, *(Piece(self._users, group, group + 1) for group in groups)]

    def read(self, piece: Piece) -> Iterator[Chunk]:
        """Yields the samples of a split, or the events of some users."""
        if piece.path == self._users:
            for events, lines in _events(piece):
                yield make_chunk(events, lines, None, (), self.impression_columns)
            return
        table = self._samples(piece.path)
        labels = ImpressionColumns.of_options({**self.options, "label_column": table.names[LABEL]})
        split = SPLIT_NUMBERS[os.path.basename(piece.path).partition(".")[0]]
        for rows in table.read(piece):
            for name in (USER, ITEM, TIME):
                rows = rows.reject(rows.table[name].to_numpy() < 0, f"negative {name}")
            rows = labels.encode(rows, piece.path)
            events = rows.table.assign(**{SPLIT: split})
            yield make_chunk(events, rows.lines, bad_rows(rows.bad), (), self.impression_columns)

    def _samples(self, path: str) -> TableFile:
        columns = open_parquet(path).schema_arrow.names
        default = "label" if "label" in columns else "is_click"
        names = {USER: _USER, ITEM: _ITEM, TIME: _LENGTH}
        names[LABEL] = text_option(self.options, "label_column", default)
        return open_table(path, names, numeric_features=(LABEL,)).with_types(_TYPES)


def _events(piece: Piece) -> Iterator[tuple[pd.DataFrame, int]]:
    """The events of the users of a row group, and how many users they are of, part by part."""
    file = open_parquet(piece.path)
    first = sum(file.metadata.row_group(group).num_rows for group in range(piece.start))
    has_index = _USER in file.schema_arrow.names
    columns = [_SEQUENCE, *([_USER] if has_index else [])]
    for batch in file.iter_batches(_BATCH_ROWS, range(piece.start, piece.stop), columns):
        sequences = batch.column(0)
        lengths = pa.compute.fill_null(pa.compute.list_value_length(sequences), 0).to_numpy()
        users = np.arange(first, first + len(batch))
        if has_index:
            users = batch.column(1).to_numpy()
        first += len(batch)
        starts = np.cumsum(lengths) - lengths
        events = {
            USER: np.repeat(users, lengths),
            ITEM: pa.compute.list_flatten(sequences).to_numpy(),
            TIME: np.arange(lengths.sum()) - np.repeat(starts, lengths),
            LABEL: NO_IMPRESSION,
            SPLIT: NO_IMPRESSION,
        }
        yield pd.DataFrame(events), len(batch)
