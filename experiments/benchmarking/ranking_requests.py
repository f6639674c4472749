"""One request end to end: a person's id and candidate ids in, probabilities out, in one process.

A model that searches by an attribute reads what its candidates can find from a behavior index on
disk; one that makes groups of a history reads the cached groups from a store besides; any other one
reads the user's encoded state from a store. Nothing is cached in memory between requests.

The candidates of a request have the categories of twenty random events of the person (hundreds of
candidates rarely have more; SIM, section 4).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dgin_tf import records
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.models.base import CTRModel
from dgin_tf.records import LABEL, POSITION, Manifest, Shard
from dgin_tf.schema import CANDIDATE, FIRST_ID, HISTORY, Field, Schema
from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.serving.encode_users import GroupSink, GroupUsers, UserStateSink, encode_users
from dgin_tf.serving.export.bundle import Release, export_bundle
from dgin_tf.serving.export.signatures import ENCODE_GROUPS, ENCODE_USER
from dgin_tf.serving.export.versions import open_bundle
from dgin_tf.serving.online.bundle_model import BundleModel
from dgin_tf.serving.online.ranker import Ranker
from dgin_tf.serving.online.state_sources import GroupStates
from dgin_tf.serving.user_records import RecordUsers
from dgin_tf.stores.behavior_engine import BehaviorEngine
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.behavior_totals import DISTINCT, BehaviorTotals
from dgin_tf.stores.index_building import build_index
from dgin_tf.stores.lmdb_store import LmdbStore
from experiments.benchmarking.workload import Shape

PEOPLE = 16
CATEGORIES = 20
INDEX, STATE, GROUPS = "index", "stored state", "cached groups and index"
_NOW = 1_500_000_000

Answer = Callable[[int, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class TimedShape(Shape):
    """A shape whose events and candidates have a second, as a behavior index needs them."""

    def schema(self) -> Schema:
        """The shape's fields and a timestamp."""
        schema = super().schema()
        if self.behavior_types:
            return schema  # which brings times
        time = Field("timestamp", (HISTORY, CANDIDATE))
        return dataclasses.replace(schema, fields=(*schema.fields, time))


def write_people(shape: TimedShape, data_dir: pathlib.Path) -> None:
    """Writes a prepared data set of `PEOPLE` users with full histories, one candidate each."""
    schema, rng = shape.schema(), np.random.default_rng([shape.seed, shape.history])
    (data_dir / "train").mkdir(parents=True, exist_ok=True)
    encoded = []
    for user in range(PEOPLE):
        drawn = shape.draw_histories(rng, ()) | shape.draw_candidates(rng, (1,))
        del drawn["hist_mask"]
        record = {
            **drawn,
            "user_id": [FIRST_ID + user],
            "hist_timestamp": _NOW - 600 * np.arange(shape.history, 0, -1),
            "cand_timestamp": [_NOW],
            POSITION: [shape.history],
            LABEL: [1],
        }
        encoded.append(records.encode_record(schema, {k: np.asarray(v) for k, v in record.items()}))
    records.write_records(data_dir / "train/00000.tfrecord", encoded)
    shard = Shard("train/00000.tfrecord", shape.history, PEOPLE, PEOPLE, PEOPLE, 1)
    item = np.arange(shape.items)
    records.save_catalogue(
        data_dir, {"category_id": shape.category_of(item), "count": np.ones_like(item)}
    )
    schema.save(data_dir)
    Manifest(schema.fingerprint(), {"train": (shard,)}).save(data_dir)


class Service:
    """What answers requests: an exported model, and an index or stored states.

    Args:
      model: to export, not yet built.
      name: its name in the registry.
      shape: of the data.
      folder: for the data, the export, and the index or the states; what is there is used again.
    """

    def __init__(self, model: CTRModel, name: str, shape: TimedShape, folder: pathlib.Path):
        data_dir, export_dir = folder / "data", folder / "export" / name
        self._shape = shape
        self._data_dir = data_dir
        if not (data_dir / "manifest.json").is_file():
            write_people(shape, data_dir)
        data = PreparedData(data_dir)
        if not export_dir.is_dir():
            model(next(iter(data.training(BatchOptions(1, shape.history), shape.seed, 0))))
            export_bundle(model, Release(name, str(data_dir), shape.history), export_dir)
        metadata = open_bundle(export_dir)[1]
        history_slice, groups = metadata["history_slice"], metadata["groups"]
        self.source = STATE if history_slice is None else INDEX
        bundle = BundleModel(export_dir)
        if groups is not None:
            self.source = GROUPS
            length = max(history_slice["per_key"] if history_slice else 0, groups["events"])
            engine, states = self._engine(groups, length), LmdbStore(folder / "states", name)
            cached = GroupStates(bundle, engine, states)
            encode = functools.partial(bundle.run, ENCODE_GROUPS)
            encode_users(GroupUsers(cached), encode, GroupSink(cached.cache), PEOPLE)
            self._ranker = Ranker(bundle, engine, states, cached_states=0)
        elif history_slice is not None:
            key, length = history_slice["key"], history_slice["per_key"]
            index_dir = folder / f"index-{key}-{length}"
            if not index_dir.is_dir():
                build_index(data_dir, index_dir, key, length)
            index = BehaviorIndex(index_dir, shape.schema(), key)
            self._ranker = Ranker(bundle, index, cached_states=0)
        else:
            states = LmdbStore(folder / "states", name)
            users = RecordUsers(data, metadata, shape.history)
            encode = functools.partial(bundle.run, ENCODE_USER)
            encode_users(users, encode, UserStateSink(UserStates(states, metadata)), PEOPLE)
            self._ranker = Ranker(bundle, states=states, cached_states=0)

    def answer(self, person: int, items: np.ndarray) -> np.ndarray:
        """Probabilities [candidates] of dense item ids."""
        seconds = np.full(len(items), _NOW)
        return self._ranker.rank(person, {"item_id": items, "timestamp": seconds})

    def requests(self, count: int, candidates: int) -> list[tuple[int, np.ndarray]]:
        """Random people, each with items of the categories of some of their events."""
        shape = self._shape
        rng = np.random.default_rng([shape.seed, candidates])
        category = shape.category_of(np.arange(shape.items))
        found = []
        for record in self._people():
            person, events = int(record["user_id"][0]), record["hist_category_id"]
            for _ in range(count // PEOPLE):
                wanted = np.unique(rng.choice(events, CATEGORIES))
                items = FIRST_ID + np.flatnonzero(np.isin(category[FIRST_ID:], wanted))
                found.append((person, rng.choice(items, candidates).astype(np.int32)))
        rng.shuffle(found)
        return found

    def _engine(self, kept: Mapping[str, Any], per_key: int) -> BehaviorEngine:
        """An index and running statistics, both of everybody's whole history."""
        folder, schema = self._data_dir.parent, self._shape.schema()
        distinct = [n.removeprefix(DISTINCT) for n in kept["statistics"] if n.startswith(DISTINCT)]
        store = LmdbStore(folder / f"totals-{kept['key']}", "totals")
        totals = BehaviorTotals(store, schema, kept["key"], distinct)
        index_dir = folder / f"groups-{kept['key']}-{per_key}"
        with totals.loading() as load:
            build_index(self._data_dir, index_dir, kept["key"], per_key, on_history=load)
        return BehaviorEngine(BehaviorIndex(index_dir, schema, kept["key"]), totals)

    def _people(self) -> list[dict[str, Any]]:
        schema = self._shape.schema()
        (shard,) = PreparedData(self._data_dir).shards("train")
        return [
            records.decode_record(schema, payload)
            for payload in records.read_records(self._data_dir / shard.path)
        ]
