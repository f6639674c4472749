"""The engine: a stream, batch loads and what may go wrong between them give what counting anew gives."""

import numpy as np
import pytest

from dgin_tf.records import Manifest, Shard, encode_record, write_records
from dgin_tf.stores.behavior_blocks import newest_per_key
from dgin_tf.stores.behavior_engine import TOTAL, BehaviorEngine
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.behavior_overlay import take
from dgin_tf.stores.behavior_totals import BehaviorTotals
from dgin_tf.stores.index_building import build_index
from dgin_tf.stores.state_store import InMemoryStore
from tests.stores.test_behavior_totals import SCHEMA, random_events, same

PERSON, COUNT, LOADED = 7, 53, 41
ALL = 200  # longer than any list


class World:
    """Batch loads in a folder, and one store."""

    def __init__(self, folder, key="category_id", limit=ALL):
        self._folder, self._key, self._limit, self._loads = folder, key, limit, 0
        self.store = InMemoryStore()
        distinct = () if key == "item_id" else ("item_id",)
        self.totals = BehaviorTotals(self.store, SCHEMA, key, distinct)

    def load(self, events):
        """A batch of one person's history: prepared, indexed and counted."""
        self._loads += 1
        data_dir = self._folder / f"data{self._loads}"
        (data_dir / "train").mkdir(parents=True)
        record = {
            "user_id": np.array([PERSON]),
            **{f"hist_{name}": values for name, values in events.items()},
            **{f"cand_{name}": np.array([5]) for name in ("item_id", "category_id", "timestamp")},
            "cand_position": np.array([len(events["timestamp"])]),
            "label": np.array([1]),
        }
        write_records(data_dir / "train" / "a.tfrecord", [encode_record(SCHEMA, record)])
        SCHEMA.save(data_dir)
        shard = Shard("train/a.tfrecord", 97, 1, 1, 1, 1)
        Manifest(SCHEMA.fingerprint(), {}, whole_histories=(shard,)).save(data_dir)
        with self.totals.loading() as load:
            index_dir = self._folder / "index"
            build_index(data_dir, index_dir, self._key, self._limit, on_history=load)

    def engine(self):
        """An engine that has just started."""
        return BehaviorEngine(BehaviorIndex(self._folder / "index", SCHEMA, self._key), self.totals)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def stream(engine, events, begin, end, size=1):
    for number in range(begin, end, size):
        assert engine.append(PERSON, take(events, slice(number, min(number + size, end))), number)


def same_as_scratch(engine, events, limit=ALL):
    """Statistics, lists and groups are those of a history, listed and counted anew."""
    key = engine.totals.key
    same(engine.totals.of(PERSON), engine.totals.count(events))
    actual = engine.lookup(PERSON, np.unique(events[key]))
    remaining = newest_per_key(events[key], limit)
    for name, values in events.items():
        np.testing.assert_array_equal(actual[name], values[remaining])
    version, groups = engine.groups(PERSON, groups=99, events=limit)
    assert version == engine.version(PERSON)
    np.testing.assert_array_equal(groups["item_id"], actual["item_id"][actual[key] >= 2])
    for row, keys in enumerate(groups[key]):
        assert groups[TOTAL + "count"][row] == np.sum(events[key] == keys)


@pytest.mark.parametrize("key", ["category_id", "item_id"])
@pytest.mark.parametrize("limit", [1, 2, 5, ALL])
@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("second", [1, 50_000])
def test_a_stream_in_order_is_a_recomputation_however_short_the_lists_are(
    tmp_path, key, limit, size, second
):
    world, events = World(tmp_path, key, limit), random_events(COUNT)
    events["timestamp"] //= second  # of the longer one three events are in each
    world.load(take(events, slice(LOADED)))
    stream(world.engine(), events, LOADED, COUNT, size)
    same_as_scratch(world.engine(), events, limit)


def test_events_alike_in_every_field_count_as_often_as_they_came(world):
    events = random_events(13)
    world.load(take(events, slice(9)))
    for name in events:  # two pairs, one within a delivery and one in two
        events[name][9] = events[name][10]
        events[name][11] = events[name][12]
    engine = world.engine()
    assert engine.append(PERSON, take(events, slice(9, 11)), sequence=1)
    for number in (11, 12, 12):
        engine.append(PERSON, take(events, slice(number, number + 1)), number)
    same_as_scratch(engine, events)


@pytest.mark.parametrize("limit", [2, ALL])
def test_catching_up_with_a_rebuilt_index_can_be_repeated(tmp_path, limit):
    world, events = World(tmp_path, limit=limit), random_events(COUNT)
    world.load(take(events, slice(LOADED)))
    stream(world.engine(), events, LOADED, 49)
    world.load(take(events, slice(45)))
    engine = world.engine()
    for _ in range(3):
        assert engine.catch_up() == 4
        same_as_scratch(engine, take(events, slice(49)), limit)


def test_a_batch_load_that_is_done_twice_changes_nothing(world):
    events = random_events(COUNT)
    world.load(take(events, slice(LOADED)))
    stream(world.engine(), events, LOADED, COUNT)
    for _ in range(3):
        world.load(take(events, slice(45)))
        same_as_scratch(world.engine(), events)


@pytest.mark.parametrize("limit", [2, ALL])
def test_events_between_a_batch_load_and_catching_up_count_once(tmp_path, limit):
    world, events = World(tmp_path, limit=limit), random_events(COUNT)
    world.load(take(events, slice(LOADED)))
    old = world.engine()
    world.load(take(events, slice(45)))
    stream(old, events, LOADED, 49)  # the first four are in the batch, not in the index in use
    engine = world.engine()
    stream(engine, events, 49, COUNT)
    for _ in range(2):
        assert engine.catch_up() == COUNT - 45
        same_as_scratch(engine, events, limit)


def test_an_event_that_a_batch_lacks_counts_though_its_list_is_full_of_newer_ones(tmp_path):
    world, events = World(tmp_path, limit=1), random_events(COUNT)
    world.load(take(events, slice(LOADED)))
    stream(world.engine(), events, LOADED, COUNT - 1)
    lacking, *_ = (
        row
        for row in range(LOADED, COUNT - 1)
        if events["category_id"][row] in events["category_id"][row + 1 : -1]
    )
    world.load({name: np.delete(values, [lacking, COUNT - 1]) for name, values in events.items()})
    engine = world.engine()
    stream(engine, events, COUNT - 1, COUNT)  # which no load has seen
    assert engine.catch_up() == 2  # the other was compared with the whole history
    same_as_scratch(engine, events, limit=1)


def test_groups_are_those_of_their_version_whatever_comes_meanwhile(world, monkeypatch):
    events = random_events(COUNT)
    world.load(take(events, slice(LOADED)))
    engine, total = world.engine(), world.totals.total
    before = engine.version(PERSON)

    def overtaken(account):
        stream(engine, events, LOADED, COUNT, COUNT)
        return total(account)

    with monkeypatch.context() as context:
        context.setattr(world.totals, "total", overtaken)
        version, groups = engine.groups(PERSON, groups=99, events=ALL)
    assert version == before != engine.version(PERSON)
    assert len(groups["item_id"]) == LOADED
    same_as_scratch(engine, events)


def test_catching_up_that_was_stopped_is_done_again(world, monkeypatch):
    events = random_events(COUNT)
    world.load(take(events, slice(LOADED)))
    old = world.engine()
    world.load(take(events, slice(45)))
    stream(old, events, LOADED, COUNT)
    engine = world.engine()
    with monkeypatch.context() as context:
        context.setattr(world.store, "swap_many", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.catch_up()
    engine.catch_up()
    same_as_scratch(engine, events)


def test_readers_of_the_replaced_index_still_find_what_is_in_the_new_one(world):
    events = random_events(COUNT)
    world.load(take(events, slice(LOADED)))
    old = world.engine()
    stream(old, events, LOADED, COUNT)
    world.load(events)
    world.engine().catch_up()
    same_as_scratch(old, events)


def test_a_delivery_that_failed_leaves_nothing_and_is_taken_the_next_time(world, monkeypatch):
    events = random_events(COUNT)
    world.load(take(events, slice(LOADED)))
    engine = world.engine()
    before = engine.version(PERSON)
    with monkeypatch.context() as context:
        context.setattr(world.store, "swap_many", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.append(PERSON, take(events, slice(LOADED, COUNT)), sequence=1)
    same_as_scratch(engine, take(events, slice(LOADED)))
    assert engine.version(PERSON) == before
    assert engine.append(PERSON, take(events, slice(LOADED, COUNT)), sequence=1)
    same_as_scratch(engine, events)
    assert engine.version(PERSON) != before


def test_another_index_is_another_version(world):
    events = random_events(COUNT)
    world.load(take(events, slice(LOADED)))
    old = world.engine()
    world.load(events)
    assert old.totals.account(PERSON).version == world.engine().totals.account(PERSON).version
    assert old.version(PERSON) != world.engine().version(PERSON)
    assert world.engine().version(PERSON + 1) == 0


def test_what_the_batch_brought_counts_once_but_not_what_is_older_than_a_full_list(tmp_path):
    world, events = World(tmp_path, limit=3), random_events(LOADED)
    world.load(events)
    engine = world.engine()
    listed = engine.lookup(PERSON, np.unique(events["category_id"]))
    assert engine.append(PERSON, listed, sequence=1)
    unheard = {name: values[:1] for name, values in events.items()} | {"timestamp": np.array([0])}
    assert engine.append(PERSON, unheard, sequence=2)  # as the documentation says
    same_as_scratch(engine, events, limit=3)


def test_an_index_with_an_overlay_is_refused(world, tmp_path):
    world.load(random_events(5))
    index = BehaviorIndex(tmp_path / "index", SCHEMA, "category_id", InMemoryStore())
    with pytest.raises(ValueError, match="reads none of an overlay"):
        BehaviorEngine(index, world.totals)
