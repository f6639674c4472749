"""Running statistics: what a batch load and a stream add up to is what counting from scratch gives."""

import numpy as np
import pytest

from dgin_tf.schema import CANDIDATE, FIRST_ID, HISTORY, USER, Field, Schema
from dgin_tf.stores.behavior_overlay import take
from dgin_tf.stores.behavior_totals import BehaviorTotals
from dgin_tf.stores.state_store import InMemoryStore
from dgin_tf.stores.values import DamagedValueError, StaleValueError

BOTH = (HISTORY, CANDIDATE)
TYPES = ("view", "cart", "buy")
SCHEMA = Schema(
    (
        Field("user_id", (USER,), "user_id"),
        Field("item_id", BOTH, "item_id"),
        Field("category_id", BOTH, "category_id"),
        Field("timestamp", BOTH),
        Field("behavior_type", (HISTORY,), "behavior_type"),
        Field("dwell", (HISTORY,)),
    ),
    {"user_id": 31, "item_id": 101, "category_id": 9, "behavior_type": FIRST_ID + len(TYPES)},
    97,
    TYPES,
)


def random_events(count, seed=0):
    """Events of few categories in the order of time, one in nine of an unknown type."""
    rng = np.random.default_rng(seed)
    item = rng.integers(FIRST_ID, 40, count).astype(np.int32)
    kind = rng.integers(FIRST_ID, FIRST_ID + len(TYPES), count)
    return {
        "item_id": item,
        "category_id": (FIRST_ID + item % 5).astype(np.int32),
        "timestamp": np.sort(rng.integers(1, 10**6, count)),
        "behavior_type": np.where(rng.random(count) < 1 / 9, 1, kind).astype(np.int32),
        "dwell": rng.integers(0, 3, count) * rng.integers(0, 10**6, count),  # a third is unknown
    }


def totals(store=None):
    return BehaviorTotals(store or InMemoryStore(), SCHEMA, "category_id", ("item_id",))


def same(actual, reference):
    for name in ("keys", "counts", "newest"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(reference, name))
    assert actual.pairs.keys() == reference.pairs.keys()
    for name, pairs in reference.pairs.items():
        np.testing.assert_array_equal(actual.pairs[name], pairs)
    np.testing.assert_array_equal(actual.amounts["dwell"], reference.amounts["dwell"])


def test_statistics_are_those_of_a_scan():
    events = random_events(97)
    counted = totals().count(events)
    actual = counted.statistics(counted.keys, TYPES)
    for row, key in enumerate(counted.keys):
        own = events["category_id"] == key
        kinds = [np.sum(own & (events["behavior_type"] == 2 + n)) for n in range(3)]
        assert actual["count"][row] == own.sum()
        assert actual["types"][row] == np.count_nonzero(kinds)
        assert [actual[f"count_{name}"][row] for name in TYPES] == kinds
        assert actual["distinct_item_id"][row] == len(set(events["item_id"][own]))
        dwell = events["dwell"][own & (events["dwell"] > 0)]
        assert actual["mean_dwell"][row] == dwell.sum() // len(dwell)
        assert counted.newest[row] == events["timestamp"][own].max()
    assert counted.counts[:, 0].sum() == np.sum(events["behavior_type"] == 1)


@pytest.mark.parametrize("loaded", [0, 41, 97])
@pytest.mark.parametrize("chunk", [1, 13])
def test_a_batch_load_and_a_stream_give_what_counting_from_scratch_gives(loaded, chunk):
    events, running = random_events(97), totals()
    with running.loading() as load:
        load(7, take(events, slice(loaded)))
    for number, start in enumerate(range(loaded, 97, chunk)):
        delivery = take(events, slice(start, start + chunk))
        assert running.append(7, delivery, sequence=number + 1)
        assert not running.append(7, delivery, sequence=number + 1)
    same(running.of(7), running.count(events))


def test_every_change_has_a_version_of_its_own():
    running, versions = totals(), []
    for number in range(3):
        running.append(7, random_events(5, number), sequence=number)
        versions.append(running.account(7).version)
    with running.loading() as load:
        load(7, random_events(5))
    versions.append(running.account(7).version)
    assert versions == [1, 2, 3, 4]
    assert running.account(8).version == 0


def test_events_that_come_while_a_batch_is_written_are_not_lost(monkeypatch):
    store, events = InMemoryStore(), random_events(23)
    running, stream, swap = totals(store), totals(store), store.swap_many

    def beaten(reference, values):
        monkeypatch.setattr(store, "swap_many", swap)
        stream.append(7, take(events, slice(19, 23)), sequence=1)
        return swap(reference, values)

    monkeypatch.setattr(store, "swap_many", beaten)
    with running.loading() as load:
        load(5, take(events, slice(3)))
        load(7, take(events, slice(19)))
    same(running.of(5), running.count(take(events, slice(3))))
    same(running.of(7), running.count(events))


def test_every_kind_of_store_keeps_accounts(store):
    running, events = totals(store), random_events(11)
    with running.loading() as load:
        load(7, take(events, slice(5)))
        load(5, events)
    assert running.append(7, take(events, slice(5, 11)), sequence=1)
    for user in (5, 7):
        same(totals(store).of(user), running.count(events))
    assert sorted(running.users()) == [5, 7]


def test_late_events_that_a_load_has_are_dropped_by_the_load_after_it():
    running, events = totals(), random_events(13)
    for number in range(13):
        running.append(7, take(events, slice(number, number + 1)), sequence=number)
    listed = []
    for _ in range(2):
        with running.loading() as load:
            load(7, take(events, slice(8)))
        listed.append(running.account(7).numbers.tolist())
        same(running.of(7), running.count(events))
    assert listed == [list(range(13)), list(range(8, 13))]


def test_somebody_unknown_has_no_statistics():
    for user in (-1, 0, 5):
        actual = totals().of(user)
        assert not len(actual.keys)
        assert actual.statistics(actual.keys, TYPES)["count"].shape == (0,)


def test_totals_of_other_fields_are_not_misread():
    store = InMemoryStore()
    totals(store).append(7, random_events(5), sequence=1)
    with pytest.raises(StaleValueError, match="experiments.build_index --totals_store"):
        BehaviorTotals(store, SCHEMA, "category_id").of(7)


def test_totals_of_what_events_have_not_are_refused():
    with pytest.raises(ValueError, match=r"got \['price'\]"):
        BehaviorTotals(InMemoryStore(), SCHEMA, "item_id", ("price",))


def test_a_damaged_account_is_its_users_affair_and_a_batch_load_counts_it_anew():
    store = InMemoryStore()
    accounts, events = totals(store), random_events(40)
    with accounts.loading() as load:
        load(2, events), load(3, events)
    store.put_many({2: store.get(2)[:-3]})
    accounts.check()
    assert list(accounts.damaged_users()) == [2]
    with pytest.raises(DamagedValueError):
        accounts.append(2, take(events, slice(1)), 1)
    assert accounts.append(3, take(events, slice(1)), 1)
    with accounts.loading() as load:
        load(2, events)
    assert list(accounts.damaged_users()) == []
    same(accounts.of(2), accounts.count(events))
    accounts.drop(2)
    assert accounts.account(2).version == 0
