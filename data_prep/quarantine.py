"""Quarantine file of rows that are no events, and the limit on their number."""

import csv
import gzip
import io
import itertools
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from data_prep.readers.base import Piece
from dgin_tf.schema import replacing

FIRST_BAD = 10
_SHOWN = 80  # characters of a bad row in a message
QUARANTINE_FILE = "quarantine.csv.gz"


def collect(parts: Sequence[tuple[Piece, int, pathlib.Path]], target: pathlib.Path) -> int:
    """Joins the bad rows of all pieces into one compressed CSV: file, line (from 1), reason, text.

    Args:
      parts: piece, its number of lines, and the file of its bad rows, in the order of the log.
      target: file to write; the same rows always give the same bytes.

    Returns:
      Rows written.
    """
    rows = 0
    with (
        replacing(target) as temporary,
        open(temporary, "wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as archive,
        io.TextIOWrapper(archive, encoding="utf-8", newline="") as text,
    ):
        # mtime=0 and no file name: the archive's bytes depend on the rows alone.
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["file", "line", "reason", "text"])
        for (piece, _, path), before in zip(parts, lines_before(parts), strict=True):
            with open(path, encoding="utf-8", newline="") as file:
                for line, *rest in csv.reader(file):
                    rows += 1
                    writer.writerow([os.path.basename(piece.path), int(line) + before, *rest])
    return rows


def lines_before(parts: Sequence[tuple[Piece, int, pathlib.Path]]) -> list[int]:
    """Number of the first line of each piece within its file, from 1."""
    lines: Counter[str] = Counter()
    numbers = []
    for piece, count, _ in parts:
        numbers.append(lines[piece.path] + 1)
        lines[piece.path] += count
    return numbers


def name_rows(rows: Iterable[tuple[str, str, str]]) -> str:
    """The first bad rows, for a message, from (place, reason, text) triples."""
    return "; ".join(
        f"{place}: {reason} ({text[:_SHOWN]!r})"
        for place, reason, text in itertools.islice(rows, FIRST_BAD)
    )


def advice_on(reasons: str) -> str:
    """The end of a message about bad rows, where their reasons say that ids are no integers."""
    wrong_ids = re.search("(user|item|category)_id[^;]* is no integer|negative [a-z]+_id", reasons)
    return "; ids that are words or negative need --id_type=word" if wrong_ids else ""


def check_fraction(bad: int, events: int, largest: float, target: pathlib.Path) -> None:
    """Raises ValueError that names the first bad rows where there are too many of them."""
    if bad <= largest * (bad + events):
        return
    with gzip.open(target, "rt", encoding="utf-8", newline="") as file:
        first = list(itertools.islice(csv.reader(file), 1, FIRST_BAD + 1))
    examples = name_rows((f"{name}:{line}", reason, text) for name, line, reason, text in first)
    raise ValueError(
        f"{bad:,} of {bad + events:,} rows cannot be read, more than --max_bad_fraction={largest}; "
        f"the first {len(first)}: {examples}. All are in {target}. Check that --dataset is the layout "
        f"of this file{advice_on(examples)}."
    )
