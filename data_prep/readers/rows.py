"""Tables of typed rows from blocks of lines, at the speed of Arrow, without losing a line.

A `RowParser` has two ways to read the same layout: `parse_many` takes a whole block in one vectorised
pass and gives up where a single line is not well formed; `parse_one` takes one line and says what is
wrong with it. `parse_rows` halves a block with bad lines until `parse_many` takes the parts, and reads
what is left line by line: each line becomes one row or one bad row, and good files never pay.
"""

import csv
import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pyarrow as pa

from data_prep.events import LONGEST_TEXT
from data_prep.readers.base import Piece, line_blocks
from data_prep.readers.parsers import RowParser

_SLOW_BYTES = 1 << 14  # a block with bad lines is halved down to this size, then read line by line
_HEAD_BYTES = 1 << 20
_LAYOUT_LINES = 100  # a file of which so many first lines are bad is of another layout
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of a block of lines, good and bad ones.

    Attributes:
      table: one row for each good line, indexed by the number of the line within the block.
      lines: lines in the block.
      bad: (line within the block, reason, text) of each line that is no row, ascending.
      text_at: gives the text of a line by its number, for rows that are rejected later.
    """

    table: pd.DataFrame
    lines: int
    bad: tuple[tuple[int, str, str], ...]
    text_at: Callable[[int], str]

    def reject(self, wrong: np.ndarray, reason: str) -> "Rows":
        """Moves the rows where `wrong` is True to the bad ones, for one `reason`."""
        if not wrong.any():
            return self
        lines = self.table.index[wrong].tolist()
        bad = tuple(sorted([*self.bad, *((line, reason, self.text_at(line)) for line in lines)]))
        return dataclasses.replace(self, table=self.table[~wrong], bad=bad)

    def keep(self, selection: np.ndarray) -> "Rows":
        """Keeps the rows where `selection` is True; the others are well formed but no events."""
        return dataclasses.replace(self, table=self.table[selection])


def parse_rows(block: bytes, parser: RowParser) -> Rows:
    """Parses every line of a block; each becomes a row or a bad row.

    Args:
      block: whole lines; the last may lack its newline.
      parser: the lines' layout.
    """
    tables, numbers, bad = [parser.schema.empty_table()], [], []
    start_line, stack = 0, [block] if block else []
    while stack:
        part = stack.pop()
        lines = count_lines(part)
        table = parser.parse_many(part)
        if table is not None and len(table) != lines:  # Arrow skips empty lines
            table = None
        if table is None and len(part) > _SLOW_BYTES and lines > 1:
            # Halves at a line end; good halves go through the fast road again.
            middle = part.find(b"\n", len(part) // 2) + 1
            middle = middle if 0 < middle < len(part) else part.rfind(b"\n", 0, len(part) // 2) + 1
            # The first half is popped first, so that lines keep their order.
            stack += [part[middle:], part[:middle]]
            continue
        if table is None:
            table, good, faults = _parse_lines(part, parser)
            bad += [(start_line + line, reason, text) for line, reason, text in faults]
        else:
            good = np.arange(lines)
        tables.append(table)
        numbers.append(start_line + good)
        start_line += lines
    # Number of each good line within the block, [rows].
    index = np.concatenate(numbers) if numbers else np.zeros(0, np.int64)
    # One array a column: pandas would otherwise copy all numbers into one block.
    frame = pa.concat_tables(tables).to_pandas(split_blocks=True).set_axis(index)
    return Rows(frame, start_line, tuple(bad), _BlockText(block))


def read_rows(piece: Piece, parser: RowParser, header: bool = False) -> Iterator[Rows]:
    """Yields the rows of a piece block by block.

    Args:
      piece: the part of the file.
      parser: the lines' layout.
      header: skips the file's first line, which names the columns but counts as a line of its block.

    Raises:
      ValueError: a compressed file is damaged or ends early.
    """
    begins = piece.start == 0
    for block in line_blocks(piece):
        if not begins:
            yield parse_rows(block, parser)
            continue
        begins = False
        start = (block.find(b"\n") + 1 or len(block)) if header else 0
        rows = parse_rows(block[start:].removeprefix(b"" if header else _BYTE_ORDER_MARK), parser)
        shift = int(header)
        yield Rows(
            rows.table.set_axis(rows.table.index + shift),
            rows.lines + shift,
            tuple((line + shift, reason, text) for line, reason, text in rows.bad),
            _BlockText(block),
        )


def first_lines(path: str, count: int) -> list[bytes]:
    """The first lines of a file without their ends and without a byte order mark; at most `count`.

    Raises:
      ValueError: a compressed file is damaged.
    """
    for block in line_blocks(Piece(path, 0, _HEAD_BYTES), _HEAD_BYTES):
        lines = _split_lines(block.removeprefix(_BYTE_ORDER_MARK))
        return [line.removesuffix(b"\r") for line in lines[:count]]
    return []


def check_layout(path: str, parser: RowParser, description: str, header: bool = False) -> None:
    """Raises ValueError unless one of a file's first lines is a row; a file without lines passes.

    Args:
      path: the file.
      parser: its layout.
      description: the layout in words.
      header: skips the first line, which names the columns.
    """
    lines = first_lines(path, _LAYOUT_LINES)[int(header) :]
    reasons = []
    for line in lines:
        try:
            parser.parse_one(line)
        except ValueError as error:
            reasons.append(str(error))
        else:
            return
    if reasons:
        raise ValueError(
            f"{path}: expected {description}; got a file that begins {text_of(lines[0])!r} "
            f"({reasons[0]})."
        )


def header_cells(path: str, separator: str, encoding: str = "utf-8") -> list[str]:
    """Cells of the first line of a delimited file; empty for an empty file.

    Raises:
      ValueError: the line is not of the encoding.
    """
    for line in first_lines(path, 1):
        try:
            text = line.decode(encoding)
            if len(separator) > 1:
                return text.split(separator)
            return next(csv.reader([text], delimiter=separator), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(
                f"{path}: expected a line of column names, got {text_of(line)!r} ({error})."
            ) from error
    return []


def count_lines(block: bytes) -> int:
    """Lines in a block, the last of which may lack its newline."""
    return block.count(b"\n") + (not block.endswith(b"\n") and bool(block))


def text_of(line: bytes) -> str:
    """The beginning of a line as text, whatever its bytes are."""
    return line[: 4 * LONGEST_TEXT].decode("utf-8", "backslashreplace").rstrip("\r")[:LONGEST_TEXT]


class _BlockText:
    """Text of the lines of a block by number; the block is split when the first text is read."""

    def __init__(self, block: bytes):
        self._block = block

    @functools.cached_property
    def _lines(self) -> list[bytes]:
        return _split_lines(self._block)

    def __call__(self, line: int) -> str:
        return text_of(self._lines[line])


def _parse_lines(
    block: bytes, parser: RowParser
) -> tuple[pa.Table, np.ndarray, list[tuple[int, str, str]]]:
    """Parses a block line by line: the good rows, their lines, and the bad rows."""
    rows, good, bad = [], [], []
    cut_short = -1 if block.endswith(b"\n") else count_lines(block) - 1
    for number, line in enumerate(_split_lines(block)):
        try:
            rows.append(parser.parse_one(line))
            good.append(number)
        except ValueError as error:
            reason = f"truncated last line: {error}" if number == cut_short else str(error)
            bad.append((number, reason, text_of(line)))
    return pa.Table.from_pylist(rows, schema=parser.schema), np.array(good, np.int64), bad


def _split_lines(block: bytes) -> list[bytes]:
    lines = block.split(b"\n")
    return lines if lines[-1] else lines[:-1]
