"""Ids from counts: the tables that workers look ids up in, and the vocabulary files.

Everything here is of the size of the vocabularies, not of the log.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from data_prep.events import BEHAVIOR, CATEGORY, ITEM, MISSING, MISSING_NAME, TIME, USER, id_keys
from data_prep.id_policy import FOLDER as FOLDER
from data_prep.id_policy import IdPolicy, assign_ids, keys_of
from data_prep.stages.vocabulary import Lookup, frequency_order
from data_prep.storage import Columns, save_columns
from dgin_tf.hashed_ids import hashed_lines
from dgin_tf.schema import (
    CANDIDATE,
    FIRST_ID,
    HISTORY,
    PADDING_ID,
    UNKNOWN_ID,
    Field,
    Schema,
    replacing,
)
from dgin_tf.schema import USER as USER_ROLE

ITEMS_FILE = "items.columns"
USERS_FILE = "users.columns"
VOCABULARY_FILE = "vocabulary.columns"
BEHAVIORS_FILE = "behaviors.columns"
SIDE_FEATURE_FILE = "side_feature.{}.columns"
NO_POLICY = IdPolicy()


@dataclasses.dataclass(frozen=True)
class Words:
    """The words behind the keys of one id column, or none where the keys are the ids.

    Attributes:
      by_key: digest -> word, indexed by rising digest; None for integer ids.
    """

    by_key: pd.Series | None = None

    def raw(self, keys: np.ndarray) -> np.ndarray:
        """Raw values of keys: integers, or words as objects."""
        if self.by_key is None:
            return keys
        return self.by_key.reindex(keys, fill_value=MISSING_NAME).to_numpy(object)

    def ranks(self, keys: np.ndarray) -> np.ndarray:
        """Integers that sort as the raw values do."""
        # Integers sort as they are; words by their alphabetical rank.
        raw = self.raw(keys)
        return raw if self.by_key is None else np.unique(raw, return_inverse=True)[1]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Raw values by id and how often each occurs in training.

    Attributes:
      values: of the ids behind the hashed ones, or of id 2, 3, ...: integers or words, [values].
      counts: training events (users, for profile fields), int64 [values].
      hashed: training events of the hashed ids, which rare values share, int64 [hashed ids].
    """

    values: np.ndarray
    counts: np.ndarray
    hashed: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def size(self) -> int:
        return FIRST_ID + len(self.hashed) + len(self.values)

    def save(self, path: pathlib.Path) -> None:
        """Writes one raw value a line."""
        with replacing(path) as temporary, open(temporary, "wb") as file:
            file.writelines(f"{line}\n".encode() for line in hashed_lines(len(self.hashed)))
            if self.values.dtype == object:
                file.writelines(f"{word}\n".encode() for word in self.values)
            elif len(self.values):
                options = pa.csv.WriteOptions(include_header=False)
                pa.csv.write_csv(pa.table({"value": self.values}), file, options)

    def save_titles(self, path: pathlib.Path, titles: pd.DataFrame) -> None:
        """Writes the title of each value a line, empty where there is none; nothing without titles.

        Args:
          path: of the file.
          titles: raw values, and their titles, in its two columns.
        """
        if titles.empty:
            return
        raw, names = (titles[column] for column in titles)
        by_value = names.set_axis(raw).groupby(level=0).first()
        lines = by_value.reindex(self.values).fillna("")
        with replacing(path) as temporary, open(temporary, "wb") as file:
            file.write(b"\n" * len(self.hashed))
            file.writelines(f"{' '.join(str(line).split())}\n".encode() for line in lines)


def _numbered(
    keys: np.ndarray, counts: np.ndarray, chosen: np.ndarray, words: Words, policy: IdPolicy
) -> tuple[Vocabulary, np.ndarray, np.ndarray]:
    """Gives the chosen rows of a table of values ids of their own, most frequent first.

    Args:
      keys: of distinct values, int64 [rows].
      counts: training events of each, int64 [rows].
      chosen: rows with an id of their own, int64 [values].
      words: of the column.
      policy: of the vocabulary.

    Returns:
      The vocabulary, the id of every row, int32 [rows], and the row of each value of the vocabulary, -1 where
      the table lacks it, int64 [values].
    """
    order = chosen[frequency_order(counts[chosen], words.ranks(keys[chosen]))]
    raw = words.raw(keys) if policy.hashed else keys
    ids = assign_ids(keys, raw, counts, order, policy)
    new = ids.order[len(policy.earlier) :]
    values, total = words.raw(keys[new]), counts[new]
    if len(policy.earlier):
        places = ids.order[: len(policy.earlier)]
        values = np.concatenate([policy.raw, values])
        total = np.concatenate([np.where(places >= 0, counts[places], 0), total])
    return Vocabulary(values, total, ids.hashed), ids.row_ids, ids.order


def item_vocabulary(
    items: Columns, words: Words, folder: pathlib.Path, policy: IdPolicy = NO_POLICY
) -> tuple[Vocabulary, np.ndarray]:
    """Gives items their ids and saves the vocabulary's rows for the workers.

    Args:
      items: `item`, `training_events` and `in_vocabulary`, by rising item key, those of the policy among
        them, [items].
      words: of the item column.
      folder: of the intermediate files.
      policy: of the vocabulary.

    Returns:
      The vocabulary, and the id of every item row, int32 [items].
    """
    chosen = np.flatnonzero(items["in_vocabulary"])
    vocabulary, ids, rows = _numbered(
        items["item"], items["training_events"], chosen, words, policy
    )
    first = np.array([FIRST_ID + policy.hashed])
    columns = {"row": rows, "count": vocabulary.counts, "first_id": first}
    save_columns(folder / VOCABULARY_FILE, columns)
    return vocabulary, ids


def category_vocabulary(
    items: Columns, words: Words, policy: IdPolicy = NO_POLICY
) -> tuple[Vocabulary, np.ndarray]:
    """Gives categories their ids; a category counts the training events of its items.

    Returns:
      The vocabulary, and the category id of every item row, int32 [items].
    """
    # A hash table, which is much faster than np.unique.
    codes, keys = pd.factorize(items["category"], sort=True)
    counts = np.bincount(codes, items["training_events"], len(keys)).astype(np.int64)
    has_items = np.bincount(codes, items["in_vocabulary"], len(keys)) > 0
    is_frequent = has_items if policy.min_count == 1 else counts >= policy.min_count
    rows = np.flatnonzero(is_frequent & (keys != MISSING))
    vocabulary, ids, _ = _numbered(keys, counts, rows, words, policy)
    return vocabulary, ids[codes]


def user_vocabulary(
    users: Columns, words: Words, policy: IdPolicy = NO_POLICY
) -> tuple[Vocabulary, np.ndarray]:
    """Gives every user of the log an id, so that each record's user can be told apart.

    Args:
      users: `key` (rising) and `events`, [users].
      words: of the user column.
      policy: of the vocabulary.

    Returns:
      The vocabulary, and the id of every user row, int32 [users].
    """
    # Every user has an id, training or not: records are told apart by it.
    chosen = np.arange(len(users["key"]))
    return _numbered(users["key"], users["events"], chosen, words, policy)[:2]


def behavior_vocabulary(
    names: Sequence[str], counts: np.ndarray, policy: IdPolicy = NO_POLICY
) -> tuple[Vocabulary, np.ndarray]:
    """Gives the behavior types that occur in training their ids, and every type one, [types]."""
    return _numbered_names(np.array(names, dtype=object), counts[: len(names)], policy)


def _numbered_names(
    names: np.ndarray, counts: np.ndarray, policy: IdPolicy
) -> tuple[Vocabulary, np.ndarray]:
    """Gives names that occur in training their ids, and every name one, [names]."""
    keys = keys_of(names)
    words = Words(pd.Series(names, index=keys, dtype=object).sort_index())
    chosen = np.flatnonzero((counts > 0) & (names != MISSING_NAME))
    return _numbered(keys, counts, chosen, words, policy)[:2]


def side_feature_vocabulary(
    counts: Columns, words: Words, policy: IdPolicy = NO_POLICY
) -> tuple[Vocabulary, Columns]:
    """Gives the words of a side feature that occur in training their ids.

    Args:
      counts: `key` and `count` of training events; a key may occur several times.
      words: behind the keys.
      policy: of the vocabulary.

    Returns:
      The vocabulary, and the workers' table: `key` (rising) and `id` of every word.
    """
    keys, row = np.unique(counts["key"], return_inverse=True)
    total = np.bincount(row, counts["count"], len(keys)).astype(np.int64)
    rows = np.flatnonzero((total >= policy.min_count) & (keys != MISSING))
    vocabulary, ids, _ = _numbered(keys, total, rows, words, policy)
    return vocabulary, {"key": keys, "id": ids}


def profile_columns(
    profiles: pd.DataFrame,
    fields: Sequence[str],
    users: Columns,
    policies: Mapping[str, IdPolicy] = MappingProxyType({}),
) -> tuple[dict[str, Vocabulary], Columns]:
    """Gives profile values their ids; they count training users.

    Args:
      profiles: `user_id` and `fields` as words.
      fields: names `user_*`.
      users: `key` (rising) and `training`, [users].
      policies: of the fields' vocabularies, where there are any.

    Returns:
      Field -> vocabulary, and field -> id of every user row, int32 [users].
    """
    vocabularies, columns = {}, {}
    raw = profiles[USER]
    keys = raw.to_numpy(np.int64) if pd.api.types.is_integer_dtype(raw) else id_keys(raw)[0]
    # Row of each profile's user, -1 where the log does not have the user.
    rows = Lookup.build(users["key"]).rows(keys)
    in_log = rows >= 0
    for field in fields:
        values = np.full(len(users["key"]), MISSING_NAME, dtype=object)
        values[rows[in_log]] = profiles[field].astype(str).to_numpy(object)[in_log]
        names, codes = np.unique(values, return_inverse=True)
        counts = np.bincount(codes, users["training"], len(names)).astype(np.int64)
        policy = policies.get(field, NO_POLICY)
        vocabularies[field], ids = _numbered_names(names, counts, policy)
        columns[field] = ids[codes]
    return vocabularies, columns


def make_schema(
    vocabularies: Mapping[str, Vocabulary],
    profile_fields: Sequence[str],
    max_history: int,
    side_features: Sequence[str] = (),
    numeric_features: Sequence[str] = (),
    candidate_fields: Sequence[str] = (),
    columns: Sequence[Field] = (),
) -> Schema:
    """The schema of the data set: fields with a vocabulary, the timestamp, numeric features, what
    candidates alone have, and declared columns.
    """
    # The order of the fields is the order of the embeddings.
    both = (HISTORY, CANDIDATE)
    fields = [Field(USER, (USER_ROLE,), USER)]
    fields += [Field(name, (USER_ROLE,), name) for name in profile_fields]
    fields += [Field(name, both, name) for name in (ITEM, CATEGORY) if name in vocabularies]
    if BEHAVIOR in vocabularies:
        fields.append(Field(BEHAVIOR, (HISTORY,), BEHAVIOR))
    fields += [Field(name, (HISTORY,), name) for name in side_features]
    fields.append(Field(TIME, both))
    fields += [Field(name, (HISTORY,)) for name in numeric_features]
    fields += [Field(name, (CANDIDATE,)) for name in candidate_fields]
    fields += columns
    names = vocabularies[BEHAVIOR].values.tolist() if BEHAVIOR in vocabularies else []
    return Schema(
        fields=tuple(fields),
        vocabulary_sizes={name: vocabulary.size for name, vocabulary in vocabularies.items()},
        max_history=max(1, max_history),
        behavior_types=tuple(names),
    )


def catalogue_arrays(
    rows_by_id: np.ndarray, items: Vocabulary, category_id: np.ndarray | None
) -> Columns:
    """Attributes of items for `dgin_tf.records.save_catalogue`, indexed by item id."""
    # Ids 0 and 1 are padding and unknown items: no events, and the same category ids. Items of one hashed
    # id are of several categories.
    arrays = {"count": np.concatenate([np.zeros(FIRST_ID, np.int64), items.hashed, items.counts])}
    if category_id is not None:
        no_items = np.array([PADDING_ID, *[UNKNOWN_ID] * (1 + len(items.hashed))], np.int32)
        arrays[CATEGORY] = np.concatenate([no_items, category_id[rows_by_id]])
    return arrays
