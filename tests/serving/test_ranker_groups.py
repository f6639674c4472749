"""Scores of kept groups and of one list of the index are those of the whole history in the graph."""

import pathlib
import shutil

import numpy as np
import pytest

from dgin_tf.records import Manifest, decode_record, read_records
from dgin_tf.serving.kept_groups import KeptGroups
from dgin_tf.serving.ranker import Ranker
from dgin_tf.serving.signatures import ENCODE_FOUND, ENCODE_GROUPS
from dgin_tf.stores.behavior_engine import BehaviorEngine
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.behavior_overlay import take
from dgin_tf.stores.behavior_totals import BehaviorTotals
from dgin_tf.stores.index_building import build_index
from dgin_tf.stores.state_store import InMemoryStore
from tests.serving.exported import export

GROUPS, EVENTS, OWN = 6, 2, 4
SETTINGS = {
    "key": "category_id",
    "groups": GROUPS,
    "events": EVENTS,
    "target_events": OWN,
    "user_fields": ("user_id",),
}


@pytest.fixture(scope="module")
def dgin(data, tmp_path_factory):
    return export("dgin", data, tmp_path_factory.mktemp("export"), **SETTINGS)


@pytest.fixture(scope="module")
def engine(data, tmp_path_factory):
    return make_engine(data, tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def ranker(dgin, engine):
    return Ranker(dgin.version, index=engine)


def make_engine(data, folder, limit=OWN):
    # The splits of this random data tell different stories of the same people: take one.
    shutil.copytree(pathlib.Path(data.data_dir) / "test", folder / "one" / "test")
    data.schema.save(folder / "one")
    Manifest(data.schema.fingerprint(), {"test": data.shards("test")}).save(folder / "one")
    store = InMemoryStore()
    totals = BehaviorTotals(store.scoped("totals"), data.schema, "category_id", ("item_id",))
    with totals.loading() as load:
        build_index(folder / "one", folder / "index", "category_id", limit, on_history=load)
    index = BehaviorIndex(folder / "index", data.schema, "category_id", store.scoped("late"))
    return BehaviorEngine(index, totals)


def histories(data):
    (shard,) = data.shards("test")
    for payload in read_records(f"{data.data_dir}/{shard.path}"):
        record = decode_record(data.schema, payload)
        names = ("item_id", "category_id", "timestamp")
        yield int(record["user_id"][0]), {name: record[f"hist_{name}"] for name in names}


def whole(model, person, events, candidates, length=60):
    """The model's own scores of a whole history, all of one length so that it is traced once."""
    count = len(events["item_id"])
    features = {f"hist_{n}": np.pad(v, (0, length - count))[None] for n, v in events.items()}
    features |= {f"cand_{name}": values[None] for name, values in candidates.items()}
    size = features["cand_item_id"].shape
    return model.predict_on_batch(
        {
            **features,
            "hist_mask": np.arange(length)[None] < count,
            "user_id": np.array([person], np.int32),
            "cand_mask": np.ones(size, bool),
            "label": np.zeros(size, np.float32),
        }
    )[0]


def some_candidates(events, now=1_600_000_000):
    """Two of the categories that somebody knows, and an item that nobody does."""
    return {
        "item_id": np.append(events["item_id"][[0, -1]], 1).astype(np.int32),
        "category_id": np.append(events["category_id"][[0, -1]], 1).astype(np.int32),
        "timestamp": np.full(3, now),
    }


def test_kept_groups_and_the_candidates_own_events_score_as_the_whole_history_does(
    dgin, data, ranker
):
    compared = 0
    for person, events in histories(data):
        candidates = some_candidates(events)
        expected = whole(dgin.model, person, events, candidates)
        for _ in range(2):  # made, and kept
            np.testing.assert_allclose(ranker.rank_person(person, candidates), expected, atol=1e-6)
        compared += len(events["item_id"]) > GROUPS * EVENTS
    assert compared > 10


def test_a_request_reads_no_more_than_the_lists_of_its_candidates(data, ranker, monkeypatch):
    person, events = max(histories(data), key=lambda found: len(found[1]["item_id"]))
    ranker.kept_state(person)
    asked = []
    run = ranker._run
    monkeypatch.setattr(
        ranker, "_run", lambda name, inputs: asked.append((name, inputs)) or run(name, inputs)
    )
    ranker.rank_person(person, some_candidates(take(events, slice(3, -3))))  # asked for anew
    assert ENCODE_GROUPS not in [name for name, _ in asked]
    found = next(inputs for name, inputs in asked if name == ENCODE_FOUND)
    assert found["hist_item_id"].shape[1] <= 2 * OWN


def test_a_stream_gives_what_loading_everything_gives(dgin, data, tmp_path, monkeypatch):
    engine = make_engine(data, tmp_path, limit=100)
    ranker = Ranker(dgin.version, index=engine)
    person, events = max(histories(data), key=lambda found: len(found[1]["item_id"]))
    later = take(events, slice(-9, None))
    later = {**later, "timestamp": later["timestamp"] + 10**6}
    ranker.rank_person(person, some_candidates(events))
    for number, start in enumerate((0, 4, 7)):
        delivery = take(later, slice(start, (4, 7, 9)[number]))
        assert engine.append(person, delivery, sequence=number + 1)
        assert not engine.append(person, delivery, sequence=number + 1)
    engine.append(person, take(events, slice(3)), sequence=9)  # which the batch brought before
    joined = {name: np.append(values, later[name]) for name, values in events.items()}
    found = engine.totals.of(person)
    np.testing.assert_array_equal(found.counts, engine.totals.count(joined).counts)
    candidates = some_candidates(joined)
    expected = whole(dgin.model, person, joined, candidates)
    np.testing.assert_allclose(ranker.rank_person(person, candidates), expected, atol=1e-6)
    # A week later the batch has the events up to the fourth, the others are late still.
    with engine.totals.loading() as load:
        load(person, {name: values[:-5] for name, values in joined.items()})
    held = {name: values[:-5] for name, values in joined.items()}
    monkeypatch.setattr(
        engine.index, "indexed", lambda user, keys: take(held, np.isin(held["category_id"], keys))
    )
    assert engine.catch_up() == 5
    np.testing.assert_array_equal(engine.totals.of(person).counts, found.counts)


def test_a_state_of_other_weights_is_made_anew(data, ranker, monkeypatch):
    store, (person, _) = InMemoryStore(), next(histories(data))
    monkeypatch.setattr(ranker, "_kept", KeptGroups(store, ranker.metadata))
    state = ranker.kept_state(person)
    other = KeptGroups(store, {**ranker.metadata, "weights_digest": "other"})
    version = ranker._index.version(person)
    assert other.read(person, version) is None
    found = KeptGroups(store, ranker.metadata).read(person, version)
    np.testing.assert_array_equal(found["group_module_groups"], state["group_module_groups"])
    assert KeptGroups(store, ranker.metadata).read(person, version + 1) is None


def test_somebody_unknown_has_no_groups(ranker):
    state = ranker.kept_state(10**6)
    assert not np.any(state["group_module_mask"])


def test_groups_of_an_earlier_time_are_refused(data, ranker):
    person, events = next(histories(data))
    with pytest.raises(ValueError, match="leave `before` out"):
        ranker.rank_person(person, some_candidates(events), before=9)


def test_an_index_without_statistics_is_refused(dgin, engine, data):
    with pytest.raises(ValueError, match="give a BehaviorEngine"):
        Ranker(dgin.version, index=engine.index)
    few = BehaviorTotals(InMemoryStore(), data.schema, "category_id")
    with pytest.raises(ValueError, match=r"groups by \['distinct_item_id'\]"):
        Ranker(dgin.version, index=BehaviorEngine(engine.index, few))


def test_totals_of_another_key_are_refused(engine, data):
    other = BehaviorTotals(InMemoryStore(), data.schema, "item_id")
    with pytest.raises(ValueError, match="totals of the index's schema and key"):
        BehaviorEngine(engine.index, other)


def test_without_a_target_module_the_groups_are_all(data, tmp_path, engine):
    alone = export("dgin", data, tmp_path / "alone", **{**SETTINGS, "target_module": False})
    ranker = Ranker(alone.version, index=engine)
    person, events = next(histories(data))
    candidates = some_candidates(events)
    expected = whole(alone.model, person, events, candidates)
    np.testing.assert_allclose(ranker.rank_person(person, candidates), expected, atol=1e-6)
