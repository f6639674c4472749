"""Reads pieces of the log and deals their events into buckets of users."""

import dataclasses
import hashlib
import pathlib
from collections import Counter
from collections.abc import Container

import numpy as np
import pandas as pd

from data_prep.engines.local import Result
from data_prep.events import (
    BAD_COLUMNS,
    BEHAVIOR,
    CATEGORY,
    ITEM,
    NO_IMPRESSION,
    SPLIT,
    TIME,
    USER,
    Chunk,
    check_names,
)
from data_prep.quarantine import FIRST_BAD, advice_on, name_rows
from data_prep.readers.base import Piece, Reader
from data_prep.stages.partition import deal
from data_prep.storage import narrow, save_columns
from dgin_tf.records import LABEL, SPLITS
from dgin_tf.schema import write_text


def fingerprint_file(path: str) -> Result:
    """SHA-256 and size of an input file."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"file": pathlib.Path(path).name, "bytes": file.tell(), "sha256": digest}


@dataclasses.dataclass(frozen=True)
class PartitionTask:
    """One piece of the log, to be dealt into buckets.

    Attributes:
      reader, piece: source of the events.
      number: of the piece, which names its files.
      buckets: number of buckets.
      keep: True for each behavior type whose events are kept.
      folder: of the dealt events.
    """

    reader: Reader
    piece: Piece
    number: int
    buckets: int
    keep: tuple[bool, ...]
    folder: pathlib.Path


def partition_piece(task: PartitionTask) -> Result:
    """Writes segments of bucketed events, the bad rows and the words of the piece."""
    task.folder.mkdir(exist_ok=True)
    segments: list[dict] = []
    bad: list[pd.DataFrame] = []
    words: dict[str, list[pd.Series]] = {}
    behaviors = np.zeros(len(task.keep), np.int64)
    id_types: dict[str, str] = {}
    lines = events = 0
    earliest, latest = [], []
    labels = np.zeros(2, np.int64)
    first_of_split: dict[str, int] = {}
    for chunk in task.reader.read(task.piece):
        if not lines and task.number == 0:
            check_layout(chunk, task.piece.path)
        if len(chunk.bad):
            # Lines are counted from the chunk's first one; here from the piece's.
            bad.append(chunk.bad.assign(line=chunk.bad["line"] + lines))
        lines += chunk.lines
        events += chunk.events
        behaviors += np.bincount(chunk.columns[BEHAVIOR], minlength=len(task.keep))
        if not chunk.events:
            continue
        for name, names in chunk.names.items():
            words.setdefault(name, []).append(names)
        check_id_types(id_types, chunk.names, task.piece.path)
        columns = dict(chunk.columns)
        if LABEL in columns:
            labels += np.bincount(columns[LABEL][columns[LABEL] != NO_IMPRESSION], minlength=2)
        if SPLIT in columns:
            for number in np.unique(columns[SPLIT][columns[SPLIT] != NO_IMPRESSION]).tolist():
                first = int(columns[TIME][columns[SPLIT] == number].min())
                name = SPLITS[number]
                first_of_split[name] = min(first, first_of_split.get(name, first))
        if not all(task.keep):
            kept_events = np.array(task.keep)[columns[BEHAVIOR]]
            columns = {name: column[kept_events] for name, column in columns.items()}
        if not len(columns[TIME]):
            continue
        earliest.append(int(columns[TIME].min()))
        latest.append(int(columns[TIME].max()))
        # Rows of one bucket lie side by side; offsets [buckets + 1].
        segment, offsets = deal({n: narrow(column) for n, column in columns.items()}, task.buckets)
        name = f"{task.number:05d}-{len(segments):05d}.columns"
        save_columns(task.folder / name, segment)
        segments.append({"file": name, "offsets": offsets.tolist()})
    table = pd.concat(bad) if bad else pd.DataFrame(columns=list(BAD_COLUMNS))
    table.to_csv(task.folder / f"{task.number:05d}.bad.csv", index=False, header=False)
    for name, parts in words.items():
        write_text(
            task.folder / f"{task.number:05d}.{name}.words",
            "".join(f"{word}\n" for word in check_names(pd.concat(parts))),
        )
    return {
        "lines": lines,
        "events": events,
        "behaviors": behaviors.tolist(),
        "bad": dict(sorted(Counter(map(_without_value, table["reason"])).items())),
        "segments": segments,
        "words": sorted(words),
        "id_types": id_types,
        "earliest": min(earliest, default=None),
        "latest": max(latest, default=None),
        "labels": labels.tolist(),
        "first_of_split": first_of_split,
    }


def check_layout(chunk: Chunk, path: str) -> None:
    """Raises ValueError where the first block of a log has no event: it is of another layout.

    Waiting for the fraction of bad rows would take long: rows are read slowly where they are bad.
    """
    if chunk.events or len(chunk.bad) < FIRST_BAD:
        return
    name = pathlib.Path(path).name
    rows = chunk.bad[list(BAD_COLUMNS)].head(FIRST_BAD).values.tolist()
    examples = name_rows((f"{name}:{line + 1}", reason, text) for line, reason, text in rows)
    raise ValueError(
        f"none of the first {len(chunk.bad):,} rows of {path} can be read; the first {FIRST_BAD}: "
        f"{examples}. Check that --dataset is the layout of this file{advice_on(examples)}."
    )


def check_id_types(id_types: dict[str, str], word_columns: Container[str], path: str) -> None:
    """Notes the type of each id column; raises ValueError where an earlier chunk has another one."""
    for name in (USER, ITEM, CATEGORY):
        id_type = "words" if name in word_columns else "integers"
        if id_types.setdefault(name, id_type) != id_type:
            raise ValueError(
                f"{path}: {name} holds integers in one part and words in another; they must be of "
                "one kind."
            )


def _without_value(reason: str) -> str:
    """A reason without the value that it quotes."""
    return reason.split(" '")[0].split(' "')[0]
