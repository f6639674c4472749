"""Ranking requests end to end: a user's id and candidate ids in, probabilities out, in one process.

A model that searches by an attribute reads the events of its candidates' keys from a behavior index on
disk; one that groups a history also reads the cached groups from a store; any other one reads the
user's encoded state from a store. Nothing stays in memory between requests.

The candidates of a request have the categories of twenty random events of the user (hundreds of
candidates rarely have more; SIM, section 4).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
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
from experiments.benchmarking.workload import Workload

USERS = 16
CATEGORIES = 20
INDEX, STATE, GROUPS = "index", "stored state", "cached groups and index"
_NOW = 1_500_000_000


@dataclasses.dataclass(frozen=True)
class TimedWorkload(Workload):
    """A workload whose events and candidates have timestamps, which a behavior index needs."""

    def schema(self) -> Schema:
        """The workload's fields and a timestamp."""
        schema = super().schema()
        if self.behavior_types:
            return schema  # it has timestamps
        time = Field("timestamp", (HISTORY, CANDIDATE))
        return dataclasses.replace(schema, fields=(*schema.fields, time))


def write_users(workload: TimedWorkload, data_dir: pathlib.Path) -> None:
    """Writes a prepared data set of `USERS` users with full histories, one candidate each."""
    schema, rng = workload.schema(), np.random.default_rng([workload.seed, workload.history])
    (data_dir / "train").mkdir(parents=True, exist_ok=True)
    payloads = []
    for user in range(USERS):
        features = workload.draw_histories(rng, ()) | workload.draw_candidates(rng, (1,))
        del features["hist_mask"]
        record = {
            **features,  # scalars of one user: no leading axes
            "user_id": [FIRST_ID + user],
            # Every ten minutes one event; a workload of behavior types has its own times, replaced here.
            "hist_timestamp": _NOW - 600 * np.arange(workload.history, 0, -1),
            "cand_timestamp": [_NOW],
            POSITION: [workload.history],
            LABEL: [1],
        }
        arrays = {name: np.asarray(values) for name, values in record.items()}
        payloads.append(records.encode_record(schema, arrays))
    records.write_records(data_dir / "train/00000.tfrecord", payloads)
    shard = Shard("train/00000.tfrecord", workload.history, USERS, USERS, USERS, 1)
    item = np.arange(workload.items)
    records.save_catalogue(
        data_dir, {"category_id": workload.category_of(item), "count": np.ones_like(item)}
    )
    schema.save(data_dir)
    Manifest(schema.fingerprint(), {"train": (shard,)}, whole_histories=(shard,)).save(data_dir)


class Service:
    """Answers requests by an exported model with an index or stored states.

    Args:
      model: to export.
      name: its name in the registry.
      workload: of the data.
      folder: for the data, the export, and the index or the states, which are used again.
    """

    def __init__(self, model: CTRModel, name: str, workload: TimedWorkload, folder: pathlib.Path):
        data_dir, export_dir = folder / "data", folder / "export" / name
        self._workload = workload
        self._data_dir = data_dir
        if not (data_dir / "manifest.json").is_file():
            write_users(workload, data_dir)
        data = PreparedData(data_dir)
        if not export_dir.is_dir():
            model(next(iter(data.training(BatchOptions(1, workload.history), workload.seed, 0))))
            export_bundle(model, Release(name, str(data_dir), workload.history), export_dir)
        metadata = open_bundle(export_dir)[1]
        history_slice, groups = metadata["history_slice"], metadata["groups"]
        self.source = STATE if history_slice is None else INDEX
        self.export_dir = export_dir
        bundle = BundleModel(export_dir)
        self._index: BehaviorIndex | BehaviorEngine | None = None
        self._states: LmdbStore | None = None
        if groups is not None:
            self.source = GROUPS
            engine = self._engine(
                groups, max(history_slice["per_key"] if history_slice else 0, groups["events"])
            )
            self._index = engine
            self._states = states = LmdbStore(folder / "states", name)
            group_states = GroupStates(bundle, engine, states)
            encode = functools.partial(bundle.run, ENCODE_GROUPS)
            encode_users(GroupUsers(group_states), encode, GroupSink(group_states.cache), USERS)
        elif history_slice is not None:
            index_dir = folder / f"index-{history_slice['key']}-{history_slice['per_key']}"
            if not index_dir.is_dir():
                build_index(data_dir, index_dir, history_slice["key"], history_slice["per_key"])
            self._index = BehaviorIndex(index_dir, workload.schema(), history_slice["key"])
        else:
            self._states = states = LmdbStore(folder / "states", name)
            users = RecordUsers(data, metadata, workload.history)
            encode = functools.partial(bundle.run, ENCODE_USER)
            encode_users(users, encode, UserStateSink(UserStates(states, metadata)), USERS)
        self._ranker = self.ranker(bundle)

    def ranker(self, bundle: BundleModel) -> Ranker:
        """A ranker that reads index and states at every request, and caches none."""
        return Ranker(bundle, self._index, self._states, cached_states=0)

    def answer(self, user: int, items: np.ndarray) -> np.ndarray:
        """Probabilities [candidates] of dense item ids."""
        seconds = np.full(len(items), _NOW)
        return self._ranker.rank(user, {"item_id": items, "timestamp": seconds})

    def history(self, user: int) -> dict[str, list[int]]:
        """The user's events, field -> values of the history."""
        fields = self._workload.schema().with_role(HISTORY)
        (record,) = (r for r in self._user_records() if int(r["user_id"][0]) == user)
        return {field.name: record[f"hist_{field.name}"].tolist() for field in fields}

    def requests(self, count: int, candidates: int) -> list[tuple[int, np.ndarray]]:
        """Random users, each with candidates of the categories of some of their events."""
        workload = self._workload
        rng = np.random.default_rng([workload.seed, candidates])
        category = workload.category_of(np.arange(workload.items))
        requests = []
        for record in self._user_records():
            user, events = int(record["user_id"][0]), record["hist_category_id"]
            for _ in range(count // USERS):  # as many of every user
                categories = np.unique(rng.choice(events, CATEGORIES))
                items = FIRST_ID + np.flatnonzero(np.isin(category[FIRST_ID:], categories))
                requests.append((user, rng.choice(items, candidates).astype(np.int32)))
        rng.shuffle(requests)
        return requests

    def _engine(self, groups: Mapping[str, Any], per_key: int) -> BehaviorEngine:
        """Index and running statistics of all users' whole histories.

        Args:
          groups: the bundle's metadata of cached groups.
          per_key: events of the index for each user and key, at most.
        """
        folder, schema = self._data_dir.parent, self._workload.schema()
        distinct = [
            n.removeprefix(DISTINCT) for n in groups["statistics"] if n.startswith(DISTINCT)
        ]
        store = LmdbStore(folder / f"totals-{groups['key']}", "totals")
        totals = BehaviorTotals(store, schema, groups["key"], distinct)
        index_dir = folder / f"groups-{groups['key']}-{per_key}"
        with totals.loading() as load:  # one reading of the histories for both
            build_index(self._data_dir, index_dir, groups["key"], per_key, on_history=load)
        return BehaviorEngine(BehaviorIndex(index_dir, schema, groups["key"]), totals)

    def _user_records(self) -> list[dict[str, Any]]:
        schema = self._workload.schema()
        (shard,) = PreparedData(self._data_dir).shards("train")
        return [
            records.decode_record(schema, payload)
            for payload in records.read_records(self._data_dir / shard.path)
        ]
