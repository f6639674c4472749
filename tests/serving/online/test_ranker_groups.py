"""Scores of cached groups and of one list of the index are those of the whole history in the graph."""

import dataclasses
import functools
import itertools
import pathlib
import shutil

import numpy as np
import pytest

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.records import Manifest, decode_record, encode_record, read_records, write_records
from dgin_tf.schema import FIRST_ID, HISTORY, Field, Schema
from dgin_tf.serving.encode_users import GroupSink, GroupUsers, encode_users
from dgin_tf.serving.export.signatures import ENCODE_GROUPS, ENCODE_RETRIEVED
from dgin_tf.serving.online.cached_groups import CachedGroups
from dgin_tf.serving.online.ranker import Ranker
from dgin_tf.stores.behavior_engine import BehaviorEngine
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.behavior_overlay import take
from dgin_tf.stores.behavior_totals import BehaviorTotals
from dgin_tf.stores.index_building import build_index
from dgin_tf.stores.state_store import InMemoryStore, StoreError
from tests.serving.exported import export
from tests.serving.whole_histories import histories, longest, one_split, some_candidates, whole

GROUPS, EVENTS, OWN = 6, 2, 4
TYPES = ("view", "cart", "buy")
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


def make_engine(data, folder, limit=OWN, key="category_id"):
    one_split(data, folder / "one")
    store = InMemoryStore()
    distinct = () if key == "item_id" else ("item_id",)
    totals = BehaviorTotals(store.scoped("totals"), data.schema, key, distinct)
    with totals.loading() as load:
        build_index(folder / "one", folder / "index", key, limit, on_history=load)
    index = BehaviorIndex(folder / "index", data.schema, key)
    return BehaviorEngine(index, totals)


def test_cached_groups_and_the_candidates_own_events_score_as_the_whole_history_does(
    dgin, data, ranker
):
    comparisons = 0
    for user, events in histories(data):
        candidates = some_candidates(events)
        reference = whole(dgin.model, user, events, candidates)
        for _ in range(2):  # made, and kept
            np.testing.assert_allclose(ranker.rank(user, candidates), reference, atol=1e-6)
        comparisons += len(events["item_id"]) > GROUPS * EVENTS
    assert comparisons > 10


def test_without_a_limit_all_groups_are_cached_and_no_more(data, engine, tmp_path):
    dgin = export("dgin", data, tmp_path, **{**SETTINGS, "groups": None})
    ranker = Ranker(dgin.version, index=engine)
    assert ranker.model.metadata["groups"]["groups"] is None
    for user, events in histories(data):
        candidates = some_candidates(events)
        reference = whole(dgin.model, user, events, candidates)
        np.testing.assert_allclose(ranker.rank(user, candidates), reference, atol=1e-6)
        categories = np.unique(events["category_id"])
        mask = ranker.users.group_state(user)["group_module__mask"]
        assert mask.shape == (1, max(1, sum(categories >= FIRST_ID)))
    users = [user for user, _ in histories(data)]
    encode = functools.partial(ranker.model.run, ENCODE_GROUPS)
    _, inputs = ranker.users.inputs(users)
    assert encode(inputs)["group_module__mask"].shape[1] > GROUPS


def test_a_request_reads_no_more_than_the_lists_of_its_candidates(data, ranker, monkeypatch):
    user, events = longest(data)
    ranker.users.group_state(user)
    calls = []
    call = ranker.model.call
    monkeypatch.setattr(
        ranker.model,
        "call",
        lambda name, inputs: calls.append((name, inputs)) or call(name, inputs),
    )
    ranker.rank(user, some_candidates(take(events, slice(3, -3))))
    assert ENCODE_GROUPS not in [name for name, _ in calls]
    inputs = next(inputs for name, inputs in calls if name == ENCODE_RETRIEVED)
    assert inputs["hist_item_id"].shape[1] <= 2 * OWN


def test_a_stream_gives_what_loading_everything_gives(dgin, data, tmp_path):
    engine = make_engine(data, tmp_path, limit=100)
    ranker = Ranker(dgin.version, index=engine)
    user, events = longest(data)
    later = take(events, slice(-9, None))
    later = {**later, "timestamp": later["timestamp"] + 10**6}
    ranker.rank(user, some_candidates(events))
    for number, start in enumerate((0, 4, 7)):
        delivery = take(later, slice(start, (4, 7, 9)[number]))
        assert engine.append(user, delivery, sequence=number + 1)
        assert not engine.append(user, delivery, sequence=number + 1)
    engine.append(user, take(events, slice(3)), sequence=9)  # which the batch brought before
    whole_history = {name: np.append(values, later[name]) for name, values in events.items()}
    actual = engine.totals.of(user)
    np.testing.assert_array_equal(actual.counts, engine.totals.count(whole_history).counts)
    candidates = some_candidates(whole_history)
    reference = whole(dgin.model, user, whole_history, candidates)
    np.testing.assert_allclose(ranker.rank(user, candidates), reference, atol=1e-6)


@pytest.mark.parametrize("written", [False, True])
def test_a_request_during_a_delivery_that_crashes_leaves_no_stale_state(
    dgin, data, tmp_path, monkeypatch, written
):
    engine = make_engine(data, tmp_path, limit=100)
    ranker = Ranker(dgin.version, index=engine)
    user, events = longest(data)
    whole_history = {name: np.append(values, values[-1:]) for name, values in events.items()}
    whole_history["timestamp"][-1] += 10**6
    new, candidates = take(whole_history, slice(-1, None)), some_candidates(whole_history)
    store = engine.totals._store
    swap = store.swap_many

    def crash(reference, values):
        if written:
            swap(reference, values)
        ranker.rank(user, candidates)
        raise StoreError("the store is gone.")

    with monkeypatch.context() as context:
        context.setattr(store, "swap_many", crash)
        with pytest.raises(StoreError):
            engine.append(user, new, sequence=1)
    assert engine.append(user, new, sequence=1) != written
    reference = whole(dgin.model, user, whole_history, candidates)
    assert np.abs(reference - whole(dgin.model, user, events, candidates)).max() > 1e-3
    for _ in range(2):
        np.testing.assert_allclose(ranker.rank(user, candidates), reference, atol=1e-6)


def test_a_state_is_kept_under_the_version_of_its_events(dgin, data, tmp_path, monkeypatch):
    engine = make_engine(data, tmp_path, limit=100)
    ranker = Ranker(dgin.version, index=engine)
    user, events = longest(data)
    version, later = engine.version, take(events, slice(-1, None))

    def overtaken(user):  # an event comes after the version was read
        actual = version(user)
        engine.append(user, {**later, "timestamp": later["timestamp"] + 10**6}, sequence=1)
        return actual

    monkeypatch.setattr(engine, "version", overtaken)
    state = ranker.users.group_state(user)
    actual = ranker.users.cache.read(user, version(user))
    np.testing.assert_array_equal(actual["group_module__groups"], state["group_module__groups"])


@pytest.fixture(scope="module")
def typed_data(data, tmp_path_factory):
    """The same users, whose events have one of three types and a place, some of them a dwell time."""
    folder, fields = tmp_path_factory.mktemp("typed"), [*data.schema.fields]
    fields.append(Field("behavior_type", (HISTORY,), "behavior_type"))
    fields.append(Field("location", (HISTORY,), "location"))
    fields.append(Field("dwell", (HISTORY,)))
    sizes = {**data.schema.vocabulary_sizes, "behavior_type": FIRST_ID + len(TYPES), "location": 7}
    schema = Schema(tuple(fields), sizes, data.schema.max_history, TYPES)
    (shard,), rng = data.shards("test"), np.random.default_rng(5)
    shutil.copytree(data.data_dir, folder, dirs_exist_ok=True)
    for path in ("train", "validation", "test"):
        records = []
        for payload in read_records(
            data.data_dir / pathlib.Path(path) / pathlib.Path(shard.path).name
        ):
            record = decode_record(data.schema, payload)
            count = len(record["hist_item_id"])
            types = rng.integers(FIRST_ID, FIRST_ID + len(TYPES), count)
            dwell = rng.integers(0, 2, count) * rng.integers(0, 10**6, count)
            places = rng.integers(1, 7, count)
            more = {"hist_behavior_type": types, "hist_dwell": dwell, "hist_location": places}
            records.append(encode_record(schema, {**record, **more}))
        write_records(folder / path / pathlib.Path(shard.path).name, records)
    schema.save(folder)
    manifest = Manifest.load(data.data_dir, data.schema)
    dataclasses.replace(manifest, schema_fingerprint=schema.fingerprint()).save(folder)
    (folder / "vocabulary" / "behavior_type.txt").write_text("\n".join(TYPES) + "\n")
    (folder / "vocabulary" / "location.txt").write_text("\n".join("abcde") + "\n")
    return PreparedData(folder)


@pytest.mark.parametrize("key", ["item_id", pytest.param("category_id", marks=pytest.mark.slow)])
def test_types_amounts_and_other_keys_score_as_the_whole_history_does(typed_data, tmp_path, key):
    dgin = export("dgin", typed_data, tmp_path / "export", **{**SETTINGS, "key": key})
    engine = make_engine(typed_data, tmp_path, key=key)
    ranker = Ranker(dgin.version, index=engine)
    assert dgin.model.serving_spec.groups.statistic_names[:5] == (
        "count",
        "types",
        "count_view",
        "count_cart",
        "count_buy",
    )
    assert dgin.model.serving_spec.groups.statistic_names[-1] == "mean_dwell"
    rng = np.random.default_rng(3)
    for user, events in itertools.islice(histories(typed_data), 11):
        candidates = some_candidates(events)
        new = {**take(events, rng.integers(0, len(events["item_id"]), 2))}
        new["timestamp"] = events["timestamp"][-1:] + np.array([100, 200])
        whole_history = {name: np.append(values, new[name]) for name, values in events.items()}
        for history in (events, whole_history):
            reference = whole(dgin.model, user, history, candidates)
            for _ in range(2):  # made, and kept
                actual = ranker.rank(user, candidates)
                np.testing.assert_allclose(actual, reference, atol=1e-6)
            engine.append(user, new, sequence=1)


def test_a_state_of_other_weights_is_made_anew(data, ranker, monkeypatch):
    store, (user, _) = InMemoryStore(), next(histories(data))
    monkeypatch.setattr(ranker.users, "cache", CachedGroups(store, ranker.model.metadata))
    state = ranker.users.group_state(user)
    other = CachedGroups(store, {**ranker.model.metadata, "weights_digest": "other"})
    version = ranker.users.engine.version(user)
    assert other.read(user, version) is None
    actual = CachedGroups(store, ranker.model.metadata).read(user, version)
    np.testing.assert_array_equal(actual["group_module__groups"], state["group_module__groups"])
    assert CachedGroups(store, ranker.model.metadata).read(user, version + 1) is None


def test_states_of_many_users_are_made_in_one_call_and_once(dgin, data, engine, monkeypatch):
    users = [user for user, _ in itertools.islice(histories(data), 9)]
    one_by_one = Ranker(dgin.version, index=engine)
    reference = {user: one_by_one.users.group_state(user) for user in users}
    ranker, calls = Ranker(dgin.version, index=engine), []
    call = ranker.model.call
    monkeypatch.setattr(
        ranker.model, "call", lambda name, inputs: calls.append(name) or call(name, inputs)
    )

    def encode_some(some):
        monkeypatch.setattr(engine, "users", lambda: iter(some))
        sink = GroupSink(ranker.users.cache)
        encode = functools.partial(ranker.model.run, ENCODE_GROUPS)
        return encode_users(GroupUsers(ranker.users), encode, sink).users

    assert encode_some(users[:2]) == 2
    assert encode_some([*users, 10**6]) == 7  # the last one is unknown
    assert encode_some(users) == 0
    assert calls == [ENCODE_GROUPS, ENCODE_GROUPS]
    for user, state in reference.items():
        actual = ranker.users.group_state(user)
        assert actual.keys() == state.keys()
        for name, array in state.items():
            np.testing.assert_allclose(actual[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
    assert len(calls) == 2


def test_somebody_unknown_has_no_groups(ranker):
    state = ranker.users.group_state(10**6)
    assert not np.any(state["group_module__mask"])


def test_groups_of_an_earlier_time_are_refused(data, ranker):
    user, events = next(histories(data))
    with pytest.raises(ValueError, match="leave `before` out"):
        ranker.rank(user, some_candidates(events), before=9)


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
    user, events = next(histories(data))
    candidates = some_candidates(events)
    reference = whole(alone.model, user, events, candidates)
    np.testing.assert_allclose(ranker.rank(user, candidates), reference, atol=1e-6)
