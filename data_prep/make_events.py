"""Makes a file of events for the online commands of any log that `data_prep.prepare` reads.

    python -m data_prep.make_events --dataset=taobao --input=UserBehavior.csv --output=events.jsonl

The flags about the log are those of `data_prep.prepare`: give the same ones. A line is an event,

    {"user_id": 17, "sequence": 12, "item_id": 93, "category_id": 4, "behavior_type": "pv", "timestamp": 1511544070}

with the ids of the log. Lines are in time order. `sequence` numbers each user's events from 1 on in the order
that a preparation has (time, then the order of a table or the item), without exact duplicates. Of a log that grows at its end alone, a later
file repeats an earlier one's lines, which change nothing. docs/events.md has the format.

Of impressions (`--label_column`) the clicked ones are events, or the rows of `--behaviors` where that is given.

The events are sorted in memory, about 100 bytes each.
"""

import json
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from absl import flags
from tqdm import tqdm

from data_prep import reader_flags
from data_prep.events import (
    BEHAVIOR,
    CATEGORY,
    ID_COLUMNS,
    ITEM,
    MICROSECOND,
    MISSING,
    NO_IMPRESSION,
    TIME,
    USER,
    check_names,
    concatenate,
)
from data_prep.quarantine import check_fraction, collect
from data_prep.readers.base import Piece, Reader
from data_prep.stages.histories import Histories, build_histories
from data_prep.stages.impressions import past_events
from data_prep.tasks.partition import check_id_types, check_layout
from data_prep.vocabularies import Words
from dgin_tf.commands import command_line
from dgin_tf.numeric_features import decode_numbers
from dgin_tf.ownership import check_claim, claim
from dgin_tf.records import LABEL
from dgin_tf.schema import replacing

flags.adopt_module_key_flags(reader_flags)  # --help lists them too
_OUTPUT = flags.DEFINE_string("output", None, "File of the events, written anew.", required=True)
_OVERWRITE = flags.DEFINE_boolean(
    "overwrite", False, "Replace events that this command wrote before."
)
WRITTEN = "events of a log"
_PROGRESS = flags.DEFINE_boolean("progress", True, "Draw a progress bar.")

SEQUENCE = "sequence"
_LINES = 10_000  # written at once


class EventsOfLog:
    """The events of a log, by user and in time order.

    Args:
      reader: of the log.
      behavior_types: names of those to keep; () for all.
      folder: takes files of bad rows.
      progress: whether to draw a bar.

    Attributes:
      histories: the events.
      duplicates: number of exact repetitions that were dropped.
      impressions: number of impressions that are no events: those beside a log of behaviors, or not clicked.
      bad: piece, number of lines and file of bad rows, as `quarantine.collect` takes them.

    Raises:
      ValueError: the log is of another layout, or names an id column by words here and numbers there.
    """

    def __init__(
        self, reader: Reader, behavior_types: tuple[str, ...], folder: pathlib.Path, progress: bool
    ):
        if unknown := sorted(set(behavior_types) - set(reader.behavior_types)):
            raise ValueError(
                f"expected behavior types among {list(reader.behavior_types)}; got {unknown}."
            )
        self._reader = reader
        kept_types = [
            not behavior_types or name in behavior_types for name in reader.behavior_types
        ]
        # As in prepared data, a log of one type has no field of types.
        self._types = reader.behavior_types if sum(kept_types) > 1 else ()
        self.bad: list[tuple[Piece, int, pathlib.Path]] = []
        id_types: dict[str, str] = {}
        words: dict[str, list[pd.Series]] = {}
        parts = []
        pieces = reader.pieces()
        for piece in tqdm(pieces, "reading", disable=not progress, file=sys.stderr):
            lines = 0
            path = folder / f"{len(self.bad):05d}.bad.csv"
            for chunk in reader.read(piece):
                if not (lines or self.bad):
                    check_layout(chunk, piece.path)
                rows = chunk.bad.assign(line=chunk.bad["line"] + lines)
                rows.to_csv(path, index=False, header=False, mode="a")
                lines += chunk.lines
                if not chunk.events:
                    continue
                check_id_types(id_types, chunk.names, piece.path)
                for name, names in chunk.names.items():
                    words.setdefault(name, []).append(names)
                columns = dict(chunk.columns)
                if not all(kept_types):
                    rows_kept = np.array(kept_types)[columns[BEHAVIOR]]
                    columns = {name: column[rows_kept] for name, column in columns.items()}
                parts.append(columns)
            self.bad.append((piece, lines, path))
        self._words = {name: Words(check_names(pd.concat(names))) for name, names in words.items()}
        self.impressions = 0
        self.histories: Histories
        self.histories, self.duplicates = build_histories(
            concatenate(parts), keeps_order=reader.keeps_order
        )
        if parts and reader.impression_columns:
            label = self.histories.events[LABEL]
            is_past = label == NO_IMPRESSION if reader.has_behavior_log else label == 1
            self.impressions = int((~is_past).sum())
            self.histories = past_events(self.histories, is_past)

    def lines(self) -> Iterator[str]:
        """The events as JSON, the oldest first."""
        declared = self._reader.declared
        # Columns of users and requests are no fields of events.
        others = {column.name for column in (*declared.of_log_users, *declared.of_requests)}
        columns = {n: c for n, c in self.histories.events.items() if n not in others}
        columns[USER] = self.histories.users[self.histories.owner]
        starts = np.repeat(self.histories.offsets[:-1], self.histories.lengths)
        columns[SEQUENCE] = np.arange(len(starts)) - starts + 1
        within_second = [columns.pop(MICROSECOND)] if MICROSECOND in columns else []
        order = np.lexsort((*within_second, columns[TIME]))
        for start in range(0, len(order), _LINES):
            rows = order[start : start + _LINES]
            chunk = {n: self._raw(n, column[rows]) for n, column in columns.items()}
            for values in zip(*chunk.values(), strict=True):
                yield _line(dict(zip(chunk, values, strict=True)))

    def _raw(self, name: str, column: np.ndarray) -> list[Any]:
        """A column as the log has it, None for what is unknown and for what the log does not have."""
        if name == BEHAVIOR:
            return [self._types[n] for n in column] if self._types else [None] * len(column)
        if name in self._reader.numeric_features:
            return [None if np.isnan(number) else number for number in decode_numbers(column)]
        declared = {column.name: column.is_number for column in self._reader.declared.of_events}
        if declared.get(name):
            numbers = column.astype(np.int64).view(np.float64)
            return [None if np.isnan(number) else number for number in numbers.tolist()]
        if name in (*ID_COLUMNS, *self._reader.side_features, *declared):
            raw = self._words.get(name, Words()).raw(column).tolist()
            return [None if key == MISSING else v for key, v in zip(column, raw, strict=True)]
        return column.tolist()


def _line(event: Mapping[str, Any]) -> str:
    first = (USER, SEQUENCE, ITEM, CATEGORY, BEHAVIOR)
    names = [*first, *sorted(set(event) - {*first, TIME}), TIME]
    content = {name: event[name] for name in names if event[name] is not None}
    return json.dumps(content, ensure_ascii=False) + "\n"


def main(_: object) -> None:
    """Writes the events, and prints how many there are."""
    output = pathlib.Path(_OUTPUT.value)
    quarantine = output.with_name(f"{output.name}.quarantine.csv.gz")
    check_claim(output.parent, WRITTEN, [output.name, quarantine.name])
    if output.exists() and not _OVERWRITE.value:
        raise ValueError(f"{output} is there already; give --overwrite to replace it.")
    reader = reader_flags.make_reader()
    claim(output.parent, WRITTEN, [output.name, quarantine.name])
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        types = tuple(reader_flags.BEHAVIOR_TYPES.value)
        log = EventsOfLog(reader, types, pathlib.Path(folder), _PROGRESS.value)
        bad = collect(log.bad, quarantine)
    events = len(log.histories.owner)
    check_fraction(
        bad,
        events + log.impressions + log.duplicates,
        reader_flags.MAX_BAD_FRACTION.value,
        quarantine,
    )
    if not events:
        raise ValueError(f"{', '.join(reader.paths)} has no events; expected at least one.")
    if not bad:
        quarantine.unlink()
    with replacing(output) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(log.lines())
    sys.stdout.write(
        f"{events:,} events of {len(log.histories.users):,} users in {output}; {log.duplicates:,} exact "
        f"duplicates were dropped, {bad:,} rows were bad{f', see {quarantine}' if bad else ''}"
        f"{f', {log.impressions:,} impressions are no events' if log.impressions else ''}.\n"
    )


if __name__ == "__main__":
    command_line.run(main)
