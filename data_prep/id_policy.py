"""Which values have an id of their own, and which one: an earlier data set's ids, and hashed ones for rare values.

Ids of a vocabulary are padding, unknown, hashed ids where there are any, the ids that an earlier data set gave,
and then new values, most frequent first. What a model learned about an id stays true the next day.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from data_prep.events import CATEGORY, ITEM, MISSING, check_names, id_keys
from data_prep.stages.columns import EarlierColumn
from data_prep.stages.vocabulary import dense_ids
from data_prep.storage import Columns
from dgin_tf.hashed_ids import hashed_count, hashed_number
from dgin_tf.integrity import damage_in
from dgin_tf.records import CATALOGUE_FILE, MANIFEST_FILE, Manifest, load_catalogue
from dgin_tf.schema import FIRST_ID, SCHEMA_FILE, Schema

FOLDER = "vocabulary"
_PREPARE = "prepare that data set again"


@dataclasses.dataclass(frozen=True)
class VocabularyOptions:
    """Choices about ids.

    Attributes:
      earlier: folder of a prepared data set whose ids stay; empty for none.
      min_count: training events that an item, a category or a word needs for an id of its own.
      hashed: ids that rarer values share, by a hash of the value; without any they are unknown.
    """

    earlier: str = ""
    min_count: int = 1
    hashed: int = 0

    def __post_init__(self):
        if self.min_count < 1 or self.hashed < 0:
            raise ValueError(
                f"expected min_count of at least 1 and no negative hash_buckets; got {self.min_count} and "
                f"{self.hashed}."
            )

    def files(self) -> tuple[str, ...]:
        """Files of the earlier data set that decide ids."""
        if not self.earlier:
            return ()
        Schema.load(self.earlier)  # raises where there is no data set
        folder = pathlib.Path(self.earlier)
        names = (MANIFEST_FILE, SCHEMA_FILE, CATALOGUE_FILE)
        words = sorted((folder / FOLDER).glob("*.txt"))
        return (*(str(folder / name) for name in names), *map(str, words))

    def settings(self) -> dict[str, object]:
        """The choices that are made, as plain JSON values."""
        settings: dict[str, object] = {}
        if self.earlier:
            settings["vocabulary_from"] = os.path.basename(os.path.normpath(self.earlier))
        if (self.min_count, self.hashed) != (1, 0):
            settings |= {"min_count": self.min_count, "hash_buckets": self.hashed}
        return settings


@dataclasses.dataclass(frozen=True)
class IdPolicy:
    """How the values of one vocabulary get their ids.

    Attributes:
      earlier: keys of the values that have ids already, in the order of these, int64 [values]; digests where
        values are words.
      raw: these values, integers or words, [values].
      hashed: ids that the other values share.
      min_count: training events that a new value needs.
    """

    earlier: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    raw: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    hashed: int = 0
    min_count: int = 1


@dataclasses.dataclass(frozen=True)
class Ids:
    """Ids of the rows of a table of values.

    Attributes:
      row_ids: id of each row, int32 [rows].
      order: row of each value with an id of its own, -1 where the table lacks it, int64 [values].
      hashed: training events of each hashed id, int64 [hashed ids].
    """

    row_ids: np.ndarray
    order: np.ndarray
    hashed: np.ndarray


def assign_ids(
    keys: np.ndarray, raw: np.ndarray, counts: np.ndarray, order: np.ndarray, policy: IdPolicy
) -> Ids:
    """Gives the rows of a table of distinct values their ids.

    Args:
      keys: integers or digests of words, int64 [rows]; `MISSING` stands for no value.
      raw: the values themselves, read where there are hashed ids, [rows].
      counts: training events of each row, int64 [rows].
      order: rows that have an id of their own, most frequent first, int64 [values].
      policy: of the vocabulary.
    """
    if len(policy.earlier):
        places = pd.Index(keys).get_indexer(pd.Index(policy.earlier))
        is_earlier = np.zeros(len(keys), bool)
        is_earlier[places[places >= 0]] = True
        order = np.concatenate([places, order[~is_earlier[order]]]).astype(np.int64)
    in_table = np.flatnonzero(order >= 0)
    ids = dense_ids(np.zeros(0, np.int64), len(keys))
    ids[order[in_table]] = FIRST_ID + policy.hashed + in_table
    hashed = np.zeros(policy.hashed, np.int64)
    if policy.hashed:
        shared = np.ones(len(keys), bool)
        shared[order[in_table]] = False
        rows = np.flatnonzero(shared & (keys != MISSING))
        numbers = [hashed_number(str(value), policy.hashed) for value in raw[rows]]
        ids[rows] = FIRST_ID + np.array(numbers, np.int32)
        np.add.at(hashed, np.array(numbers, np.int64), counts[rows])
    return Ids(ids, order, hashed)


class EarlierData:
    """The ids of an earlier data set.

    Args:
      folder: the prepared data set.
      hashed: hashed ids of the new one.

    Raises:
      FileNotFoundError: there is no prepared data set.
      ValueError: it has other hashed ids, or is damaged.
    """

    def __init__(self, folder: str, hashed: int):
        self._folder = pathlib.Path(folder)
        self.schema = Schema.load(folder)
        self.manifest = Manifest.load(folder, self.schema)
        self._lines = {name: self._read(name) for name in self.schema.vocabulary_sizes}
        counts = {name: hashed_count(lines) for name, lines in self._lines.items()}
        if (largest := max(counts.values())) != hashed:
            raise ValueError(
                f"the vocabulary of {folder!r} has {largest} hashed ids, and --hash_buckets={hashed} asks for "
                f"{hashed}: their ids would move. Give --hash_buckets={largest}."
            )
        self._values = {name: lines[counts[name] :] for name, lines in self._lines.items()}

    def check(self, schema: Schema) -> None:
        """Raises ValueError unless the new data set has the same fields."""
        old, new = ({f.name: f for f in s.fields} for s in (self.schema, schema))
        if self.schema.fields != schema.fields:
            lost, added = sorted(set(old) - set(new)), sorted(set(new) - set(old))
            raise ValueError(
                f"the vocabulary of {str(self._folder)!r} is of another schema: it has the fields {list(old)}, this "
                f"log gives {list(new)}"
                + (f"; missing {lost}" if lost else "")
                + (f"; new {added}" if added else "")
                + ". Prepare this log with the flags of that data set."
            )

    def chain(self) -> tuple[str, ...]:
        """Schemas, as JSON, under which models were trained whose ids are kept, the newest first."""
        return (self.schema.to_json(), *self.manifest.earlier_schemas)

    def raw(self, name: str, are_words: bool) -> np.ndarray:
        """Values of a vocabulary in the order of their ids: integers, or words as objects.

        Raises:
          ValueError: it has words, and the new log integers.
        """
        values = self._values.get(name, [])
        if are_words:
            return np.array(values, dtype=object)
        try:
            return np.array([int(value) for value in values], np.int64)
        except ValueError:
            raise ValueError(
                f"the vocabulary {name} of {str(self._folder)!r} holds words, and this log integers; give "
                "--id_type=word, or a vocabulary of the same log."
            ) from None

    def column(self, name: str) -> EarlierColumn | None:
        """A declared column; None where the data set has none of that name."""
        if name not in {field.name for field in self.schema.fields}:
            return None
        field = self.schema.field(name)
        words = [] if field.boundaries else self._values.get(field.vocabulary, [])
        return EarlierColumn(field, np.array(words, dtype=object))

    def items(self, words: Mapping[str, pd.Series | None]) -> Columns:
        """Key and category key of every item, in the order of their ids, [items].

        Args:
          words: column -> words by digest, None for integers.
        """
        keys = keys_of(self.raw(ITEM, words[ITEM] is not None))
        category = np.full(len(keys), MISSING, np.int64)
        attributes = load_catalogue(self._folder).get(CATEGORY)
        if attributes is not None:
            raw = self.raw(CATEGORY, words[CATEGORY] is not None)
            # Categories that are unknown or hashed have no key.
            first = self.schema.vocabulary_sizes[CATEGORY] - len(raw)
            number = attributes[len(attributes) - len(keys) :].astype(np.int64) - first
            known = number >= 0
            category[known] = keys_of(raw)[number[known]]
        return {"item": keys, "category": category}

    def appended(self, sizes: Mapping[str, int]) -> dict[str, dict[str, int]]:
        """Vocabulary -> how many ids of its own it kept, and how many it appended.

        Args:
          sizes: vocabulary -> values with an id of their own, the kept ones among them.
        """
        kept = {name: len(self._values.get(name, ())) for name in sizes}
        return {n: {"kept": kept[n], "new": size - kept[n]} for n, size in sizes.items()}

    def titles(self, columns: pd.Index) -> pd.DataFrame:
        """Raw values and titles of items; empty where the data set has no titles.

        Args:
          columns: names of the two columns.
        """
        path = self._folder / FOLDER / f"{ITEM}.titles.txt"
        if not path.is_file():
            return pd.DataFrame({column: [] for column in columns})
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        values = self._values[ITEM]
        titles = lines[len(lines) - len(values) :]
        return pd.DataFrame(dict(zip(columns, (values, titles), strict=True)))

    def _read(self, name: str) -> list[str]:
        path = self._folder / FOLDER / f"{name}.txt"
        with damage_in(path, "a vocabulary", _PREPARE):
            text = path.read_text(encoding="utf-8")
        return text.removesuffix("\n").split("\n") if text else []


def keys_of(raw: np.ndarray) -> np.ndarray:
    """Keys of values: integers as they are, words as digests, int64 [values]."""
    return raw if raw.dtype != object else id_keys(pd.Series(raw, dtype=object))[0]


def with_words(by_key: pd.Series | None, raw: np.ndarray) -> pd.Series | None:
    """Words by digest with those of an earlier vocabulary; None where values are integers."""
    if by_key is None:
        return None
    return check_names(pd.concat([by_key, id_keys(pd.Series(raw, dtype=object))[1]]))


def with_earlier_items(items: Columns, earlier: Columns) -> Columns:
    """Adds the items that only an earlier data set has, and earlier categories where the log has none.

    Args:
      items: of the log, by rising key, as `merge_pairs` gives them with `in_vocabulary`.
      earlier: `item` and `category` of the earlier vocabulary.
    """
    order = np.argsort(earlier["item"])
    keys, category = earlier["item"][order], earlier["category"][order]
    place = np.searchsorted(keys, items["item"])
    place[place == len(keys)] = 0
    known = keys[place] == items["item"] if len(keys) else np.zeros(len(items["item"]), bool)
    items = {**items, "in_vocabulary": items["in_vocabulary"] | known}
    lacks = known & (items["category"] == MISSING)
    items["category"] = np.where(
        lacks, category[place] if len(keys) else MISSING, items["category"]
    )
    is_new = ~np.isin(keys, items["item"])
    extra = {name: np.zeros(int(is_new.sum()), column.dtype) for name, column in items.items()}
    extra |= {"item": keys[is_new], "category": category[is_new]}
    extra["in_vocabulary"] = np.ones(len(extra["item"]), bool)
    joined = {name: np.concatenate([items[name], extra[name]]) for name in items}
    order = np.argsort(joined["item"])
    return {name: column[order] for name, column in joined.items()}
