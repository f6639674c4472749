"""Values of declared columns by item, user or key, and the tables in which workers look them up."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from data_prep.columns import Column
from data_prep.events import MISSING_NAME
from data_prep.stages.columns import (
    EarlierColumn,
    Encoding,
    Sample,
    encode_numbers,
    encode_words,
    number_values,
    parse_numbers,
)
from data_prep.stages.vocabulary import Lookup
from data_prep.storage import Columns, load_columns, save_columns
from data_prep.vocabularies import Vocabulary, Words
from dgin_tf.records import unknown_value
from dgin_tf.schema import PADDING_ID, Field

KEY_TABLE_FILE = "column.{}.columns"
ITEM_VALUES_FILE = "item_values.columns"

Parts = Iterable[tuple[np.ndarray, pd.DataFrame]]
EarlierColumns = Mapping[str, EarlierColumn]


@dataclasses.dataclass(frozen=True)
class EntityValues:
    """Declared columns of all items, or of all users, of the log.

    Attributes:
      encodings: of the columns.
      values: name -> ids or float32 numbers, [entities, ...].
      figures: how well the table of items or users fits the log, for the data card.
    """

    encodings: tuple[Encoding, ...] = ()
    values: Columns = dataclasses.field(default_factory=dict)
    figures: Mapping[str, object] = dataclasses.field(default_factory=dict)


class _Cells:
    """One column's cells by row of the entity: words by number, or numbers."""

    def __init__(self, column: Column, entities: int, earlier: EarlierColumn | None):
        self.column, self._earlier = column, earlier
        self.numbers = np.full(entities if column.is_number else 0, np.nan)
        self.codes = np.zeros(0 if column.is_number else entities, np.int64)
        self.words: dict[str, int] = {MISSING_NAME: 0}

    def encode(self, cells: pd.Series) -> np.ndarray:
        """Numbers of cells, or the numbers of words."""
        if self.column.is_number:
            return parse_numbers(cells)[0]
        codes, words = pd.factorize(cells)
        numbers = [self.words.setdefault(str(word), len(self.words)) for word in words]
        return np.array(numbers, np.int64)[codes]

    @property
    def rows(self) -> np.ndarray:
        return self.numbers if self.column.is_number else self.codes

    def encoding(self, weights: np.ndarray) -> tuple[Encoding, np.ndarray]:
        """The encoding, and the value of each entity, which counts `weights` training rows."""
        if self.column.is_number:
            encoding = encode_numbers(
                self.column, [Sample.draw(self.numbers, weights)], self._earlier
            )
            return encoding, number_values(encoding.field, self.numbers)
        counts = np.bincount(self.codes, weights, len(self.words)).astype(np.int64)
        encoding = encode_words(self.column, list(self.words), counts, self._earlier)
        return encoding, encoding.table[self.codes]


def entity_values(
    columns: Sequence[Column],
    parts: Parts,
    keys: np.ndarray,
    weights: np.ndarray,
    where: str,
    earlier: EarlierColumns,
) -> EntityValues:
    """Joins a table with one line an entity; the first line of an entity counts.

    Args:
      columns: of the table.
      parts: keys and cells of its lines.
      keys: of the log's items or users, rising, [entities].
      weights: training rows of each, int64 [entities].
      where: the table in words, for errors.
      earlier: columns of an earlier data set by name.

    Raises:
      ValueError: the table has a line of none of them, or a column without a number.
    """
    if not columns:
        return EntityValues()
    lookup, has_line = Lookup.build(keys), np.zeros(len(keys), bool)
    cells = [_Cells(column, len(keys), earlier.get(column.name)) for column in columns]
    lines = repeated = contradictory = 0
    for part_keys, table in parts:
        lines += len(part_keys)
        rows = np.asarray(lookup.rows(part_keys), np.int64)
        place = np.flatnonzero(rows >= 0)
        rows = rows[place]
        # The first line of each entity of this part, if no earlier part had one.
        is_first = ~pd.Series(rows).duplicated().to_numpy() & ~has_line[rows]
        differs = np.zeros(len(rows), bool)
        for column in cells:
            values = column.encode(table[column.column.name])[place]
            column.rows[rows[is_first]] = values[is_first]
            known = column.rows[rows]
            differs |= (values != known) & ~((values != values) & (known != known))  # NaN is NaN
        has_line[rows] = True
        repeated += int((~is_first).sum())
        contradictory += int(differs.sum())
    if not has_line.any():
        raise ValueError(
            f"none of the {len(keys):,} keys of the log is in {where}; expected one line for each. Check the "
            "name of its key column, and that both write ids alike."
        )
    pairs = [column.encoding(weights) for column in cells]
    by_name = {encoding.field.name: rows.copy() for encoding, rows in pairs}
    for encoding, _ in pairs:
        by_name[encoding.field.name][~has_line] = unknown_value(encoding.field)
    total = max(int(weights.sum()), 1)
    figures = {
        "lines": lines,
        "repeated_lines": repeated,
        "contradictory_lines": contradictory,
        "without_line": int((~has_line).sum()),
        "training_rows_without_line": round(float(weights[~has_line].sum()) / total, 6),
    }
    return EntityValues(tuple(encoding for encoding, _ in pairs), by_name, figures)


def check_table(figures: Mapping[str, object], where: str, max_bad_fraction: float) -> None:
    """Raises ValueError where too many lines of a table contradict earlier ones of the same key."""
    wrong, lines = int(str(figures["contradictory_lines"])), int(str(figures["lines"]))
    if wrong > max_bad_fraction * lines:
        raise ValueError(
            f"{wrong:,} of the {lines:,} lines of {where} contradict an earlier line of the same key; expected "
            "one line for each. Remove them, or raise --max_bad_fraction to take the first of each."
        )


def log_user_values(
    columns: Sequence[Column],
    users: Columns,
    words: Mapping[str, Words],
    earlier: EarlierColumns,
) -> EntityValues:
    """Columns of users that stand in the log: the oldest known value of each user.

    Args:
      columns: of the log.
      users: `training`, and keys or bits by name, [users].
      words: behind the keys, by name.
      earlier: columns of an earlier data set by name.
    """
    encodings, values = [], {}
    weights = users["training"].astype(np.int64)
    for column in columns:
        cells = _Cells(column, len(weights), earlier.get(column.name))
        if column.is_number:
            cells.numbers = users[column.name].view(np.float64)
        else:
            keys, codes = np.unique(users[column.name], return_inverse=True)
            raw = pd.Series(words[column.name].raw(keys)[codes])
            cells.codes = cells.encode(raw)
        encoding, values[column.name] = cells.encoding(weights)
        encodings.append(encoding)
    return EntityValues(tuple(encodings), values)


def log_encoding(
    column: Column,
    parts: Sequence[Columns],
    words: Words | None,
    folder: pathlib.Path,
    earlier: EarlierColumn | None = None,
) -> Encoding:
    """The encoding of a column of requests or events; saves the workers' table of its keys.

    Args:
      column: of the log.
      parts: what each bucket counted, see `count_values`.
      words: behind the keys; None for numbers.
      folder: of the intermediate files.
      earlier: the column of an earlier data set.
    """
    if words is None:
        return encode_numbers(column, [_sample_of(part) for part in parts], earlier)
    keys, row = np.unique(np.concatenate([part["key"] for part in parts]), return_inverse=True)
    counts = np.bincount(row, np.concatenate([p["count"] for p in parts]), len(keys))
    encoding = encode_words(column, words.raw(keys).tolist(), counts.astype(np.int64), earlier)
    table = {"key": keys, "id": encoding.table.reshape(-1)}
    save_columns(folder / KEY_TABLE_FILE.format(column.name), table)
    return encoding


def count_values(column: Column, values: np.ndarray, training: np.ndarray) -> Columns:
    """What a bucket tells of a column: counts of keys, or a sample of numbers.

    Args:
      column: of the log.
      values: keys or bits, int64 [rows].
      training: True for rows that count, bool [rows].
    """
    if not column.is_number:
        row, keys = pd.factorize(values)  # several times as fast as a sort
        return {"key": keys, "count": np.bincount(row, training, len(keys)).astype(np.int64)}
    sample = Sample.draw(values.view(np.float64)[training])
    facts = [sample.weight, sample.known, sample.unknown, sample.total, sample.squares]
    return {"numbers": sample.numbers, "facts": np.array(facts, np.float64)}


def _sample_of(part: Columns) -> Sample:
    weight, known, unknown, total, squares = part["facts"].tolist()
    return Sample(part["numbers"], weight, int(known), int(unknown), total, squares)


def vocabularies_of(encodings: Sequence[Encoding]) -> dict[str, Vocabulary]:
    """Vocabularies of the columns that have ids, by name."""
    return {
        encoding.field.vocabulary: Vocabulary(encoding.words, encoding.counts)
        for encoding in encodings
        if encoding.words is not None
    }


def catalogue_values(
    values: Columns, encodings: Sequence[Encoding], rows: np.ndarray, shared: int = 0
) -> Columns:
    """Attributes of items for the catalogue, by item id; padding has none and the unknown item unknown ones.

    Args:
      values: name -> of every item of the log, [items, ...].
      encodings: of the columns.
      rows: item of each id behind the shared ones.
      shared: ids from `FIRST_ID` on that several rare items have; their values are unknown too.
    """
    arrays = {}
    for encoding in encodings:
        field, of_items = encoding.field, values[encoding.field.name]
        padding = np.full(field.shape, PADDING_ID, of_items.dtype)
        first = np.stack([padding, *[unknown_value(field)] * (1 + shared)])
        arrays[field.name] = np.concatenate([first, of_items[rows]])
    return arrays


class ColumnLookup:
    """Values of declared columns for workers.

    Args:
      folder: of the intermediate files.
      fields: declared fields of the schema, by name.
      of_items, of_keys: names of the columns of items, and of those of the log.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        fields: Mapping[str, Field],
        of_items: Sequence[str],
        of_keys: Sequence[str],
    ):
        self._fields = fields
        self._keys: dict[str, tuple[Lookup, np.ndarray]] = {}
        self.items: Columns = {}
        if of_items:
            flat = load_columns(folder / ITEM_VALUES_FILE)
            self.items = {name: flat[name].reshape(-1, *fields[name].shape) for name in of_items}
        for name in of_keys:
            path = folder / KEY_TABLE_FILE.format(name)
            if not path.is_file():  # numbers need none
                continue
            table = load_columns(path)
            ids = table["id"].reshape(-1, *fields[name].shape)
            self._keys[name] = (Lookup.build(table["key"]), ids)

    def values(self, name: str, raw: np.ndarray) -> np.ndarray:
        """Ids or numbers of a column of the log, from its keys or bits, [rows, ...]."""
        if name not in self._keys:
            return number_values(self._fields[name], raw.view(np.float64))
        lookup, ids = self._keys[name]
        codes, keys = pd.factorize(raw)  # few different ones: a search for each row takes longer
        return ids[lookup.rows(keys)][codes]
