"""Flags of DGIN's engine (UBPE), shared by several commands, and the stores that they name."""

import functools

from absl import flags

from dgin_tf.integrity import CHECKED_BYTES
from dgin_tf.schema import HISTORY, Schema
from dgin_tf.stores import addresses
from dgin_tf.stores.behavior_engine import BehaviorEngine
from dgin_tf.stores.behavior_index import BehaviorIndex, IndexMetadata
from dgin_tf.stores.behavior_totals import BehaviorTotals
from dgin_tf.stores.state_store import StateStore

ITEM = "item_id"
STORES = "lmdb:PATH or redis://host:port/db?prefix=NAME"

_TOTALS_STORE = flags.DEFINE_string(
    "totals_store",
    "",
    f"Statistics of users' groups, and their events since the index was built: {STORES}.",
)
_DISTINCT = flags.DEFINE_list(
    "distinct",
    None,
    "Fields whose distinct values are counted in each group; by default item_id, as in DGIN, unless "
    "that is the key.",
)

_open_once = functools.cache(addresses.open_store)  # LMDB may be opened once in a process


def open_store(address: str, namespace: str = "") -> StateStore:
    """Opens a namespace of the store at an address, which several namespaces may share."""
    return _open_once(address).scoped(namespace)


def open_late_events(address: str) -> StateStore:
    """Opens the events that came after an index was built, for an index without totals."""
    return open_store(address, "behaviors")


def open_totals(schema: Schema, key: str) -> BehaviorTotals | None:
    """Opens the totals of the flags; None where they name no store.

    Raises:
      ValueError: the store holds totals of something else, or --distinct is given without a store.
    """
    if not _TOTALS_STORE.value:
        if _DISTINCT.value is not None:
            raise ValueError("--distinct is about totals; give --totals_store too.")
        return None
    distinct = _DISTINCT.value
    if distinct is None:
        has_items = ITEM in [field.name for field in schema.with_role(HISTORY)]
        distinct = [ITEM] if has_items and key != ITEM else []
    # A namespace for each key, so that several models' engines share one store.
    store = open_store(_TOTALS_STORE.value, f"totals.{key}")
    totals = BehaviorTotals(store, schema, key, distinct)
    totals.check()  # before hours of counting, not after
    return totals


def open_index(
    index_dir: str, schema: Schema, late: StateStore | None = None
) -> BehaviorIndex | BehaviorEngine:
    """Opens the index in a folder; with the totals of the flags, the engine of both.

    Args:
      index_dir: output of `experiments.build_index`; its key is not compared with a model's here.
      schema: of the model that reads it.
      late: events that came since, for an index without totals.

    Raises:
      ValueError: there are totals and `late`, or the totals are of something else.
    """
    if late is not None and _TOTALS_STORE.value:
        raise ValueError(
            "with --totals_store, late events lie beside the totals; leave --state_store out."
        )
    key = IndexMetadata.load(index_dir).key
    index = BehaviorIndex(index_dir, schema, key, late)
    if index.metadata.bytes <= CHECKED_BYTES:  # a larger one is opened at once
        index.check()
    totals = open_totals(schema, key)
    return index if totals is None else BehaviorEngine(index, totals)
