"""Text and Parquet tables behind one interface: named columns of a file as typed rows."""

import abc
import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from data_prep.events import CATEGORY, LONGEST_TEXT, MISSING, MISSING_NAME, TIME
from data_prep.readers.base import Piece, file_pieces
from data_prep.readers.rows import (
    AMOUNT,
    ARROW_TYPES,
    INTEGER,
    LABEL,
    WORD,
    Delimited,
    Rows,
    check_layout,
    convert_cell,
    first_lines,
    header_cells,
    parse_rows,
    read_rows,
)

_SEPARATORS = (",", "\t", ";", "|")
_SAMPLE_LINES = 1_000
_BATCH_ROWS = 1 << 17
_LARGEST = pa.scalar(np.iinfo(np.int64).max, pa.uint64())
_HOW_TO_NAME = "name the columns by user_column, item_column, time_column, ..."


@dataclasses.dataclass(frozen=True)
class TableFile(abc.ABC):
    """One table.

    Attributes:
      path: the file.
      names: canonical column -> its name in the file.
      kinds: canonical column -> `INTEGER`, `DECIMAL`, `AMOUNT`, `WORD` or `LABEL`; empty until
        `with_kinds`.
    """

    path: str
    names: Mapping[str, str]
    kinds: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def with_kinds(self, kinds: Mapping[str, str]) -> "TableFile":
        """The same file with its columns' kinds decided."""
        return dataclasses.replace(self, kinds={name: kinds[name] for name in self.names})

    @abc.abstractmethod
    def looks_integer(self, name: str) -> bool:
        """Whether a column's first values are all integers."""

    def check_rows(self) -> None:  # noqa: B027  (only text can turn out not to be what it should)
        """Raises ValueError where not one of the first rows is of the columns' kinds."""

    @abc.abstractmethod
    def pieces(self) -> list[Piece]:
        """The parts of the file that can be read by themselves."""

    @abc.abstractmethod
    def read(self, piece: Piece) -> Iterator[Rows]:
        """Yields the rows of a piece, columns by canonical name."""


@dataclasses.dataclass(frozen=True)
class TextTable(TableFile):
    """Lines of cells under a line of names; `separator` is one character."""

    separator: str = ","

    def looks_integer(self, name: str) -> bool:
        rows = self._sample
        return len(rows) > 0 and bool(rows[name].str.fullmatch(r"-?[0-9]{1,19}").all())

    @functools.cached_property
    def _sample(self):
        lines = first_lines(self.path, _SAMPLE_LINES + 1)[1:]
        words = self._parser(dict.fromkeys(self.names, WORD))
        return parse_rows(b"".join(line + b"\n" for line in lines), words).table

    def check_rows(self) -> None:
        kinds = ", ".join(f"{self.names[name]} ({kind})" for name, kind in self.kinds.items())
        check_layout(self.path, self._parser(self.kinds), f"rows with {kinds}", header=True)

    def pieces(self) -> list[Piece]:
        return file_pieces(self.path)

    def read(self, piece: Piece) -> Iterator[Rows]:
        return read_rows(piece, self._parser(self.kinds), header=True)

    def _parser(self, kinds: Mapping[str, str]) -> Delimited:
        canonical = {name: canonical for canonical, name in self.names.items()}
        cells = [cell.strip() for cell in header_cells(self.path, self.separator)]
        columns = tuple(canonical.get(cell, f"column {n}") for n, cell in enumerate(cells))
        return Delimited(columns, kinds, self.separator, quoted=self.separator != "\t")


@dataclasses.dataclass(frozen=True)
class ParquetTable(TableFile):
    """A Parquet file; a piece is a row group, `start` and `stop` count row groups."""

    def looks_integer(self, name: str) -> bool:
        return pa.types.is_integer(self._schema.field(self.names[name]).type)

    @functools.cached_property
    def _schema(self) -> pa.Schema:
        with _parquet(self.path) as file:
            return file.schema_arrow

    def pieces(self) -> list[Piece]:
        with _parquet(self.path) as file:
            return [Piece(self.path, group, group + 1) for group in range(file.num_row_groups)]

    def read(self, piece: Piece) -> Iterator[Rows]:
        with _parquet(self.path) as file:
            batches = file.iter_batches(
                _BATCH_ROWS, range(piece.start, piece.stop), list(self.names.values())
            )
            try:
                for batch in batches:
                    yield self._rows(batch)
            except (pa.ArrowException, OSError) as error:
                raise ValueError(f"{self.path} is damaged ({error}); write it again.") from error

    def _rows(self, batch: pa.RecordBatch) -> Rows:
        """A batch with its columns checked one by one; the first fault of a row is its reason."""
        columns, reasons = {}, np.full(len(batch), "", dtype=object)
        for name, kind in self.kinds.items():
            values, wrong, fault = _typed(name, batch.column(self.names[name]), kind)
            columns[name] = values
            reasons[wrong & (reasons == "")] = fault

        def text_at(row: int) -> str:
            return ",".join(str(column[row]) for column in batch.columns)[:LONGEST_TEXT]

        good = reasons == ""
        bad = tuple((row, reasons[row], text_at(row)) for row in np.flatnonzero(~good).tolist())
        table = pa.table(columns).filter(pa.array(good)).to_pandas()
        return Rows(table.set_axis(np.flatnonzero(good)), len(batch), bad, text_at)


def open_table(
    path: str, names: Mapping[str, str], separator: str, amounts: Collection[str] = ()
) -> TableFile:
    """Finds out how a table is written and checks that it has the columns.

    Args:
      path: ends in `.parquet`, or is text, plain or compressed.
      names: canonical column -> its name in the file.
      separator: of a text table; `tab` stands for the tab, empty for the one that fits.
      amounts: canonical columns that hold amounts, and neither ids nor times.

    Raises:
      ValueError: a column is missing or there twice, or of a type that cannot be what it should.
    """
    if path.endswith(".parquet"):
        table = ParquetTable(path, names)
        _check_names(path, names, table._schema.names)
        for name in names:
            _check_type(table, name, name in amounts)
        return table
    separators = {"": _SEPARATORS, "tab": ("\t",)}.get(separator, (separator,))
    if any(len(text) != 1 for text in separators):
        raise ValueError(f"expected the separator to be one character or tab; got {separator!r}.")
    headers = [[cell.strip() for cell in header_cells(path, text)] for text in separators]
    for text, cells in zip(separators, headers, strict=True):
        if set(names.values()) <= set(cells):
            _check_names(path, names, cells)
            return TextTable(path, names, separator=text)
    _check_names(path, names, max(headers, key=len))
    raise ValueError(f"{path}: expected one separator between all columns; {_HOW_TO_NAME}.")


def _check_names(path: str, names: Mapping[str, str], found: list[str]) -> None:
    """Raises ValueError unless each name stands for one column, and each column occurs once."""
    wanted = list(names.values())
    if len(set(wanted)) != len(wanted):
        raise ValueError(f"expected a column for each of {', '.join(names)}; got {wanted}.")
    wrong = [name for name in wanted if found.count(name) != 1]
    if wrong:
        raise ValueError(
            f"{path}: expected the columns {', '.join(wanted)}, each once; got {', '.join(found)!r} "
            f"with {', '.join(wrong)} missing or repeated; {_HOW_TO_NAME}."
        )


def _check_type(table: ParquetTable, name: str, is_amount: bool) -> None:
    """Raises ValueError where a Parquet column can be no id, time or amount."""
    kind = _value_type(table._schema.field(table.names[name]).type)
    number = pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    time = pa.types.is_floating(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    if is_amount and (number or pa.types.is_floating(kind)):
        return
    if is_amount or (not number and not (name == TIME and time)):
        expected = "a number, timestamp, date or text" if name == TIME else "integers or text"
        expected = "numbers or text" if is_amount else expected
        raise ValueError(
            f"{table.path}: expected column {table.names[name]!r} to hold {expected}; got {kind}."
        )


def _typed(name: str, column: pa.Array, kind: str) -> tuple[pa.Array, np.ndarray, str]:
    """A Parquet column as its kind, the rows where it is not, and what is wrong there."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if name == CATEGORY:  # an event without a category is an event
        missing = np.zeros(len(column), bool)
        column = column.fill_null(MISSING if pa.types.is_integer(column.type) else MISSING_NAME)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        seconds = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False)
        return seconds, missing, f"no {name}"
    if kind == AMOUNT:
        return _amounts(name, column)
    if kind == LABEL:
        words = column.cast(pa.string()).fill_null(MISSING_NAME)
        return words, np.zeros(len(column), bool), ""
    if kind == WORD:
        return column.cast(pa.string()).fill_null(MISSING_NAME), missing, f"no {name}"
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        too_large = np.zeros(len(column), bool)
        if column.type == pa.uint64():
            too_large = pa.compute.greater(column, _LARGEST).fill_null(False).to_numpy(False)
            column = pa.compute.if_else(too_large, pa.scalar(0, pa.uint64()), column)
        numbers = column.fill_null(0).cast(pa.int64() if kind == INTEGER else pa.float64())
        return numbers, missing | too_large, f"no {name}, or beyond int64"
    cells = [_number(name, cell, kind) for cell in column.to_pylist()]
    wrong = np.array([cell is None for cell in cells], bool)
    numbers = pa.array([cell or 0 for cell in cells], ARROW_TYPES[kind])
    return numbers, wrong, f"{name} is no {kind}"


def _amounts(name: str, column: pa.Array) -> tuple[pa.Array, np.ndarray, str]:
    """As `_typed`: numbers that may be missing, NaN like null, in a column of numbers or text."""
    fault = f"{name} is no amount"
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return pa.array(numbers, from_pandas=True), (numbers < 0) | np.isinf(numbers), fault
    cells = [cell or "" for cell in column.to_pylist()]
    numbers = [_number(name, cell, AMOUNT) for cell in cells]
    wrong = [bool(cell) and number is None for cell, number in zip(cells, numbers, strict=True)]
    return pa.array(numbers, pa.float64()), np.array(wrong, bool), fault


def _number(name: str, cell: str | None, kind: str) -> object:
    """A cell of text as a number; None where it is none."""
    try:
        return None if cell is None else convert_cell(name, cell, kind)
    except ValueError:
        return None


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _parquet(path: str) -> pa.parquet.ParquetFile:
    """Opens a Parquet file; raises ValueError where it is none."""
    try:
        return pa.parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: expected a Parquet file; got {error}.") from error
