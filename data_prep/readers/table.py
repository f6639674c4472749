"""Custom logs: a table of text, JSON lines or Parquet, its columns named by options.

Text tables have a first line of column names, unless an option names all columns, and may be compressed, as
JSON lines may. The separator is the one of comma, tab, semicolon, bar and `::` under which the named columns
are all there. A feature specification (`.yaml`) stands for the files that it lists. Ids are integers or words;
which, is told by the first thousand values of each column, so that a later word among integers is a
bad row (`id_type` decides instead). Where the log has no category column, an item table may tell it.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from absl import logging

from data_prep.columns import Column, DeclaredColumns
from data_prep.events import (
    BEHAVIOR,
    CATEGORY,
    COLUMNS,
    IMPRESSION_COLUMNS,
    ITEM,
    MICROSECOND,
    MISSING,
    MISSING_NAME,
    SPLIT,
    TIME,
    USER,
    Chunk,
    bad_rows,
    id_keys,
    make_chunk,
)
from data_prep.readers import times
from data_prep.readers.base import Piece, Reader
from data_prep.readers.cells import DECIMAL, INTEGER, NUMERIC, SIDE_FEATURE, UNWRITABLE, WORD
from data_prep.readers.declared_columns import (
    cell_types,
    declared_columns,
    encode_log_columns,
    names_in_file,
    valid_attributes,
)
from data_prep.readers.feature_specification import is_specification, tables_of
from data_prep.readers.impressions import ImpressionColumns
from data_prep.readers.rows import Rows
from data_prep.readers.side_files import in_folders, number_option, text_option
from data_prep.readers.side_table import CategoryTable
from data_prep.readers.table_files import TableFile, TextForm, open_table
from dgin_tf.numeric_features import LARGEST, encode_numbers, is_encodable
from dgin_tf.records import LABEL
from dgin_tf.schema import NEGATIVE_RATE, REQUEST, SAMPLE_WEIGHT

ID_TYPES = ("auto", INTEGER, WORD)
FILE_ORDER, ITEM_ORDER = "file", "item"

_RATING = "rating"
# Side and numeric features are features `hist_<name>` beside those that batches have of their own.
_NAME = re.compile("(?!(group|negative|total)_)[a-z][a-z0-9_]*")
_RESERVED_NAMES = (
    *COLUMNS,
    *IMPRESSION_COLUMNS,
    MICROSECOND,
    "users",
    "offsets",
    "histogram",
    "mask",
)


@dataclasses.dataclass(frozen=True)
class _Columns:
    """Name in the file of each canonical column; the category and the behavior may have none."""

    user: str
    item: str
    time: str
    category: str
    behavior: str

    def by_canonical_name(self) -> dict[str, str]:
        """Canonical name -> name in the file, of the columns that the file has."""
        names = {
            USER: self.user,
            ITEM: self.item,
            TIME: self.time,
            CATEGORY: self.category,
            BEHAVIOR: self.behavior,
        }
        return {canonical: name for canonical, name in names.items() if name}


class TableReader(Reader):
    """Reads a table with one event a row.

    Options:
      user_column, item_column, time_column: default `user_id`, `item_id`, `timestamp`, and `user`, `item`,
        `time` where `columns` has these.
      columns, item_columns: names of all columns of files of the log, and of the item table, that have no line of
        names; `_` for columns that are not read.
      encoding: of text, default `utf-8`.
      rating_column, min_rating: rows with lower ratings are no events.
      category_column: of the log, or of the item table where that is given; default none.
      behavior_column, behavior_names: the column of the behavior type, and all its values; rows
        with other values are bad; default none.
      item_table: a table item -> category with the columns `item_column` and `category_column`.
      columns_file: a file that declares further columns, see `data_prep.columns`.
      separator: some characters, `tab`, `space`, or empty for the one that fits.
      time_unit: one of `times.TIME_UNITS`: `s`, `ms`, `us`, `ns` (numbers, stored as seconds rounded down),
        `iso` (ISO 8601; UTC where it names no zone), `yyyymmdd`, `yyyymmddhh`, `yymmddhh` (UTC), `index` for a
        clock that only counts, or `auto`, which tells each file's unit by its first values. All of them but
        `index` are refused where the middle of the first times is before 1990 or after tomorrow; without
        the option times are seconds and not checked. Parquet's own timestamps and dates need none.
      ties: order of a user's events of one time: `file` (as recorded, the default) or `item` (by item, category
        and behavior type, whatever the order of the file).
      id_type: `auto`, `integer` or `word`, for all ids.
      side_feature_columns: words that events have beside the behavior type, `name=column` each (`name`
        alone where the column is called so), such as `location=city`; an empty cell is an unknown word.
      numeric_columns: non-negative numbers that events have, written like `side_feature_columns`, such as
        `dwell=seconds_on_page`; an empty cell is an unknown number.
      label_column: makes rows impressions, of which it tells the clicked ones: 0 or 1, or numbers of which
        those from `label_threshold` on are clicks; default none.
      request_column, split_column: of impressions: the request (page, session), and `train`,
        `validation` or `test`; default none.
      weight_column: of impressions: weights of the samples' losses, finite and not negative; default none.
      negative_rate, negative_rate_column: of impressions: the share of ignored ones that the log kept, above 0
        up to 1, for calibrated metrics; default none.
      behaviors: a table of past events with the columns of the log but those of impressions. Behavior types,
        side and numeric features are then columns of it alone.
    """

    where_to_get_it = "Expected your own log as .csv, .tsv, .jsonl (plain, .gz, .xz, .bz2) or .parquet, one event a row."

    def __init__(self, paths: Sequence[str], options: Mapping[str, object]):
        specification: tuple[str, ...] = ()
        columns: tuple[str, ...] = ()
        if is_specification(paths) and os.path.isfile(paths[0]):
            specification = (paths[0],)
            paths, columns = tables_of(paths[0])
        # Files by name, pattern or folder.
        super().__init__(in_folders(paths), options)
        self._specification = specification
        encoding = text_option(options, "encoding", "utf-8")
        separator = text_option(options, "separator")
        columns = tuple(_texts(options, "columns")) or columns
        self._form = TextForm(separator, columns, encoding)
        self._item_form = TextForm(separator, tuple(_texts(options, "item_columns")), encoding)
        self._columns = _Columns(
            self._mandatory(USER, "user"),
            self._mandatory(ITEM, "item"),
            self._mandatory(TIME, "time"),
            text_option(options, "category_column"),
            text_option(options, "behavior_column"),
        )
        self.declared = declared_columns(options)
        self._item_table, self._user_table = self.declared.item_table, self.declared.user_table
        self._rating = text_option(options, "rating_column")
        self._min_rating = number_option(options, "min_rating")
        if bool(self._rating) != (self._min_rating is not None):
            raise ValueError(
                "expected rating_column and min_rating, the lowest rating of an event, together or not at all; "
                f"got column {self._rating!r} and {self._min_rating}."
            )
        unit = text_option(options, "time_unit")
        self._time_unit = unit and _one_of(options, "time_unit", times.TIME_UNITS)
        self.keeps_order = _one_of(options, "ties", (FILE_ORDER, ITEM_ORDER)) == FILE_ORDER
        self._id_type = _one_of(options, "id_type", ID_TYPES)
        self.has_categories = bool(self._columns.category)
        self.behavior_types = _behavior_names(options, self._columns.behavior)
        self._more_columns = _more_columns(options)
        self.side_features, self.numeric_features = (tuple(names) for names in self._more_columns)
        self._impressions = ImpressionColumns.of_options(options)
        self.impression_columns = self._impressions.columns
        behaviors = text_option(options, "behaviors")
        self.has_behavior_log = bool(behaviors)
        self._behavior_paths = tuple(in_folders([behaviors])) if behaviors else ()
        if both := set(self.paths) & set(self._behavior_paths):
            raise ValueError(f"expected --behaviors to be no --input file too; got {min(both)!r}.")
        super().__init__([*self.paths, *self._behavior_paths], options)
        if self._item_table and not (self.has_categories or self.declared.of_items):
            raise ValueError("an item_table needs the option category_column; it is empty.")
        _check_more(self._more_columns, self.declared)
        log = self.paths
        super().__init__([*log, *self._side_tables], options)  # checks that they are there
        self.paths = log

    @property
    def _side_tables(self) -> tuple[str, ...]:
        return tuple(path for path in (self._item_table, self._user_table) if path)

    def _mandatory(self, name: str, short: str) -> str:
        """Name in the file of a column that each log has; it may be the short one in a list of all columns."""
        has_short = short in self._form.columns and name not in self._form.columns
        option = f"{short}_column"
        return text_option(self.options, option, short if has_short else name)

    def files(self) -> tuple[str, ...]:
        declared = (self.declared.path,) if self.declared.path else ()
        return (*self._specification, *self.paths, *self._side_tables, *declared)

    def pieces(self) -> list[Piece]:
        files = [self._log(path) for path in self.paths]
        if self._item_table:
            files.append(self._items)
        if self._user_table:
            files.append(self._users)
        for file in files:
            file.check_rows()
        if self._time_unit == times.AUTO:
            units = ", ".join(f"{os.path.basename(p)} in {u}" for p, u in self._units.items())
            logging.info("times of %s", units)
        return [piece for file in files for piece in file.pieces()]

    def read(self, piece: Piece) -> Iterator[Chunk]:
        """Yields the events of a piece; pieces of other tables hold none, only their bad rows."""
        if piece.path in self._side_tables:
            nothing = pd.DataFrame({USER: [], ITEM: [], TIME: []}, dtype=np.int64)
            is_items = piece.path == self._item_table
            for rows in self._item_rows(piece) if is_items else self._user_rows(piece):
                yield self._chunk(nothing, rows)
            return
        mandatory = (USER, ITEM, REQUEST)
        words = (*self.side_features, REQUEST)
        for rows in _valid(self._log(piece.path).read(piece), mandatory, words):
            if self._min_rating is not None:
                rows = rows.keep(rows.table[_RATING].to_numpy() >= self._min_rating)
            rows, declared, names = encode_log_columns(rows, self.declared.of_log)
            rows = dataclasses.replace(rows, table=rows.table.assign(**declared))
            rows = self._with_seconds(rows, self._units[piece.path])
            rows = self._with_impressions(rows, piece.path)
            if self.has_behavior_log and piece.path not in self._behavior_paths:
                yield self._chunk(self._without_event(rows.table), rows, names)
                continue
            if self.behavior_types:
                code = pd.Index(self.behavior_types).get_indexer(pd.Index(rows.table[BEHAVIOR]))
                types = ", ".join(self.behavior_types)
                reason = f"unknown {self._columns.behavior}, expected one of {types}"
                rows = rows.reject(code < 0, reason)
                rows.table[BEHAVIOR] = code[code >= 0].astype(np.uint8)
            for name in self.numeric_features:
                numbers = rows.table[name].to_numpy(np.float64)
                wrong = ~(np.isnan(numbers) | is_encodable(numbers))
                rows = rows.reject(wrong, f"{self._more_columns[1][name]} is above {LARGEST:,}")
                rows.table[name] = encode_numbers(numbers[~wrong])
            yield self._chunk(rows.table, rows, names)

    def _with_impressions(self, rows: Rows, path: str) -> Rows:
        """The rows with what impressions have besides, encoded."""
        if not self.impression_columns:
            return rows
        if path in self._behavior_paths:
            return self._impressions.without_impressions(rows)
        rows = self._impressions.encode(rows, path)
        if REQUEST in self.impression_columns:
            keys = _keys(rows.table[REQUEST])
            rows = dataclasses.replace(rows, table=rows.table.assign(**{REQUEST: keys}))
        return rows

    def _without_event(self, table: pd.DataFrame) -> pd.DataFrame:
        """Impressions with unknown values of what only past events have."""
        unknown = encode_numbers(np.full(1, np.nan))[0]
        return table.assign(
            **dict.fromkeys(self.side_features, MISSING_NAME),
            **dict.fromkeys(self.numeric_features, unknown),
        )

    def _with_seconds(self, rows: Rows, unit: str) -> Rows:
        """The rows with their time in whole seconds; rows whose time is none are rejected."""
        seconds, microseconds, wrong = times.seconds_of(rows.table[TIME], unit)
        rows = rows.reject(wrong, f"{self._columns.time} is no time in {unit}")
        columns = {TIME: seconds[~wrong]}
        if self.has_microseconds:
            columns[MICROSECOND] = microseconds[~wrong]
        return dataclasses.replace(rows, table=rows.table.assign(**columns))

    @functools.cached_property
    def has_microseconds(self) -> bool:  # type: ignore[override]
        return any(
            times.has_microseconds(self._units[path], file.types.get(TIME) == INTEGER)
            for path, file in self._logs.items()
        )

    @functools.cached_property
    def _units(self) -> dict[str, str]:
        """Path -> unit of the times of a file of the log."""
        units = {}
        for path in self.paths:
            unit = self._time_unit
            if unit in ("", times.INDEX):
                units[path] = unit or times.SECONDS
                continue
            values = self._open_log(path).first_values(TIME)
            place = f"{path}: {self._columns.time}"
            if unit == times.AUTO:
                unit = times.infer_unit(values, place)
            times.check_unit(values, unit, place)
            units[path] = unit
        return units

    def _chunk(
        self, events: pd.DataFrame, rows: Rows, names: Mapping[str, pd.Series] | None = None
    ) -> Chunk:
        """The events, and the words behind the keys of declared columns."""
        more: tuple[tuple[str, ...], ...] = ()
        if len(events):
            declared = (column.name for column in self.declared.of_log)
            numbers = (*self.numeric_features, *self.impression_columns, *declared)
            more = (
                self.side_features,
                (*numbers, MICROSECOND) if self.has_microseconds else numbers,
            )
        chunk = make_chunk(events, rows.lines, bad_rows(rows.bad), *more)
        chunk = dataclasses.replace(chunk, names={**chunk.names, **(names or {})})
        if not (self._item_table and self.has_categories):
            return chunk
        table = self._categories
        return dataclasses.replace(
            chunk,
            columns={**chunk.columns, CATEGORY: table.find(chunk.columns[ITEM])},
            names=chunk.names if table.names is None else {**chunk.names, CATEGORY: table.names},
        )

    def _log(self, path: str) -> TableFile:
        return self._logs[path]

    @functools.cached_property
    def _logs(self) -> dict[str, TableFile]:
        """Path -> file of the log; all files agree on the types of their ids."""
        types: dict[str, str] = {}
        files = {}
        for path in self.paths:
            file = self._open_log(path)
            for name, cell_type in self._cell_types(file).items():
                # Files that disagree: the wider type holds for all.
                both = {types.get(name, cell_type), cell_type}
                common = DECIMAL if both == {INTEGER, DECIMAL} else WORD
                types[name] = cell_type if len(both) == 1 else common
            files[path] = file
        return {path: file.with_types(types) for path, file in files.items()}

    def _open_log(self, path: str) -> TableFile:
        numbers = (*self.numeric_features, LABEL, SAMPLE_WEIGHT, NEGATIVE_RATE, _RATING)
        words = tuple(column.name for column in self.declared.of_log)
        return open_table(path, self._names_in(path), self._form, numbers, words)

    def _names_in(self, path: str) -> dict[str, str]:
        """Canonical name -> name in a file of the log, of the columns that are read from it."""
        names = self._columns.by_canonical_name()
        if self._rating:
            names[_RATING] = self._rating
        if self._item_table:
            names.pop(CATEGORY, None)
        is_behavior_log = path in self._behavior_paths
        if self.has_behavior_log and not is_behavior_log:
            names.pop(BEHAVIOR, None)
        else:
            side_features, numeric_features = self._more_columns
            of_events = names_in_file(self.declared.of_events)
            names = {**names, **side_features, **numeric_features, **of_events}
        if is_behavior_log:
            return names
        of_rows = names_in_file((*self.declared.of_log_users, *self.declared.of_requests))
        return {**names, **self._impressions.by_canonical_name(), **of_rows}

    @functools.cached_property
    def _items(self) -> TableFile:
        """The item table; its items are of the same type as in the log."""
        names = {ITEM: self._columns.item, CATEGORY: self._columns.category}
        if not self.has_categories:
            del names[CATEGORY]
        return self._side_table(self._item_table, names, self.declared.of_items)

    @functools.cached_property
    def _users(self) -> TableFile:
        """The user table; its users are of the same type as in the log."""
        return self._side_table(
            self._user_table, {USER: self._columns.user}, self.declared.of_user_table
        )

    def _side_table(
        self, path: str, names: Mapping[str, str], columns: Sequence[Column]
    ) -> TableFile:
        names = {**names, **names_in_file(columns)}
        declared = [column.name for column in columns]
        file = open_table(path, names, self._item_form, (), declared)
        in_log = next(iter(self._logs.values())).types
        keys = {name: in_log[name] for name in (USER, ITEM) if name in names}
        return file.with_types({**self._cell_types(file), **keys})

    def _item_rows(self, piece: Piece) -> Iterator[Rows]:
        rows = _valid(self._items.read(piece), (ITEM,) if self.declared.of_items else ())
        return valid_attributes(rows, self.declared.of_items)

    def _user_rows(self, piece: Piece) -> Iterator[Rows]:
        rows = _valid(self._users.read(piece), (USER,))
        return valid_attributes(rows, self.declared.of_user_table)

    def item_attributes(self) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
        for piece in self._items.pieces() if self.declared.of_items else ():
            for rows in self._item_rows(piece):
                yield _keys(rows.table[ITEM]), rows.table

    def user_attributes(self) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
        for piece in self._users.pieces() if self._user_table else ():
            for rows in self._user_rows(piece):
                yield _keys(rows.table[USER]), rows.table

    @functools.cached_property
    def _categories(self) -> CategoryTable:
        return CategoryTable.build(
            (_keys(rows.table[ITEM]), rows.table[CATEGORY])
            for piece in self._items.pieces()
            for rows in _valid(self._items.read(piece), (ITEM,))
        )

    def _cell_types(self, file: TableFile) -> dict[str, str]:
        """Type of each column of a file, by the options or by its first values."""
        types, declared = {}, cell_types(self.declared.columns)
        for name in file.names:
            is_text = name == TIME and self._units.get(file.path) == times.ISO
            if name in declared:
                types[name] = declared[name]
            elif name in (BEHAVIOR, SPLIT) or is_text:
                types[name] = WORD
            elif name in (*self.numeric_features, SAMPLE_WEIGHT, NEGATIVE_RATE):
                types[name] = NUMERIC
            elif name == LABEL and file.looks_integer(name):
                types[name] = INTEGER  # which are read several times faster
            elif name in (LABEL, _RATING):
                types[name] = DECIMAL
            elif name in self.side_features:
                types[name] = SIDE_FEATURE
            elif name == TIME:
                types[name] = INTEGER if file.looks_integer(name) else DECIMAL
            elif self._id_type == "auto":
                types[name] = INTEGER if file.looks_integer(name) else WORD
            else:
                types[name] = self._id_type
        return types


def _valid(
    parts: Iterable[Rows], mandatory: Sequence[str], side_features: Sequence[str] = ()
) -> Iterator[Rows]:
    """Rejects rows whose ids are negative, empty where they must not be, or not fit for one line.

    An integer category of -1, or an empty one, is an unknown category.
    """
    for rows in parts:
        for name in (USER, ITEM, CATEGORY, *side_features):
            if name not in rows.table:
                continue
            if pd.api.types.is_integer_dtype(rows.table[name].dtype):
                lowest = MISSING if name == CATEGORY else 0
                rows = rows.reject(rows.table[name].to_numpy() < lowest, f"negative {name}")
                continue
            if name in mandatory:
                rows = rows.reject((rows.table[name] == MISSING_NAME).to_numpy(), f"empty {name}")
            broken = rows.table[name].str.contains(UNWRITABLE.pattern, regex=True)
            rows = rows.reject(broken.to_numpy(bool), f"{name} with a line break")
        yield rows


def _keys(values: pd.Series) -> np.ndarray:
    """Keys of integer ids or words, int64 [events]."""
    integer = pd.api.types.is_integer_dtype(values.dtype)
    return values.to_numpy(np.int64) if integer else id_keys(values)[0]


def _one_of(options: Mapping[str, object], name: str, values: Sequence[str]) -> str:
    """A text option with a fixed set of values, the first of which is the default."""
    value = text_option(options, name, values[0])
    if value not in values:
        raise ValueError(f"expected {name} to be one of {', '.join(values)}; got {value!r}.")
    return value


def _more_columns(options: Mapping[str, object]) -> tuple[dict[str, str], dict[str, str]]:
    """The options `side_feature_columns` and `numeric_columns`: name -> column in the file, of each."""
    pairs = [
        _name_column_pairs(options, name) for name in ("side_feature_columns", "numeric_columns")
    ]
    names = [name for option_pairs in pairs for name, _ in option_pairs]
    if LABEL in names:
        raise ValueError(
            f"a side or numeric feature of past events cannot be called {LABEL}, the name of the click; "
            "call it otherwise, or name it by --label_column with --protocol=impressions."
        )
    wrong = [name for name in names if not _NAME.fullmatch(name) or name in _RESERVED_NAMES]
    if wrong or len(set(names)) != len(names):
        raise ValueError(
            "expected side_feature_columns and numeric_columns as different names of small letters, digits "
            f"and underscores, none of {', '.join(_RESERVED_NAMES)} or beginning with group_, negative_ or "
            f"total_, with their columns: dwell=seconds_on_page; got {', '.join(names)}."
        )
    return dict(pairs[0]), dict(pairs[1])


def _check_more(pairs: Sequence[Mapping[str, str]], declared: DeclaredColumns) -> None:
    """Raises ValueError where a side or numeric feature is declared in the file of columns too."""
    names = {column.name for column in declared.columns}
    if both := sorted(names & {name for columns in pairs for name in columns}):
        raise ValueError(
            f"{declared.path} declares {', '.join(both)}, and so do side_feature_columns or numeric_columns; "
            "name each column once."
        )


def _name_column_pairs(options: Mapping[str, object], option: str) -> list[tuple[str, str]]:
    """(name, column) of `name=column` or `name` each; see `_texts`."""
    parts = (text.partition("=") for text in _texts(options, option))
    return [(name, column or name) for name, _, column in parts]


def _texts(options: Mapping[str, object], option: str) -> list[str]:
    """An option that is a list or a text with commas."""
    value = options.get(option) or ()
    return value.split(",") if isinstance(value, str) else [str(text) for text in value]  # type: ignore[attr-defined]


def _behavior_names(options: Mapping[str, object], column: str) -> tuple[str, ...]:
    """The option `behavior_names`, which goes with `behavior_column`."""
    names = tuple(_texts(options, "behavior_names"))
    if bool(names) != bool(column) or len(set(names)) != len(names):
        raise ValueError(
            "expected behavior_column and behavior_names, all its distinct values, together or not at "
            f"all; got column {column!r} with names {list(names)}."
        )
    return names
