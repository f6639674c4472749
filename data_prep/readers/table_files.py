"""Text, JSON and Parquet tables behind one interface: named columns of a file as typed rows."""

import abc
import contextlib
import dataclasses
import functools
import json
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from data_prep.columns import LIST_SEPARATOR
from data_prep.events import CATEGORY, ITEM, LONGEST_TEXT, MISSING, MISSING_NAME, TIME, USER
from data_prep.readers.base import Piece, file_pieces
from data_prep.readers.cells import ARROW_TYPES, INTEGER, NUMERIC, SIDE_FEATURE, WORD, convert_cell
from data_prep.readers.parsers import Delimited, RowParser, load_json, read_json
from data_prep.readers.rows import (
    Rows,
    check_layout,
    first_lines,
    header_cells,
    parse_rows,
    read_rows,
    text_of,
)
from data_prep.readers.side_files import bare_name
from dgin_tf.records import LABEL

_SEPARATORS = (",", "\t", ";", "|", "::")
# Without a line of names a space may be one too: the number of cells decides.
_HEADERLESS_SEPARATORS = ("\t", "::", ",", ";", "|", " ")
_SEPARATOR_NAMES = {"tab": "\t", "\\t": "\t", "space": " "}
_JSON = (".json", ".jsonl", ".ndjson")
_PARQUET = (".parquet", ".pq")
IGNORED = "_"  # stands for a column of a headerless file that nothing reads
_SAMPLE_LINES = 1_000
_BATCH_ROWS = 1 << 17
_LARGEST = pa.scalar(np.iinfo(np.int64).max, pa.uint64())
_LARGEST_FLOAT_ID = 1 << 53  # float64 has all integers up to here
_HOW_TO_NAME = (
    "name the columns by user_column, item_column, time_column, ..., and those of a file without a line of "
    "names by columns"
)


@dataclasses.dataclass(frozen=True)
class TextForm:
    """The way a text table is written.

    Attributes:
      separator: between cells, of one or more characters; `tab` and `space` stand for theirs, empty for the
        one that fits.
      columns: names of all columns of a file that has no line of names, `_` for those that are not read.
      encoding: of the text.
    """

    separator: str = ""
    columns: tuple[str, ...] = ()
    encoding: str = "utf-8"

    def __post_init__(self):
        try:
            is_like_ascii = "\n,".encode(self.encoding) == b"\n,"
        except LookupError:
            is_like_ascii = False
        if not is_like_ascii:
            raise ValueError(
                f"expected an encoding that contains ASCII, such as utf-8 or latin-1; got {self.encoding!r}."
            )
        if any(character in self.separator for character in '\n\r"'):
            raise ValueError(
                f"expected a separator without line ends and quotation marks; got {self.separator!r}."
            )
        names = [name for name in self.columns if name != IGNORED]
        if len(set(names)) != len(names) or not all(names):
            raise ValueError(
                f"expected different names of columns, and {IGNORED} for those that are not read; got "
                f"{','.join(self.columns)}."
            )

    @property
    def separators(self) -> tuple[str, ...]:
        """Separators that the file may have."""
        if self.separator:
            return (_SEPARATOR_NAMES.get(self.separator, self.separator),)
        return _HEADERLESS_SEPARATORS if self.columns else _SEPARATORS


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
    """Lines of cells.

    Attributes:
      separator: between cells.
      form: names of the columns where the file has no line of them, and the encoding.
    """

    separator: str = ","
    form: TextForm = TextForm()

    def looks_integer(self, name: str) -> bool:
        rows = self._sample
        return len(rows) > 0 and bool(rows[name].str.fullmatch(r"-?[0-9]{1,19}").all())

    def first_values(self, name: str) -> pd.Series:
        rows = self._sample
        return rows.loc[rows[name] != "", name]

    @functools.cached_property
    def _sample(self) -> pd.DataFrame:
        lines = first_lines(self.path, _SAMPLE_LINES + 1)[int(self._has_header) :]
        words = self._parser(dict.fromkeys(self.names, WORD))
        return parse_rows(b"".join(line + b"\n" for line in lines), words).table

    def check_rows(self) -> None:
        types = ", ".join(
            f"{self.names[name]} ({cell_type})" for name, cell_type in self.types.items()
        )
        check_layout(self.path, self._parser(self.types), f"rows with {types}", self._has_header)

    def pieces(self) -> list[Piece]:
        return file_pieces(self.path)

    def read(self, piece: Piece) -> Iterator[Rows]:
        return read_rows(piece, self._parser(self.types), self._has_header)

    @property
    def _has_header(self) -> bool:
        return not self.form.columns

    def _parser(self, types: Mapping[str, str]) -> Delimited:
        canonical = {name: canonical for canonical, name in self.names.items()}
        cells = self.form.columns or _cells(self.path, self.separator, self.form)
        columns = tuple(canonical.get(cell, f"column {n}") for n, cell in enumerate(cells))
        quotes = len(self.separator) == 1 and self.separator not in "\t "
        return Delimited(columns, types, self.separator, quotes, self.form.encoding)


@dataclasses.dataclass(frozen=True)
class ParquetTable(TableFile):
    """A Parquet file; a piece is a row group, `start` and `stop` count row groups."""

    def looks_integer(self, name: str) -> bool:
        arrow_type = _value_type(self._schema.field(self.names[name]).type)
        if pa.types.is_floating(arrow_type):  # what pandas makes of integers with missing values
            numbers = self.first_values(name).to_numpy(np.float64)
            return bool((numbers == np.floor(numbers)).all())
        return pa.types.is_integer(arrow_type)

    def first_values(self, name: str) -> pd.Series:
        with open_parquet(self.path) as file:
            try:
                for batch in file.iter_batches(_SAMPLE_LINES, columns=[self.names[name]]):
                    return batch.column(0).to_pandas(date_as_object=False).dropna()
            except (pa.ArrowException, OSError) as error:
                raise _damaged(self.path, error) from error
        return pd.Series(dtype=object)

    @functools.cached_property
    def _schema(self) -> pa.Schema:
        with open_parquet(self.path) as file:
            return file.schema_arrow

    def pieces(self) -> list[Piece]:
        with open_parquet(self.path) as file:
            return [Piece(self.path, group, group + 1) for group in range(file.num_row_groups)]

    def read(self, piece: Piece) -> Iterator[Rows]:
        with open_parquet(self.path) as file:
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
            values, wrong, fault = typed(name, batch.column(self.names[name]), cell_type)
            columns[name] = values
            # The first fault of a row is its reason.
            reasons[wrong & (reasons == "")] = fault

        def text_at(row: int) -> str:
            return ",".join(str(column[row]) for column in batch.columns)[:LONGEST_TEXT]

        good = reasons == ""
        bad = tuple((row, reasons[row], text_at(row)) for row in np.flatnonzero(~good).tolist())
        table = pa.table(columns).filter(pa.array(good)).to_pandas()
        return Rows(table.set_axis(np.flatnonzero(good)), len(batch), bad, text_at)


@dataclasses.dataclass(frozen=True)
class JsonTable(TableFile):
    """Lines of JSON objects; columns are their keys."""

    def looks_integer(self, name: str) -> bool:
        kind = self._kinds[name]
        if kind == _MIXED and name in (USER, ITEM, TIME):
            examples = {_json_kind(value): value for value in self.first_values(name)[::-1]}
            raise ValueError(
                f"{self.path}: expected one type of values in {self.names[name]!r}; got "
                f"{' and '.join(map(repr, [*examples.values()][::-1]))}. Rewrite the column, or read ids of all types "
                "as text by --id_type=word."
            )
        return kind == _INTEGERS

    def first_values(self, name: str) -> pd.Series:
        values = [content.get(self.names[name]) for content in self._sample]
        return pd.Series([value for value in values if value not in (None, "")], dtype=object)

    @functools.cached_property
    def _sample(self) -> list[dict[str, object]]:
        """The first lines that are JSON objects."""
        sample = []
        for line in first_lines(self.path, _SAMPLE_LINES):
            with contextlib.suppress(ValueError):  # a bad row, which is counted when it is read
                sample.append(load_json(line))
        return sample

    @functools.cached_property
    def _kinds(self) -> dict[str, str]:
        """Kind of JSON value of each column, by the first lines."""
        return {name: self._kind(name) for name in self.names}

    def _kind(self, name: str) -> str:
        kinds = sorted({_json_kind(value) for value in self.first_values(name)})
        if kinds == [_INTEGERS, _NUMBERS]:
            return _NUMBERS
        if len(kinds) > 1:
            return _MIXED
        return kinds[0] if kinds else _TEXTS

    def check_rows(self) -> None:
        check_layout(
            self.path,
            self._parser,
            f"JSON lines with {', '.join(self.names.values())} ({_HOW_TO_NAME})",
        )

    def pieces(self) -> list[Piece]:
        return file_pieces(self.path)

    def read(self, piece: Piece) -> Iterator[Rows]:
        return read_rows(piece, self._parser)

    @property
    def _parser(self) -> "JsonRows":
        return JsonRows(self.names, self.types, self._kinds)


@dataclasses.dataclass(frozen=True)
class JsonRows(RowParser):
    """JSON objects, one a line, of which some keys are columns.

    Attributes:
      names: canonical column -> key.
      types: canonical column -> type of its cells.
      kinds: canonical column -> kind of JSON value that it has: other ones make bad rows.
    """

    names: Mapping[str, str]
    types: Mapping[str, str]
    kinds: Mapping[str, str]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, ARROW_TYPES[kind]) for name, kind in self.types.items()])

    def parse_many(self, block: bytes) -> pa.Table | None:
        if _MIXED in self.kinds.values():
            return None
        keys = {self.names[name]: _JSON_TYPES[self.kinds[name]] for name in self.types}
        table = read_json(block, pa.schema(keys.items()))
        if table is None:
            return None
        columns = []
        for name, cell_type in self.types.items():
            column = table.column(self.names[name]).combine_chunks()
            values, wrong, _ = typed(name, column, cell_type)
            if wrong.any():
                return None
            columns.append(values.cast(ARROW_TYPES[cell_type]))
        return pa.table(columns, schema=self.schema)

    def parse_one(self, line: bytes) -> dict[str, object]:
        content = load_json(line)
        row = {}
        for name, cell_type in self.types.items():
            value = content.get(self.names[name])
            kind = self.kinds[name]
            if kind == _MIXED and value is not None:
                kind, value = _TEXTS, value if isinstance(value, str) else json.dumps(value)
            is_number = kind == _NUMBERS and _json_kind(value) == _INTEGERS
            if value is not None and _json_kind(value) != kind and not is_number:
                raise ValueError(f"{name} {str(value)[:LONGEST_TEXT]!r} is no {kind}")
            try:
                column = pa.array([value], _JSON_TYPES[kind])
            except (pa.ArrowException, OverflowError, UnicodeError):
                raise ValueError(
                    f"{name} {str(value)[:LONGEST_TEXT]!r} is beyond int64 or no UTF-8"
                ) from None
            cells, wrong, fault = typed(name, column, cell_type)
            if wrong[0]:
                raise ValueError(fault)
            row[name] = cells[0].as_py()
        return row


# Kinds of JSON values, and their types in Arrow.
_INTEGERS, _NUMBERS, _TEXTS, _FLAGS = "integer", "number", "text", "true or false"
_LISTS, _MIXED = "list of texts", "mixed"
_JSON_TYPES = {
    _INTEGERS: pa.int64(),
    _NUMBERS: pa.float64(),
    _TEXTS: pa.string(),
    _FLAGS: pa.bool_(),
    _LISTS: pa.list_(pa.string()),
}


def _json_kind(value: object) -> str:
    if isinstance(value, bool):
        return _FLAGS
    if isinstance(value, list) and all(isinstance(element, str) for element in value):
        return _LISTS
    kinds = {int: _INTEGERS, float: _NUMBERS, str: _TEXTS}
    return kinds.get(type(value), _MIXED)


def open_table(
    path: str,
    names: Mapping[str, str],
    form: TextForm = TextForm(),
    numeric_features: Collection[str] = (),
    any_cells: Collection[str] = (),
) -> TableFile:
    """Finds out how a table is written and checks that it has the columns.

    Args:
      path: ends in `.parquet`, `.jsonl` or `.json`, or is text; the last three may be compressed.
      names: canonical column -> its name in the file.
      form: of a text table.
      numeric_features: canonical columns that hold numbers, and neither ids nor times.
      any_cells: canonical columns that are read as text, whatever they hold; lists too.

    Raises:
      ValueError: a column is missing or there twice, or of a type that cannot be what it should.
    """
    if path.endswith(_PARQUET):
        table = ParquetTable(path, names)
        _check_names(path, names, table._schema.names)
        for name in set(names) - set(any_cells):
            _check_type(table, name, name in numeric_features)
        return table
    if bare_name(path).endswith(_JSON):
        return JsonTable(path, names)
    if form.columns:
        _check_names(path, names, list(form.columns))
        headerless = TextTable(path, names, {}, _headerless_separator(path, form), form)
        _check_first_line(headerless)
        return headerless
    headers = [_cells(path, text, form) for text in form.separators]
    for text, cells in zip(form.separators, headers, strict=True):
        if set(names.values()) <= set(cells):
            _check_names(path, names, cells)
            return TextTable(path, names, separator=text, form=form)
    _check_names(path, names, max(headers, key=len))
    raise ValueError(f"{path}: expected one separator between all columns; {_HOW_TO_NAME}.")


def _cells(path: str, separator: str, form: TextForm) -> list[str]:
    """Cells of the first line, without blanks around them."""
    return [cell.strip() for cell in header_cells(path, separator, form.encoding)]


def _check_first_line(table: TextTable) -> None:
    """Raises ValueError where the first line of a file without names has a word for its time, and the second none.

    As a row it would make every id a word.
    """
    if TIME not in table.names:
        return
    times = table.form.columns.index(table.names[TIME])
    cells = [
        line.decode(table.form.encoding, "replace").split(table.separator)
        for line in first_lines(table.path, 2)
    ]
    has_digits = [any(map(str.isdigit, line[times])) for line in cells if len(line) > times]
    if has_digits == [False, True]:
        raise ValueError(
            f"{table.path}: expected no line of names where the columns are named; got "
            f"{table.separator.join(cells[0])[:LONGEST_TEXT]!r}. Leave columns out, and name the columns by "
            "user_column, item_column, time_column, ..."
        )


def _headerless_separator(path: str, form: TextForm) -> str:
    """The separator under which the first line of a file without names has as many cells as names.

    Raises:
      ValueError: there is none, or the first line is one of names.
    """
    for separator in form.separators:
        cells = _cells(path, separator, form)
        if named := sorted(set(cells) & set(form.columns) - {IGNORED}):
            raise ValueError(
                f"{path}: expected no line of names where the columns are named; got one with "
                f"{', '.join(named)}. Leave columns out."
            )
        if len(cells) == len(form.columns) or not cells:
            return separator
    line = text_of(first_lines(path, 1)[0])
    raise ValueError(
        f"{path}: expected {len(form.columns)} columns, {','.join(form.columns)}; got the first line {line!r}. "
        f"Name every column, {IGNORED} for those that are not read, and the separator where it is none of "
        "comma, tab, semicolon, bar, space and ::."
    )


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
    if name == CATEGORY and pa.types.is_list(arrow_type):
        return
    # Integers with missing values are floats in files of pandas.
    is_float_id = pa.types.is_floating(arrow_type) and table.looks_integer(name)
    if is_numeric or not (number or is_float_id or (name == TIME and time)):
        content = "a number, timestamp, date or text" if name == TIME else "integers or text"
        content = "numbers or text" if is_numeric else content
        raise ValueError(
            f"{table.path}: expected column {table.names[name]!r} to hold {content}; got {arrow_type}."
        )


def typed(name: str, column: pa.Array, cell_type: str) -> tuple[pa.Array, np.ndarray, str]:
    """An Arrow column as its type, the rows that are not of the type, and the fault of these.

    Of a list of categories, the last one counts.
    """
    if pa.types.is_list(column.type) and cell_type != SIDE_FEATURE:
        column = _last_of_lists(column)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    fraction = np.zeros(len(column), bool)
    if pa.types.is_floating(column.type) and (cell_type in (INTEGER, WORD) or name == CATEGORY):
        column, fraction = _whole_numbers(column)
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if name == CATEGORY:  # an event without a category is an event
        missing = fraction
        column = column.fill_null(MISSING if pa.types.is_integer(column.type) else MISSING_NAME)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        seconds = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False)
        return seconds, missing, f"no {name}"
    if cell_type == NUMERIC:
        return _numeric(name, column)
    if cell_type == SIDE_FEATURE:
        return _words(column), np.zeros(len(column), bool), ""
    if cell_type == WORD:
        return column.cast(pa.string()).fill_null(MISSING_NAME), missing, f"no {name}"
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        # Unsigned integers above int64 cannot be cast.
        too_large = np.zeros(len(column), bool)
        if column.type == pa.uint64():
            too_large = pa.compute.greater(column, _LARGEST).fill_null(False).to_numpy(False)
            column = pa.compute.if_else(too_large, pa.scalar(0, pa.uint64()), column)
        numbers = column.fill_null(0).cast(pa.int64() if cell_type == INTEGER else pa.float64())
        return numbers, missing | too_large, f"no {name}, or no 64-bit integer"
    cells = [_number(name, cell, cell_type) for cell in column.to_pylist()]
    wrong = np.array([cell is None for cell in cells], bool)
    numbers = pa.array([cell or 0 for cell in cells], ARROW_TYPES[cell_type])
    return numbers, wrong, f"{name} is no {cell_type}"


def _words(column: pa.Array) -> pa.Array:
    """Cells as text, "" where they are null; the elements of a list side by side."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        cells = (cell or () for cell in column.to_pylist())
        lists = (LIST_SEPARATOR.join(str(e) for e in cell if e is not None) for cell in cells)
        # One element or none has no separator, and is one element nevertheless.
        return pa.array([text + LIST_SEPARATOR if text else MISSING_NAME for text in lists])
    if pa.types.is_floating(column.type):
        # Integers with nulls are floats in pandas: 3.0 is the id 3.
        whole = pa.compute.equal(column, pa.compute.floor(column))
        small = pa.compute.less(pa.compute.abs(column), float(1 << 53))
        as_integer = pa.compute.and_kleene(whole, small).fill_null(False)
        integers = pa.compute.if_else(as_integer, column, 0.0).cast(pa.int64()).cast(pa.string())
        column = pa.compute.if_else(as_integer, integers, column.cast(pa.string()))
    return column.cast(pa.string()).fill_null(MISSING_NAME)


def _whole_numbers(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Floats as integers, null where they are missing or none, and True for those that are none."""
    numbers = column.to_numpy(zero_copy_only=False).astype(np.float64)
    missing = np.isnan(numbers)
    with np.errstate(invalid="ignore"):
        whole = (numbers == np.floor(numbers)) & (np.abs(numbers) <= _LARGEST_FLOAT_ID)
    integers = np.where(whole, numbers, 0).astype(np.int64)
    return pa.array(integers, mask=~whole), ~(whole | missing)


def _last_of_lists(column: pa.Array) -> pa.Array:
    """The last element of each list, null where it has none."""
    lengths = pa.compute.fill_null(pa.compute.list_value_length(column), 0).to_numpy()
    last = pa.array(column.offsets.to_numpy()[1:] - 1, mask=lengths == 0)
    return column.values.take(last)


def _numeric(name: str, column: pa.Array) -> tuple[pa.Array, np.ndarray, str]:
    """Numbers of a numeric feature, as `typed` returns them; NaN and null are unknown ones."""
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


def open_parquet(path: str) -> pa.parquet.ParquetFile:
    """Opens a Parquet file; raises ValueError where it is none."""
    try:
        return pa.parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: expected a Parquet file; got {error}.") from error
