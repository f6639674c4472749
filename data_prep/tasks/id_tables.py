"""Tables from raw keys to ids, which every worker loads once."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping

import numpy as np

from data_prep.stages.vocabulary import Lookup
from data_prep.storage import Columns, load_columns, map_columns
from data_prep.vocabularies import (
    BEHAVIORS_FILE,
    ITEMS_FILE,
    SIDE_FEATURE_FILE,
    USERS_FILE,
    VOCABULARY_FILE,
)
from dgin_tf.schema import FIRST_ID


@dataclasses.dataclass(frozen=True)
class IdTables:
    """Ids of items, categories, users, behavior types and side features.

    Attributes:
      items, users: raw key -> row.
      item_id, category_id: of each item row.
      row_of_id: item row of each vocabulary item (id - `first_item_id`).
      count: training events of each vocabulary item, [vocabulary items].
      user_columns: field -> id of each user row.
      behavior_id: id of each behavior type of the reader.
      side_features: name -> raw key to row, and the id of each row.
      first_item_id: of the items with an id of their own; those before are shared by rare items.
    """

    items: Lookup
    users: Lookup
    item_id: np.ndarray
    category_id: np.ndarray
    row_of_id: np.ndarray
    count: np.ndarray
    user_columns: Columns
    behavior_id: np.ndarray
    side_features: Mapping[str, tuple[Lookup, np.ndarray]]
    first_item_id: int = FIRST_ID

    def side_feature_ids(self, name: str, keys: np.ndarray) -> np.ndarray:
        """Ids of a side feature's keys, int32 [events]."""
        lookup, ids = self.side_features[name]
        return ids[lookup.rows(keys)]


@functools.lru_cache(maxsize=1)
def load_id_tables(folder: pathlib.Path, side_features: tuple[str, ...], _key: str) -> IdTables:
    """Reads the tables that `pipeline` saved; `_key` tells those of different runs apart."""
    items, users = map_columns(folder / ITEMS_FILE), load_columns(folder / USERS_FILE)
    vocabulary = map_columns(folder / VOCABULARY_FILE)
    user_keys = users.pop("key")
    side_tables = {n: load_columns(folder / SIDE_FEATURE_FILE.format(n)) for n in side_features}
    return IdTables(
        items=Lookup.build(np.asarray(items["key"])),
        users=Lookup.build(user_keys),
        item_id=np.asarray(items["item_id"]),
        category_id=np.asarray(items["category_id"]),
        row_of_id=np.asarray(vocabulary["row"]),
        count=np.asarray(vocabulary["count"]),
        user_columns=users,
        behavior_id=load_columns(folder / BEHAVIORS_FILE)["behavior_id"],
        side_features={n: (Lookup.build(t["key"]), t["id"]) for n, t in side_tables.items()},
        first_item_id=int(vocabulary["first_id"][0]),
    )
