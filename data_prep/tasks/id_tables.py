"""Tables from raw keys to ids, which every worker loads once."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping

import numpy as np

from data_prep.column_tables import ColumnLookup
from data_prep.columns import DeclaredColumns
from data_prep.stages.vocabulary import Lookup
from data_prep.storage import Columns, load_columns, map_columns
from data_prep.vocabularies import (
    BEHAVIORS_FILE,
    ITEMS_FILE,
    SIDE_FEATURE_FILE,
    USERS_FILE,
    VOCABULARY_FILE,
)
from dgin_tf.schema import FIRST_ID, Schema


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
      columns: values of declared columns of items and of the log.
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
    columns: ColumnLookup
    first_item_id: int = FIRST_ID

    def side_feature_ids(self, name: str, keys: np.ndarray) -> np.ndarray:
        """Ids of a side feature's keys, int32 [events]."""
        lookup, ids = self.side_features[name]
        return ids[lookup.rows(keys)]


@functools.lru_cache(maxsize=1)
def load_id_tables(folder: pathlib.Path, declared: DeclaredColumns, schema_text: str) -> IdTables:
    """Reads the tables that `pipeline` saved; the text of the schema tells those of different runs apart."""
    schema = Schema.from_json(schema_text)
    fields = {field.name: field for field in schema.fields}
    items, users = map_columns(folder / ITEMS_FILE), load_columns(folder / USERS_FILE)
    vocabulary = map_columns(folder / VOCABULARY_FILE)
    user_keys = users.pop("key")
    side_features = [name for name in schema.side_features if not fields[name].is_column]
    side_tables = {n: load_columns(folder / SIDE_FEATURE_FILE.format(n)) for n in side_features}
    of_items, of_rows, of_events = (
        [column.name for column in columns]
        for columns in (declared.of_items, declared.of_requests, declared.of_events)
    )
    return IdTables(
        items=Lookup.build(np.asarray(items["key"])),
        users=Lookup.build(user_keys),
        item_id=np.asarray(items["item_id"]),
        category_id=np.asarray(items["category_id"]),
        row_of_id=np.asarray(vocabulary["row"]),
        count=np.asarray(vocabulary["count"]),
        user_columns={
            name: values.reshape(-1, *fields[name].shape) for name, values in users.items()
        },
        behavior_id=load_columns(folder / BEHAVIORS_FILE)["behavior_id"],
        side_features={n: (Lookup.build(t["key"]), t["id"]) for n, t in side_tables.items()},
        columns=ColumnLookup(folder, fields, of_items, [*of_rows, *of_events]),
        first_item_id=int(vocabulary["first_id"][0]),
    )
