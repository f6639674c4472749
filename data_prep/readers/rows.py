"""From a block of lines to a table of typed rows, at the speed of Arrow, losing no line.

A `RowParser` has two ways to read the same layout: `parse_many` takes a whole block in one vectorised
pass and gives up where a single line is not well formed; `parse_one` takes one line and says what is
wrong with it. `parse_rows` halves a block with bad lines until `parse_many` takes the parts, and reads
what is left line by line: each line becomes one row or one bad row, and good files never pay.
"""

import abc
import csv
import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.json

from data_prep.events import LONGEST_TEXT
from data_prep.readers.base import Piece, line_blocks

INTEGER = "integer"
DECIMAL = "decimal"
AMOUNT = "amount"
WORD = "word"
LABEL = "label"
#: What a column holds: one of the above, or all the words that may stand in it.
Kind = str | tuple[str, ...]

ARROW_TYPES = {
    INTEGER: pa.int64(),
    DECIMAL: pa.float64(),
    AMOUNT: pa.float64(),
    WORD: pa.string(),
    LABEL: pa.string(),
}
_PATTERNS = {
    INTEGER: re.compile(r"^-?[0-9]+$", re.ASCII),
    DECIMAL: re.compile(r"^-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$", re.ASCII),
    AMOUNT: re.compile(r"^([0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?)?$", re.ASCII),
}
_INT64 = np.iinfo(np.int64)
_FLOAT64 = np.finfo(np.float64)
# Vocabularies are files of one word a line.
UNWRITABLE = re.compile("[\\n\\r\\ud800-\\udfff]")
_FOREIGN_TO_INTEGERS = (b" ", b"\t", b"x", b"X", b"+", b'"')
_UNIT_SEPARATOR = "\x1f"  # stands for a separator of several characters; no text contains it
_SLOW_BYTES = 1 << 14  # a block with bad lines is halved down to this size, then read line by line
_HEAD_BYTES = 1 << 20
_LAYOUT_LINES = 100  # a file of which so many first lines are bad is of another layout
_LONGEST_INTEGER = 40
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclasses.dataclass(frozen=True)
class Rows:
    """What a block of lines holds.

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
        rejected = [(line, reason, self.text_at(line)) for line in self.table.index[wrong].tolist()]
        bad = tuple(sorted([*self.bad, *rejected]))
        return dataclasses.replace(self, table=self.table[~wrong], bad=bad)

    def keep(self, wanted: np.ndarray) -> "Rows":
        """Drops rows that are well formed but not asked for."""
        return dataclasses.replace(self, table=self.table[wanted])


class RowParser(abc.ABC):
    """One layout of lines."""

    @property
    @abc.abstractmethod
    def schema(self) -> pa.Schema:
        """Names and types of the columns of a parsed table."""

    @abc.abstractmethod
    def parse_many(self, block: bytes) -> pa.Table | None:
        """Parses a block of which every line is a good row; None (or fewer rows) where one is not."""

    @abc.abstractmethod
    def parse_one(self, line: bytes) -> dict[str, object]:
        """Parses a line without its newline; raises ValueError with the reason if it is no row."""


@dataclasses.dataclass(frozen=True)
class Delimited(RowParser):
    """Lines of cells between separators.

    Attributes:
      columns: names of all cells of a line, in order.
      kinds: the columns wanted -> `INTEGER` (int64), `DECIMAL` (finite float64), `AMOUNT` (the same,
        not below zero; null for an empty cell), `WORD`, `LABEL` (the same, empty where unknown), or a tuple
        of all allowed words (uint8, the place in the tuple).
      separator: what stands between two cells; more than one character is allowed.
      quoted: whether a cell may stand in double quotes (but not run over the end of a line).
      encoding: of the text.
    """

    columns: tuple[str, ...]
    kinds: Mapping[str, Kind]
    separator: str = ","
    quoted: bool = False
    encoding: str = "utf-8"

    def __post_init__(self):
        if self.quoted and len(self.separator) != 1:
            raise ValueError(
                f"quoted cells need a separator of one character; got {self.separator!r}."
            )

    @functools.cached_property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, _arrow_type(kind)) for name, kind in self.kinds.items()])

    def parse_many(self, block: bytes) -> pa.Table | None:
        if b"\r" in block and block.count(b"\r") != block.count(
            b"\r\n"
        ):  # Arrow ends a line there, we do not
            return None
        if not block.isascii():  # Arrow checks only the columns that it converts
            try:
                block = block.decode(self.encoding).encode()
            except UnicodeDecodeError:
                return None
        separator = self.separator
        if len(separator) > 1:
            if _UNIT_SEPARATOR.encode() in block:
                return None
            separator, block = _UNIT_SEPARATOR, block.replace(separator.encode(), b"\x1f")
        try:
            table = pa.csv.read_csv(
                pa.py_buffer(block),
                read_options=pa.csv.ReadOptions(
                    use_threads=False, block_size=len(block) + 1, column_names=self.columns
                ),
                parse_options=pa.csv.ParseOptions(
                    delimiter=separator, quote_char='"' if self.quoted else False
                ),
                convert_options=pa.csv.ConvertOptions(
                    column_types=self._read_types(block),
                    include_columns=list(self.kinds),
                    null_values=[],
                    strings_can_be_null=False,
                ),
            )
            return pa.table([self._typed(table, name) for name in self.kinds], schema=self.schema)
        except pa.ArrowInvalid:
            return None

    def _read_types(self, block: bytes) -> dict[str, pa.DataType]:
        """What Arrow shall make of each column: integers only where it takes none but ours.

        It also takes " 5", "0x5" and quoted numbers, which mean that something is wrong.
        """
        strict = not any(character in block for character in _FOREIGN_TO_INTEGERS)
        types = dict.fromkeys(self.columns, pa.string())
        for name, kind in self.kinds.items():
            if kind == INTEGER and strict:
                types[name] = pa.int64()
            elif isinstance(kind, tuple):
                types[name] = pa.dictionary(pa.int32(), pa.string())
        return types

    def _typed(self, table: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
        """A column as its kind; raises ArrowInvalid where a cell is not of it."""
        column, kind = table.column(name), self.kinds[name]
        if isinstance(kind, tuple):
            return _codes(name, column.combine_chunks(), kind)
        if kind in (WORD, LABEL) or pa.types.is_integer(column.type):
            return column
        if not _all(pa.compute.match_substring_regex(column, _PATTERNS[kind].pattern)):
            raise pa.ArrowInvalid(f"{name} has a cell that is no {kind}")
        if kind == AMOUNT:
            column = pa.compute.if_else(pa.compute.equal(column, ""), None, column)
        numbers = column.cast(ARROW_TYPES[kind])
        if kind in (DECIMAL, AMOUNT) and not _all(pa.compute.is_finite(numbers)):
            raise pa.ArrowInvalid(f"{name} has a cell that is not finite")
        return numbers

    def parse_one(self, line: bytes) -> dict[str, object]:
        try:
            text = line.decode(self.encoding).removesuffix("\r")
        except UnicodeDecodeError:
            raise ValueError(f"not {self.encoding.upper()}") from None
        if "\r" in text:
            raise ValueError("carriage return within the line")
        cells = self._cells(text)
        if len(cells) != len(self.columns):
            raise ValueError(f"expected {len(self.columns)} columns, got {len(cells)}")
        row = dict(zip(self.columns, cells, strict=True))
        return {name: convert_cell(name, row[name], kind) for name, kind in self.kinds.items()}

    def _cells(self, text: str) -> list[str]:
        if not text:
            raise ValueError("empty line")
        if not self.quoted:
            return text.split(self.separator)
        try:
            return next(csv.reader([text], delimiter=self.separator, strict=True))
        except csv.Error as error:
            raise ValueError(f"unreadable quotation marks ({error})") from None


@dataclasses.dataclass(frozen=True)
class JsonLines(RowParser):
    """Lines that are JSON objects.

    Attributes:
      kinds: the keys wanted -> `INTEGER`, `DECIMAL` or `WORD`; each must be there, words not empty.
    """

    kinds: Mapping[str, str]

    @functools.cached_property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, ARROW_TYPES[kind]) for name, kind in self.kinds.items()])

    def parse_many(self, block: bytes) -> pa.Table | None:
        table = read_json(block, self.schema)
        if table is None:
            return None
        for name, kind in self.kinds.items():
            column = table.column(name)
            if column.null_count:
                return None
            if kind == WORD and not _all(pa.compute.match_substring_regex(column, r"^[^\n\r]+$")):
                return None
            if kind == DECIMAL and not _all(pa.compute.is_finite(column)):
                return None
        return table

    def parse_one(self, line: bytes) -> dict[str, object]:
        content = load_json(line)
        return {
            name: checked_value(name, content.get(name), kind) for name, kind in self.kinds.items()
        }


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
            middle = part.find(b"\n", len(part) // 2) + 1
            middle = middle if 0 < middle < len(part) else part.rfind(b"\n", 0, len(part) // 2) + 1
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
    index = np.concatenate(numbers) if numbers else np.zeros(0, np.int64)
    # One array a column: pandas would otherwise copy all numbers into one block.
    frame = pa.concat_tables(tables).to_pandas(split_blocks=True).set_axis(index)
    return Rows(frame, start_line, tuple(bad), _BlockText(block))


def read_rows(piece: Piece, parser: RowParser, header: bool = False) -> Iterator[Rows]:
    """Yields the rows of a piece block by block.

    Args:
      piece: the part of the file.
      parser: the lines' layout.
      header: whether the file's first line names the columns; it counts as a line of the first block.

    Raises:
      ValueError: a compressed file is damaged or ends early.
    """
    begins = piece.start == 0
    for block in line_blocks(piece):
        if not begins:
            yield parse_rows(block, parser)
            continue
        begins = False
        skipped = (block.find(b"\n") + 1 or len(block)) if header else 0
        rows = parse_rows(block[skipped:].removeprefix(b"" if header else _BYTE_ORDER_MARK), parser)
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


def check_layout(path: str, parser: RowParser, expected: str, header: bool = False) -> None:
    """Raises ValueError unless one of a file's first lines is a row; a file without lines passes.

    Args:
      path: the file.
      parser: its layout.
      expected: the layout in words.
      header: whether the first line names the columns and is none of them.
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
            f"{path}: expected {expected}; got a file that begins {text_of(lines[0])!r} "
            f"({reasons[0]})."
        )


def header_cells(path: str, separator: str) -> list[str]:
    """Names in the first line of a delimited file; empty for an empty file.

    Raises:
      ValueError: the line is no UTF-8.
    """
    for line in first_lines(path, 1):
        try:
            return next(csv.reader([line.decode()], delimiter=separator), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(
                f"{path}: expected a line of column names, got {text_of(line)!r} ({error})."
            ) from error
    return []


def read_json(block: bytes, schema: pa.Schema) -> pa.Table | None:
    """Parses JSON objects with Arrow; None where a line is none, or not of the schema.

    Keys that the schema does not name are skipped; keys that are not there are null.
    """
    try:
        block.decode()  # Arrow does not look
        return pa.json.read_json(
            pa.BufferReader(block),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=pa.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError):
        return None


def load_json(line: bytes) -> dict[str, object]:
    """Parses one line as a JSON object; raises ValueError with the reason if it is none."""
    if not line.strip():
        raise ValueError("empty line")
    try:
        content = json.loads(line.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error.msg})") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, a thousand brackets
        raise ValueError("no JSON of reasonable size") from None
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object, got {type(content).__name__}")
    return content


def checked_value(name: str, value: object, kind: str) -> object:
    """A value of a parsed object if it is of the kind; raises ValueError with the reason if not."""
    if value is None:
        raise ValueError(f"no {name}")
    shown = f"{name} {str(value)[:LONGEST_TEXT]!r}"
    if kind == WORD:
        if not isinstance(value, str):
            raise ValueError(f"{shown} is no text")
        if not value:
            raise ValueError(f"{name} is empty")
        if UNWRITABLE.search(value):
            raise ValueError(f"{shown} holds a line break or half a surrogate pair")
        return value
    if isinstance(value, bool) or not isinstance(value, int if kind == INTEGER else int | float):
        raise ValueError(f"{shown} is no {kind}")
    if kind == INTEGER and not _INT64.min <= value <= _INT64.max:
        raise ValueError(f"{shown} is beyond int64")
    if kind == DECIMAL and not abs(value) <= _FLOAT64.max:
        raise ValueError(f"{shown} is not finite")
    return value


def count_lines(block: bytes) -> int:
    """Lines in a block, the last of which may lack its newline."""
    return block.count(b"\n") + (not block.endswith(b"\n") and bool(block))


def text_of(line: bytes) -> str:
    """The beginning of a line as text, whatever its bytes are."""
    return line[: 4 * LONGEST_TEXT].decode("utf-8", "backslashreplace").rstrip("\r")[:LONGEST_TEXT]


class _BlockText:
    """Text of the lines of a block by number; the block is only taken apart when one is asked for."""

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


def convert_cell(name: str, cell: str, kind: Kind) -> object:
    """A cell as its kind; raises ValueError with the reason if it is none."""
    if isinstance(kind, tuple):
        if cell not in kind:
            raise ValueError(f"unknown {name} {_shown(cell)}, expected one of {', '.join(kind)}")
        return kind.index(cell)
    if kind in (WORD, LABEL):
        return cell
    if not _PATTERNS[kind].fullmatch(cell):
        raise ValueError(f"{name} {_shown(cell)} is no {kind}")
    if kind == AMOUNT and not cell:
        return None
    if kind in (DECIMAL, AMOUNT):
        return checked_value(name, float(cell), DECIMAL)
    if len(cell) > _LONGEST_INTEGER:
        raise ValueError(f"{name} {_shown(cell)} is beyond int64")
    return checked_value(name, int(cell), kind)


def _shown(cell: str) -> str:
    return repr(cell[:LONGEST_TEXT])


def _arrow_type(kind: Kind) -> pa.DataType:
    return pa.uint8() if isinstance(kind, tuple) else ARROW_TYPES[kind]


def _codes(name: str, column: pa.DictionaryArray, words: tuple[str, ...]) -> pa.Array:
    """Places in `words` of a column of words; raises ArrowInvalid where one is not among them."""
    found = column.dictionary.to_pylist() if len(column) else []
    if not set(found) <= set(words):
        raise pa.ArrowInvalid(f"{name} has a cell that is none of {words}")
    code = np.array([words.index(word) for word in found], np.uint8)
    return pa.array(code[column.indices.to_numpy()] if len(column) else code)


def _split_lines(block: bytes) -> list[bytes]:
    lines = block.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _all(flags: pa.ChunkedArray) -> bool:
    """Whether all values are true; so for none."""
    return pa.compute.all(flags, min_count=0).as_py()
