"""Text and Parquet tables behind one interface: named columns of a file as typed rows."""

import abc
import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from data_prep.events import CATEGORY, LONGEST_TEXT, MISSING, MISSING_NAME, TIME
from data_prep.readers.base import Piece, file_pieces
from data_prep.readers.cells import ARROW_TYPES, INTEGER, NUMERIC, SIDE_FEATURE, WORD, convert_cell
from data_prep.readers.parsers import Delimited
from data_prep.readers.rows import (
    Rows,
    check_layout,
    first_lines,
    header_cells,
    parse_rows,
    read_rows,
)
from dgin_tf.records import LABEL

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
      types: canonical column -> `INTEGER`, `DECIMAL`, `NUMERIC`, `WORD` or `SIDE_FEATURE`; empty
        until `with_types`.
    """

    path: str
    names: Mapping[str, str]
    types: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def with_types(self, types: Mapping[str, str]) -> "TableFile":
        """A copy with the types of its columns set."""
        return dataclasses.replace(self, types={name: types[name] for name in self.names})

    @abc.abstractmethod
    def looks_integer(self, name: str) -> bool:
        """True if a column's first values are all integers."""

    @abc.abstractmethod
    def first_values(self, name: str) -> pd.Series:
        """A column's first values, as text or as Parquet has them, without empty ones."""

    def check_rows(self) -> None:  # noqa: B027  (only text can turn out not to be what it should)
        """Raises ValueError where not one of the first rows is of the columns' types."""

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

    def first_values(self, name: str) -> pd.Series:
        rows = self._sample
        return rows.loc[rows[name] != "", name]

    @functools.cached_property
    def _sample(self) -> pd.DataFrame:
        lines = first_lines(self.path, _SAMPLE_LINES + 1)[1:]
        words = self._parser(dict.fromkeys(self.names, WORD))
        return parse_rows(b"".join(line + b"\n" for line in lines), words).table

    def check_rows(self) -> None:
        types = ", ".join(
            f"{self.names[name]} ({cell_type})" for name, cell_type in self.types.items()
        )
        check_layout(self.path, self._parser(self.types), f"rows with {types}", header=True)

    def pieces(self) -> list[Piece]:
        return file_pieces(self.path)

    def read(self, piece: Piece) -> Iterator[Rows]:
        return read_rows(piece, self._parser(self.types), header=True)

    def _parser(self, types: Mapping[str, str]) -> Delimited:
        canonical = {name: canonical for canonical, name in self.names.items()}
        cells = [cell.strip() for cell in header_cells(self.path, self.separator)]
        columns = tuple(canonical.get(cell, f"column {n}") for n, cell in enumerate(cells))
        return Delimited(columns, types, self.separator, quotes=self.separator != "\t")


@dataclasses.dataclass(frozen=True)
class ParquetTable(TableFile):
    """A Parquet file; a piece is a row group, `start` and `stop` count row groups."""

    def looks_integer(self, name: str) -> bool:
        return pa.types.is_integer(self._schema.field(self.names[name]).type)

    def first_values(self, name: str) -> pd.Series:
        with _parquet(self.path) as file:
            try:
                for batch in file.iter_batches(_SAMPLE_LINES, columns=[self.names[name]]):
                    return batch.column(0).to_pandas(date_as_object=False).dropna()
            except (pa.ArrowException, OSError) as error:
                raise _damaged(self.path, error) from error
        return pd.Series(dtype=object)

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
                raise _damaged(self.path, error) from error

    def _rows(self, batch: pa.RecordBatch) -> Rows:
        """A batch with its columns checked one by one; the first fault of a row is its reason."""
        columns, reasons = {}, np.full(len(batch), "", dtype=object)
        for name, cell_type in self.types.items():
            values, wrong, fault = _typed(name, batch.column(self.names[name]), cell_type)
            columns[name] = values
            # The first fault of a row is its reason.
            reasons[wrong & (reasons == "")] = fault

        def text_at(row: int) -> str:
            return ",".join(str(column[row]) for column in batch.columns)[:LONGEST_TEXT]

        good = reasons == ""
        bad = tuple((row, reasons[row], text_at(row)) for row in np.flatnonzero(~good).tolist())
        table = pa.table(columns).filter(pa.array(good)).to_pandas()
        return Rows(table.set_axis(np.flatnonzero(good)), len(batch), bad, text_at)


def open_table(
    path: str, names: Mapping[str, str], separator: str, numeric_features: Collection[str] = ()
) -> TableFile:
    """Finds out how a table is written and checks that it has the columns.

    Args:
      path: ends in `.parquet`, or is text, plain or compressed.
      names: canonical column -> its name in the file.
      separator: of a text table; `tab` stands for the tab, empty for the one that fits.
      numeric_features: canonical columns that hold numbers, and neither ids nor times.

    Raises:
      ValueError: a column is missing or there twice, or of a type that cannot be what it should.
    """
    if path.endswith(".parquet"):
        table = ParquetTable(path, names)
        _check_names(path, names, table._schema.names)
        for name in names:
            _check_type(table, name, name in numeric_features)
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


def _check_names(path: str, names: Mapping[str, str], header: list[str]) -> None:
    """Raises ValueError unless each name stands for one column, and each column occurs once."""
    columns = list(names.values())
    if len(set(columns)) != len(columns):
        raise ValueError(f"expected a column for each of {', '.join(names)}; got {columns}.")
    wrong = [name for name in columns if header.count(name) != 1]
    if wrong:
        raise ValueError(
            f"{path}: expected the columns {', '.join(columns)}, each once; got {', '.join(header)!r} "
            f"with {', '.join(wrong)} missing or repeated; {_HOW_TO_NAME}."
        )


def _check_type(table: ParquetTable, name: str, is_numeric: bool) -> None:
    """Raises ValueError where a Parquet column can be no id, time or numeric feature."""
    arrow_type = _value_type(table._schema.field(table.names[name]).type)
    number = (
        pa.types.is_integer(arrow_type)
        or pa.types.is_string(arrow_type)
        or pa.types.is_large_string(arrow_type)
    )
    time = (
        pa.types.is_floating(arrow_type)
        or pa.types.is_timestamp(arrow_type)
        or pa.types.is_date(arrow_type)
    )
    if is_numeric and (number or pa.types.is_floating(arrow_type)):
        return
    if name == LABEL and pa.types.is_boolean(arrow_type):
        return
    if is_numeric or (not number and not (name == TIME and time)):
        content = "a number, timestamp, date or text" if name == TIME else "integers or text"
        content = "numbers or text" if is_numeric else content
        raise ValueError(
            f"{table.path}: expected column {table.names[name]!r} to hold {content}; got {arrow_type}."
        )


def _typed(name: str, column: pa.Array, cell_type: str) -> tuple[pa.Array, np.ndarray, str]:
    """A Parquet column as its type, the rows that are not of the type, and the fault of these."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if name == CATEGORY:  # an event without a category is an event
        missing = np.zeros(len(column), bool)
        column = column.fill_null(MISSING if pa.types.is_integer(column.type) else MISSING_NAME)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        seconds = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False)
        return seconds, missing, f"no {name}"
    if cell_type == NUMERIC:
        return _numeric(name, column)
    if cell_type == SIDE_FEATURE:
        words = column.cast(pa.string()).fill_null(MISSING_NAME)
        return words, np.zeros(len(column), bool), ""
    if cell_type == WORD:
        return column.cast(pa.string()).fill_null(MISSING_NAME), missing, f"no {name}"
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        # Unsigned integers above int64 cannot be cast.
        too_large = np.zeros(len(column), bool)
        if column.type == pa.uint64():
            too_large = pa.compute.greater(column, _LARGEST).fill_null(False).to_numpy(False)
            column = pa.compute.if_else(too_large, pa.scalar(0, pa.uint64()), column)
        numbers = column.fill_null(0).cast(pa.int64() if cell_type == INTEGER else pa.float64())
        return numbers, missing | too_large, f"no {name}, or beyond int64"
    cells = [_number(name, cell, cell_type) for cell in column.to_pylist()]
    wrong = np.array([cell is None for cell in cells], bool)
    numbers = pa.array([cell or 0 for cell in cells], ARROW_TYPES[cell_type])
    return numbers, wrong, f"{name} is no {cell_type}"


def _numeric(name: str, column: pa.Array) -> tuple[pa.Array, np.ndarray, str]:
    """Numbers of a numeric feature, as `_typed` returns them; NaN and null are unknown ones."""
    fault = f"{name} is no {NUMERIC}"
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return pa.array(numbers, from_pandas=True), (numbers < 0) | np.isinf(numbers), fault
    cells = [cell or "" for cell in column.to_pylist()]
    numbers = [_number(name, cell, NUMERIC) for cell in cells]
    wrong = [bool(cell) and number is None for cell, number in zip(cells, numbers, strict=True)]
    return pa.array(numbers, pa.float64()), np.array(wrong, bool), fault


def _number(name: str, cell: str | None, cell_type: str) -> object:
    """A cell of text as a number; None where it is none."""
    try:
        return None if cell is None else convert_cell(name, cell, cell_type)
    except ValueError:
        return None


def _value_type(arrow_type: pa.DataType) -> pa.DataType:
    return arrow_type.value_type if pa.types.is_dictionary(arrow_type) else arrow_type


def _damaged(path: str, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged ({error}); write it again.")


def _parquet(path: str) -> pa.parquet.ParquetFile:
    """Opens a Parquet file; raises ValueError where it is none."""
    try:
        return pa.parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: expected a Parquet file; got {error}.") from error
