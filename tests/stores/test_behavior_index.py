"""The index answers as a dictionary of all events would, before and after more events came."""

import json
import os
import shutil

import numpy as np
import pytest

from dgin_tf.integrity import read_json, sealed
from dgin_tf.records import Manifest, Shard, encode_record, write_records
from dgin_tf.schema import FIRST_ID, HISTORY
from dgin_tf.stores.behavior_index import BLOCKS_FILE, METADATA_FILE, OFFSETS_FILE, BehaviorIndex
from dgin_tf.stores.index_building import build_index
from dgin_tf.stores.state_store import InMemoryStore
from dgin_tf.stores.values import StaleValueError
from tests.oracles.behavior_tree import histories_of, lookup, tree_of
from tests.prepared import CATEGORIES, USERS, category_of, make_record, make_schema

SCHEMA = make_schema()
LIMIT = 4
KEYS = range(FIRST_ID, CATEGORIES)


def write_records_of(data_dir, records_of_splits):
    """Writes a prepared data set of these records: split -> list of arrays."""
    splits = {}
    for split, records in records_of_splits.items():
        (data_dir / split).mkdir(parents=True)
        write_records(data_dir / split / "a.tfrecord", [encode_record(SCHEMA, r) for r in records])
        count = len(records)
        splits[split] = (Shard(f"{split}/a.tfrecord", 47, count, count, 2 * count, 2),)
    SCHEMA.save(data_dir)
    shards = tuple(shard for shards in splits.values() for shard in shards)
    Manifest(SCHEMA.fingerprint(), splits, whole_histories=shards).save(data_dir)
    return shards


def crowded_record(user, rng):
    """A record whose events share seconds."""
    record = make_record(SCHEMA, user, rng)
    record["hist_timestamp"] = 1_500_000_000 + np.sort(
        rng.integers(0, 23, len(record["hist_timestamp"]))
    )
    return record


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set with every user in one split; its folder and the users' whole histories."""
    folder, rng = tmp_path_factory.mktemp("prepared"), np.random.default_rng(11)
    users = rng.permutation(np.arange(FIRST_ID, USERS - 5))
    parts = dict(zip(("train", "validation", "test"), np.array_split(users, 3), strict=True))
    shards = write_records_of(
        folder,
        {split: [crowded_record(user, rng) for user in part] for split, part in parts.items()},
    )
    return folder, histories_of(folder, SCHEMA, shards)


@pytest.fixture(scope="module")
def built(data, tmp_path_factory):
    """Key -> index of the data set, lists cut at LIMIT."""
    folder = tmp_path_factory.mktemp("indexes")
    for key in ("category_id", "item_id"):
        build_index(data[0], folder / key, key, LIMIT)
    return folder


def assert_same(actual, reference):
    for field in SCHEMA.with_role(HISTORY):
        values = reference.get(field.name, [])
        assert actual[field.name].tolist() == list(values)
        assert actual[field.name].dtype == field.dtype


@pytest.mark.parametrize("key", ["category_id", "item_id"])
def test_every_look_up_equals_the_dictionarys(data, built, key):
    index, histories = BehaviorIndex(built / key, SCHEMA, key), data[1]
    tree, rng = tree_of(histories, key, LIMIT), np.random.default_rng(5)
    for user in range(USERS + 3):
        keys = sorted(tree.get(user, ()))
        assert index.keys(user).tolist() == keys
        for target_keys in (keys, keys[:1], keys[1::2] + [0, 1, 10**9], rng.permutation(keys)[:3]):
            assert_same(index.lookup(user, target_keys), lookup(tree, histories, user, target_keys))


@pytest.mark.parametrize("newest", [1, 3, 10**6])
def test_a_history_slice_is_the_newest_events_and_before_them_those_of_the_keys(
    data, built, newest
):
    index, histories = BehaviorIndex(built / "category_id", SCHEMA, "category_id"), data[1]
    tree, rng = tree_of(histories, "category_id", LIMIT), np.random.default_rng(6)
    for user in range(USERS + 3):
        remaining = lookup(tree, histories, user, tree.get(user, ()))
        target_keys = rng.permutation(list(tree.get(user, ())))[:3]
        count = len(remaining.get("timestamp", ()))
        rows = [
            n
            for n in range(count)
            if n >= count - newest or remaining["category_id"][n] in target_keys
        ]
        reference = {name: [values[n] for n in rows] for name, values in remaining.items()}
        assert_same(index.history_slice(user, target_keys, newest), reference)


def test_pending_events_are_among_the_newest_of_a_history_slice(data, index):
    user = 5
    times = data[1][user][-1]["timestamp"] + np.array([7, 7, 7])
    index.append(
        user, {"item_id": [4, 5, 6], "category_id": [2, 3, 2], "timestamp": times}, sequence=1
    )
    before = index.history_slice(user, [], newest=2)
    assert before["item_id"].tolist() == [5, 6]
    # The first of the pending ones shares its second with the newest and still counts as older.
    actual = index.history_slice(user, [2], newest=2)
    assert actual["item_id"].tolist()[-3:] == [4, 5, 6]
    assert set(actual["category_id"][:-2]) == {2}


@pytest.mark.parametrize("user", [-1, 0, 1, USERS - 1, USERS, 10**12])
def test_somebody_unknown_has_no_keys_and_no_events(built, user):
    index = BehaviorIndex(built / "category_id", SCHEMA, "category_id", InMemoryStore())
    assert index.keys(user).tolist() == []
    assert_same(index.lookup(user, KEYS), {})


def test_a_time_hides_what_came_at_it_or_later(data, tmp_path):
    build_index(data[0], tmp_path / "index", "category_id")
    index = BehaviorIndex(tmp_path / "index", SCHEMA, "category_id")
    for user, history in data[1].items():
        for position in range(0, len(history), 7):
            time = history[position]["timestamp"]
            visible_events = [event for event in history if event["timestamp"] < time]
            reference = {
                f.name: [e[f.name] for e in visible_events] for f in SCHEMA.with_role(HISTORY)
            }
            assert_same(index.lookup(user, KEYS, before=time), reference)


def test_time_and_ties_name_any_position_of_a_history(data, tmp_path):
    build_index(data[0], tmp_path / "index", "item_id")
    index = BehaviorIndex(tmp_path / "index", SCHEMA, "item_id")
    for user, history in data[1].items():
        for position in range(1, len(history), 5):
            visible_events, time = history[:position], history[position - 1]["timestamp"]
            reference = {
                f.name: [e[f.name] for e in visible_events] for f in SCHEMA.with_role(HISTORY)
            }
            ties = sum(event["timestamp"] == time for event in visible_events)
            actual = index.lookup(user, index.keys(user), before=time, ties=ties)
            assert_same(actual, reference)


def test_the_memory_that_building_takes_does_not_change_the_index(data, built, tmp_path):
    build_index(data[0], tmp_path / "index", "category_id", LIMIT, part_bytes=1500)
    for name in (BLOCKS_FILE, OFFSETS_FILE, METADATA_FILE):
        reference = (built / "category_id" / name).read_bytes()
        assert (tmp_path / "index" / name).read_bytes() == reference
    assert os.listdir(tmp_path) == ["index"]


def test_the_description_counts_what_is_there(data, built):
    metadata = BehaviorIndex(built / "category_id", SCHEMA, "category_id").metadata
    tree = tree_of(data[1], "category_id", LIMIT)
    assert metadata.users == sum(bool(history) for history in data[1].values())
    assert metadata.lists == sum(len(lists) for lists in tree.values())
    assert metadata.events == sum(len(e) for lists in tree.values() for e in lists.values())
    assert metadata.events_seen == sum(len(history) for history in data[1].values())
    files = [built / "category_id" / name for name in (BLOCKS_FILE, OFFSETS_FILE)]
    assert metadata.bytes == sum(path.stat().st_size for path in files)
    is_written = json.loads((built / "category_id" / METADATA_FILE).read_text())
    assert is_written["bytes_per_event"] == pytest.approx(
        metadata.bytes / metadata.events, abs=1e-3
    )


def events_at(times, items):
    items = np.array(items)
    return {"item_id": items, "category_id": category_of(items), "timestamp": np.array(times)}


def test_data_without_whole_histories_are_one_sentence(data, tmp_path):
    shutil.copytree(data[0], tmp_path / "data")
    Manifest(SCHEMA.fingerprint(), Manifest.load(data[0], SCHEMA).splits).save(tmp_path / "data")
    with pytest.raises(ValueError, match="have no whole histories, which serving reads: .* again"):
        build_index(tmp_path / "data", tmp_path / "index", "category_id")
    assert os.listdir(tmp_path) == ["data"]


def test_records_without_a_user_of_their_own_are_counted_and_left_out(tmp_path):
    rng = np.random.default_rng(2)
    records = [make_record(SCHEMA, user, rng) for user in (1, 5, 1)]
    write_records_of(tmp_path / "data", {"train": records})
    metadata = build_index(tmp_path / "data", tmp_path / "index", "category_id")
    assert (metadata.users, metadata.records_skipped) == (1, 2)


def test_an_index_of_nobody_can_be_opened(tmp_path):
    write_records_of(tmp_path / "data", {"train": []})
    assert build_index(tmp_path / "data", tmp_path / "index", "item_id").events == 0
    assert BehaviorIndex(tmp_path / "index", SCHEMA, "item_id").keys(5).tolist() == []


@pytest.fixture
def copy_dir(built, tmp_path):
    shutil.copytree(built / "category_id", tmp_path / "index")
    return tmp_path / "index"


def test_an_index_of_another_schema_is_refused(copy_dir):
    with pytest.raises(ValueError, match=f"built for schema '{SCHEMA.fingerprint()}'"):
        BehaviorIndex(copy_dir, make_schema(max_history=48), "category_id")


def test_an_index_by_another_key_is_refused(copy_dir):
    with pytest.raises(ValueError, match="built for key 'category_id', but 'item_id'"):
        BehaviorIndex(copy_dir, SCHEMA, "item_id")


def test_an_index_of_another_format_is_refused(copy_dir):
    content = read_json(copy_dir / METADATA_FILE, "", "")
    (copy_dir / METADATA_FILE).write_text(sealed({**content, "format_version": 2}))
    with pytest.raises(ValueError, match="format version 2"):
        BehaviorIndex(copy_dir, SCHEMA, "category_id")


@pytest.mark.parametrize("name", [BLOCKS_FILE, OFFSETS_FILE, METADATA_FILE])
def test_a_file_that_was_cut_in_the_middle_is_refused(copy_dir, name):
    with open(copy_dir / name, "r+b") as file:
        file.truncate((copy_dir / name).stat().st_size // 2)
    with pytest.raises(ValueError, match=f"{name}.*build it again"):
        BehaviorIndex(copy_dir, SCHEMA, "category_id")


def test_a_file_that_is_missing_is_refused(copy_dir):
    (copy_dir / BLOCKS_FILE).unlink()
    with pytest.raises(ValueError, match="0 bytes instead of"):
        BehaviorIndex(copy_dir, SCHEMA, "category_id")


def test_a_changed_byte_is_found_by_the_check(copy_dir):
    BehaviorIndex(copy_dir, SCHEMA, "category_id").check()
    with open(copy_dir / BLOCKS_FILE, "r+b") as file:
        file.seek(53)
        byte = file.read(1)[0]
        file.seek(53)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(ValueError, match="checksum differs"):
        BehaviorIndex(copy_dir, SCHEMA, "category_id").check()


def test_a_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="experiments.build_index"):
        BehaviorIndex(tmp_path, SCHEMA, "category_id")


def test_a_rebuilt_index_takes_the_old_ones_place_while_it_is_read(data, copy_dir):
    reader = BehaviorIndex(copy_dir, SCHEMA, "category_id")
    before = reader.lookup(5, KEYS)
    build_index(data[0], copy_dir, "category_id", 1)
    assert_same(reader.lookup(5, KEYS), {name: v.tolist() for name, v in before.items()})
    assert BehaviorIndex(copy_dir, SCHEMA, "category_id").metadata.max_events_per_key == 1
    assert os.listdir(copy_dir.parent) == ["index"]


def test_a_build_that_fails_leaves_the_old_index(data, copy_dir):
    def stopped(items, total, description):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        build_index(data[0], copy_dir, "category_id", 1, progress=stopped)
    assert BehaviorIndex(copy_dir, SCHEMA, "category_id").metadata.max_events_per_key == LIMIT
    assert os.listdir(copy_dir.parent) == ["index"]


def test_a_folder_that_holds_something_else_is_not_replaced(data, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="it holds thesis.txt"):
        build_index(data[0], tmp_path, "category_id")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.fixture
def index(built, store):
    """The index by category with an empty overlay in a store of each kind."""
    return BehaviorIndex(built / "category_id", SCHEMA, "category_id", store)


def pending_events(rng, user_history, count):
    """Events around and after a user's last ones."""
    last = user_history[-1]["timestamp"] if user_history else 1_500_000_000
    items = rng.integers(FIRST_ID, 101, count)
    return events_at(last + rng.integers(-7, 23, count), items)


def test_look_ups_merge_what_came_since(data, index):
    rng = np.random.default_rng(17)
    for user in (3, 5, 7, USERS - 1):
        history = [dict(event) for event in data[1].get(user, [])]
        for sequence in range(1, 4):
            events = pending_events(rng, history, 3)
            assert index.append(user, events, sequence)
            rows = [{n: int(v[row]) for n, v in events.items()} for row in range(3)]
            history += [row for row in rows if row not in history]
        histories = {user: sorted(history, key=lambda event: event["timestamp"])}
        tree = tree_of(histories, "category_id", LIMIT)
        assert index.keys(user).tolist() == sorted(tree[user])
        for target_keys in (sorted(tree[user]), sorted(tree[user])[:2]):
            reference = lookup(tree, histories, user, target_keys)
            assert_same(index.lookup(user, target_keys), reference)


def columns(events):
    return {name: values.tolist() for name, values in events.items()}


def test_a_repeated_delivery_changes_nothing(index):
    events = events_at([1_600_000_000, 1_600_000_005], [7, 9])
    assert index.append(5, events, sequence=41)
    once = columns(index.lookup(5, KEYS))
    assert not index.append(5, events, sequence=41)
    assert not index.append(5, events_at([1_600_000_009], [8]), sequence=41)
    assert columns(index.lookup(5, KEYS)) == once


def test_events_alike_in_every_field_are_told_apart_by_their_numbers(index):
    alike = events_at(
        [1_600_000_000], [1]
    )  # two items out of vocabulary, of one category and second
    before = len(index.lookup(USERS - 1, KEYS)["item_id"])
    index.append(USERS - 1, {n: np.append(v, v) for n, v in alike.items()}, sequence=41)
    index.append(USERS - 1, alike, sequence=42)
    index.append(USERS - 1, alike, sequence=42)
    assert len(index.lookup(USERS - 1, KEYS)["item_id"]) == before + 3


def test_deliveries_in_any_order_give_the_same(index, built):
    def ordered(user, sequences):
        for sequence in sequences:
            time = 1_600_000_000 + sequence
            index.append(user, events_at([time, time + 5], [sequence, 70 + sequence]), sequence)
        return columns(index.lookup(user, KEYS))

    assert ordered(USERS - 1, [4, 2, 5, 3]) == ordered(USERS - 2, [2, 3, 4, 5])


def test_a_pending_event_is_hidden_by_an_earlier_time(index):
    index.append(USERS - 1, events_at([50, 60], [7, 9]), sequence=1)
    assert index.lookup(USERS - 1, KEYS, before=60)["item_id"].tolist() == [7]
    assert index.lookup(USERS - 1, KEYS, before=61)["item_id"].tolist() == [7, 9]


def test_after_a_rebuild_pending_events_of_the_index_count_once(data, index):
    folder, histories = data
    user = max(histories, key=lambda number: len(histories[number]))
    event = histories[user][-1]
    before = columns(index.lookup(user, KEYS))
    index.append(user, events_at([event["timestamp"]], [event["item_id"]]), sequence=1)
    assert columns(index.lookup(user, KEYS)) == before
    index.append(user, events_at([1_700_000_000], [7]), sequence=2)
    times = columns(index.lookup(user, KEYS))["timestamp"]
    assert times[-1] == 1_700_000_000
    assert sorted(set(times) - set(before["timestamp"])) == [1_700_000_000]


def test_pending_events_of_a_key_are_cut_as_its_list_is(index, store):
    for sequence in range(1, 12):
        index.append(USERS - 1, events_at([sequence], [24]), sequence)
    assert index.lookup(USERS - 1, KEYS)["timestamp"].tolist() == [8, 9, 10, 11]
    size = len(store.get(USERS - 1))
    index.append(USERS - 1, events_at([12], [24]), 12)
    assert len(store.get(USERS - 1)) == size


def test_pending_events_of_another_schema_are_refused(data, built, tmp_path):
    store, other = InMemoryStore(), make_schema(max_history=48)
    BehaviorIndex(built / "category_id", SCHEMA, "category_id", store).append(
        5, events_at([9], [7]), 1
    )
    shutil.copytree(built / "category_id", tmp_path / "index")
    content = read_json(tmp_path / "index" / METADATA_FILE, "", "")
    content["schema"] = other.fingerprint()
    (tmp_path / "index" / METADATA_FILE).write_text(sealed(content))
    with pytest.raises(StaleValueError, match="belongs to schema"):
        BehaviorIndex(tmp_path / "index", other, "category_id", store).lookup(5, [4])


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ({"item_id": [3], "timestamp": [5]}, "expected events with"),
        ({"item_id": [3, 4], "category_id": [5], "timestamp": [5]}, "one length"),
        ({"item_id": [3.5], "category_id": [5], "timestamp": [5]}, "expected item_id to be dense"),
        ({"item_id": [-3], "category_id": [5], "timestamp": [5]}, "expected item_id to be dense"),
    ],
)
def test_what_is_no_event_of_the_schema_is_refused(built, events, message):
    index = BehaviorIndex(built / "category_id", SCHEMA, "category_id", InMemoryStore())
    with pytest.raises(ValueError, match=message):
        index.append(5, events, 1)


def test_events_of_an_unknown_user_are_refused(built):
    index = BehaviorIndex(built / "category_id", SCHEMA, "category_id", InMemoryStore())
    with pytest.raises(ValueError, match="their events would be mixed"):
        index.append(1, events_at([9], [7]), 1)


def test_an_index_without_a_store_takes_no_events(built):
    with pytest.raises(ValueError, match="without a store for pending events"):
        BehaviorIndex(built / "category_id", SCHEMA, "category_id").append(5, {}, 1)
