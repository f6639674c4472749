"""MIND, Microsoft's news: `behaviors.tsv` and `news.tsv` of each part, without a line of names.

`behaviors.tsv` has `impression id, user, time (11/15/2019 10:22:32 AM), history (N1 N2 ...), impressions
(N3-1 N4-0 ...)`, between tabs. Each of the impressions is a labeled sample of one request. The history is what
the user clicked in the four weeks before the logs begin, oldest first, without times: its events are one second
apart from 12 October 2019 on, so that the history of later lines repeats that of earlier ones. Clicks of the
log itself are in no history, as in the data set's own experiments. The category is that of `news.tsv`.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from data_prep.events import (
    CATEGORY,
    ITEM,
    NO_IMPRESSION,
    TIME,
    USER,
    Chunk,
    bad_rows,
    id_keys,
    make_chunk,
)
from data_prep.readers.base import Piece, Reader, file_pieces
from data_prep.readers.cells import INTEGER, SIDE_FEATURE, WORD
from data_prep.readers.parsers import Delimited
from data_prep.readers.rows import Rows, check_layout, first_lines, read_rows, text_of
from data_prep.readers.side_files import bare_name, beside, by_pattern
from data_prep.readers.side_table import CategoryTable
from dgin_tf.records import LABEL
from dgin_tf.schema import REQUEST

_HISTORY, _IMPRESSIONS, _TITLE = "history", "impressions", "title"
_BEHAVIORS = Delimited(
    (REQUEST, USER, TIME, _HISTORY, _IMPRESSIONS),
    {REQUEST: INTEGER, USER: WORD, TIME: WORD, _HISTORY: SIDE_FEATURE, _IMPRESSIONS: WORD},
    "\t",
)
_NEWS = Delimited(
    (ITEM, CATEGORY, "subcategory", _TITLE, "abstract", "url", "entities", "abstract_entities"),
    {ITEM: WORD, CATEGORY: WORD, _TITLE: SIDE_FEATURE},
    "\t",
)
_TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"
_FIRST_CLICK = 1570838400  # 2019-10-12, when the histories begin
_LABELED = r"\S+-[01](?: \S+-[01])*"


class MindReader(Reader):
    """Reads the `behaviors.tsv` files of one or several parts, each with the `news.tsv` beside it.

    The input are folders, such as `MINDsmall_train,MINDsmall_dev`, or files.
    """

    where_to_get_it = (
        "Expected behaviors.tsv of MIND with news.tsv beside it; get MINDsmall_train.zip and MINDsmall_dev.zip "
        "from https://msnews.github.io, unpack them, and pass the folders as --input (they are never "
        "downloaded for you)."
    )
    impression_columns = (LABEL, REQUEST)
    has_behavior_log = True

    def __init__(self, paths: Sequence[str], options: Mapping[str, object]):
        files = []
        for path in by_pattern(paths):
            inside = (
                beside(os.path.join(path, "x"), r"behaviors\.tsv") if os.path.isdir(path) else []
            )
            files += inside or [path]
        super().__init__([p for p in files if bare_name(p) != "news.tsv"], options)
        named = [path for path in files if bare_name(path) == "news.tsv"]
        news = {n for path in self.paths for n in beside(path, r"news\.tsv")}
        self._news = tuple(sorted({*named, *news}))
        if not self._news:
            raise FileNotFoundError(f"no news.tsv beside {self.paths[0]!r}. {self.where_to_get_it}")

    def files(self) -> tuple[str, ...]:
        return (*self.paths, *self._news)

    def pieces(self) -> list[Piece]:
        for path in self.paths:
            check_layout(
                path, _BEHAVIORS, "lines of impression id, user, time, history, impressions"
            )
            for line in first_lines(path, 1):
                # The text may be cut within an impression: all but the last one is compared.
                impressions = text_of(line.split(b"\t")[-1])
                if not re.fullmatch(_LABELED, impressions.rsplit(" ", 1)[0]):
                    raise ValueError(
                        f"{path}: expected impressions with labels, such as N123-1 N456-0; got "
                        f"{impressions!r}. The test part of MIND has no labels; use its dev part."
                    )
        for path in self._news:
            check_layout(path, _NEWS, "lines of news id, category, subcategory, title, ...")
        return [piece for path in self.files() for piece in file_pieces(path)]

    def read(self, piece: Piece) -> Iterator[Chunk]:
        """Yields the impressions and past clicks of a piece; pieces of news hold no events."""
        if piece.path in self._news:
            integers = dict.fromkeys((TIME, LABEL, REQUEST), np.int64)
            types = {USER: str, ITEM: str, **integers}
            nothing = pd.DataFrame({name: [] for name in types}).astype(types)
            for rows in read_rows(piece, _NEWS):
                yield self._chunk(nothing, rows)
            return
        part = self.paths.index(piece.path)
        for rows in read_rows(piece, _BEHAVIORS):
            moments = pd.to_datetime(
                rows.table[TIME].astype(object), format=_TIME_FORMAT, errors="coerce"
            )
            rows = rows.reject(
                moments.isna().to_numpy(), "time is none like 11/15/2019 10:22:32 AM"
            )
            labeled = rows.table[_IMPRESSIONS].str.fullmatch(_LABELED).to_numpy(bool)
            rows = rows.reject(~labeled, "impressions are none like N123-1 N456-0")
            rows = rows.reject((rows.table[USER] == "").to_numpy(), "empty user_id")
            seconds = moments[rows.table.index].to_numpy("datetime64[s]").astype(np.int64)
            # Ids of impressions begin anew in each part.
            request = rows.table[REQUEST].to_numpy(np.int64) + (part << 40)
            yield self._chunk(_events(rows.table, seconds, request), rows)

    def titles(self) -> pd.DataFrame:
        tables = [
            rows.table[[ITEM, _TITLE]]
            for path in self._news
            for piece in file_pieces(path)
            for rows in read_rows(piece, _NEWS)
        ]
        return pd.concat([super().titles(), *tables])

    @functools.cached_property
    def _categories(self) -> CategoryTable:
        return CategoryTable.build(
            (id_keys(rows.table[ITEM])[0], rows.table[CATEGORY])
            for path in self._news
            for piece in file_pieces(path)
            for rows in read_rows(piece, _NEWS)
        )

    def _chunk(self, events: pd.DataFrame, rows: Rows) -> Chunk:
        chunk = make_chunk(events, rows.lines, bad_rows(rows.bad), (), self.impression_columns)
        names = self._categories.names
        return dataclasses.replace(
            chunk,
            columns={**chunk.columns, CATEGORY: self._categories.find(chunk.columns[ITEM])},
            names={**chunk.names, CATEGORY: pd.Series(dtype=object) if names is None else names},
        )


def _events(lines: pd.DataFrame, seconds: np.ndarray, request: np.ndarray) -> pd.DataFrame:
    """One row for each impression and each event of a history.

    Args:
      lines: of `behaviors.tsv`.
      seconds: time of each line, [lines].
      request: key of each line's request, [lines].
    """
    line = np.arange(len(lines))
    users = lines[USER].to_numpy(object)
    samples = lines[_IMPRESSIONS].astype(object).str.split(" ").set_axis(line).explode()
    past = lines[_HISTORY].astype(object).str.split().set_axis(line).explode().dropna()
    of_sample, of_past = samples.index.to_numpy(), past.index.to_numpy()
    number = past.groupby(level=0).cumcount().to_numpy()  # within the history
    none = np.full(len(past), NO_IMPRESSION)
    return pd.DataFrame(
        {
            USER: np.concatenate([users[of_past], users[of_sample]]),
            ITEM: np.concatenate([past.to_numpy(object), samples.str[:-2].to_numpy(object)]),
            TIME: np.concatenate([_FIRST_CLICK + number, seconds[of_sample]]),
            LABEL: np.concatenate([none, (samples.str[-1] == "1").to_numpy(np.int64)]),
            REQUEST: np.concatenate([none, request[of_sample]]),
        }
    )
