"""Parsers of lines: delimited cells or JSON objects, a block or a line at a time."""

import abc
import csv
import dataclasses
import functools
import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.json

from data_prep.readers.cells import (
    ARROW_TYPES,
    DECIMAL,
    INTEGER,
    NUMERIC,
    PATTERNS,
    SIDE_FEATURE,
    WORD,
    CellType,
    arrow_type,
    checked_value,
    convert_cell,
)

_FOREIGN_TO_INTEGERS = (b" ", b"\t", b"x", b"X", b"+", b'"')
_UNIT_SEPARATOR = "\x1f"  # stands for a separator of several characters; no text contains it


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
      types: column to read -> `INTEGER` (int64), `DECIMAL` (finite float64), `NUMERIC` (the same, not
        below zero; null for an empty cell), `WORD`, `SIDE_FEATURE` (a word, empty where unknown), or a
        tuple of all valid words (uint8, the place in the tuple).
      separator: text between two cells, of one or more characters.
      quotes: allows cells in double quotes, which do not run over the end of a line.
      encoding: of the text.
    """

    columns: tuple[str, ...]
    types: Mapping[str, CellType]
    separator: str = ","
    quotes: bool = False
    encoding: str = "utf-8"

    def __post_init__(self):
        if self.quotes and len(self.separator) != 1:
            raise ValueError(
                f"cells in quotes need a separator of one character; got {self.separator!r}."
            )

    @functools.cached_property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, arrow_type(cell_type)) for name, cell_type in self.types.items()])

    def parse_many(self, block: bytes) -> pa.Table | None:
        # Arrow ends a line at a lone carriage return, we do not.
        if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
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
            # Arrow takes separators of one byte only.
            separator, block = _UNIT_SEPARATOR, block.replace(separator.encode(), b"\x1f")
        try:
            table = pa.csv.read_csv(
                pa.py_buffer(block),
                read_options=pa.csv.ReadOptions(
                    use_threads=False, block_size=len(block) + 1, column_names=self.columns
                ),
                parse_options=pa.csv.ParseOptions(
                    delimiter=separator, quote_char='"' if self.quotes else False
                ),
                convert_options=pa.csv.ConvertOptions(
                    column_types=self._read_types(block),
                    include_columns=list(self.types),
                    null_values=[],
                    strings_can_be_null=False,
                ),
            )
            return pa.table([self._typed(table, name) for name in self.types], schema=self.schema)
        except pa.ArrowInvalid:
            return None

    def _read_types(self, block: bytes) -> dict[str, pa.DataType]:
        """Arrow type by which each column is read: integers only where Arrow takes no others than ours.

        Arrow also takes " 5", "0x5" and numbers in quotes, which mean that something is wrong.
        """
        # Plain digits throughout: Arrow's own integer parser is exact and fastest.
        strict = not any(character in block for character in _FOREIGN_TO_INTEGERS)
        types = dict.fromkeys(self.columns, pa.string())
        for name, cell_type in self.types.items():
            if cell_type == INTEGER and strict:
                types[name] = pa.int64()
            elif isinstance(cell_type, tuple):
                types[name] = pa.dictionary(pa.int32(), pa.string())
        return types

    def _typed(self, table: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
        """A column as its type; raises ArrowInvalid where a cell is not of it."""
        column, cell_type = table.column(name), self.types[name]
        if isinstance(cell_type, tuple):
            return _word_codes(name, column.combine_chunks(), cell_type)
        if cell_type in (WORD, SIDE_FEATURE) or pa.types.is_integer(column.type):
            return column
        if not _all(pa.compute.match_substring_regex(column, PATTERNS[cell_type].pattern)):
            raise pa.ArrowInvalid(f"{name} has a cell that is no {cell_type}")
        if cell_type == NUMERIC:
            column = pa.compute.if_else(pa.compute.equal(column, ""), None, column)
        numbers = column.cast(ARROW_TYPES[cell_type])
        if cell_type in (DECIMAL, NUMERIC) and not _all(pa.compute.is_finite(numbers)):
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
        return {
            name: convert_cell(name, row[name], cell_type) for name, cell_type in self.types.items()
        }

    def _cells(self, text: str) -> list[str]:
        if not text:
            raise ValueError("empty line")
        if not self.quotes:
            return text.split(self.separator)
        try:
            return next(csv.reader([text], delimiter=self.separator, strict=True))
        except csv.Error as error:
            raise ValueError(f"unreadable quotation marks ({error})") from None


@dataclasses.dataclass(frozen=True)
class JsonLines(RowParser):
    """Lines that are JSON objects.

    Attributes:
      types: key to read -> `INTEGER`, `DECIMAL` or `WORD`; each must be there, words not empty.
    """

    types: Mapping[str, str]

    @functools.cached_property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, ARROW_TYPES[cell_type]) for name, cell_type in self.types.items()])

    def parse_many(self, block: bytes) -> pa.Table | None:
        table = read_json(block, self.schema)
        if table is None:
            return None
        for name, cell_type in self.types.items():
            column = table.column(name)
            if column.null_count:
                return None
            if cell_type == WORD and not _all(
                pa.compute.match_substring_regex(column, r"^[^\n\r]+$")
            ):
                return None
            if cell_type == DECIMAL and not _all(pa.compute.is_finite(column)):
                return None
        return table

    def parse_one(self, line: bytes) -> dict[str, object]:
        content = load_json(line)
        return {
            name: checked_value(name, content.get(name), cell_type)
            for name, cell_type in self.types.items()
        }


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


def _word_codes(name: str, column: pa.DictionaryArray, words: tuple[str, ...]) -> pa.Array:
    """Places in `words` of a column of words; raises ArrowInvalid where one is not among them."""
    dictionary = column.dictionary.to_pylist() if len(column) else []
    if not set(dictionary) <= set(words):
        raise pa.ArrowInvalid(f"{name} has a cell that is none of {words}")
    # Each distinct word is looked up once: [dictionary] -> [cells].
    code = np.array([words.index(word) for word in dictionary], np.uint8)
    return pa.array(code[column.indices.to_numpy()] if len(column) else code)


def _all(flags: pa.ChunkedArray) -> bool:
    """True if all values are true, or if there are none."""
    return pa.compute.all(flags, min_count=0).as_py()
