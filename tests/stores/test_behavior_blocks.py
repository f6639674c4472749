"""A user's block gives back every list, in as few bytes as the values need."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from dgin_tf.schema import CANDIDATE, HISTORY, USER, Field, Schema
from dgin_tf.stores.behavior_blocks import BlockCodec, newest_per_key, rank_in_second

SCHEMA = Schema(
    fields=(
        Field("user_id", (USER,), "user_id"),
        Field("item_id", (HISTORY, CANDIDATE), "item_id"),
        Field("category_id", (HISTORY, CANDIDATE), "category_id"),
        Field("behavior_type", (HISTORY,), "behavior_type"),
        Field("timestamp", (HISTORY, CANDIDATE)),
    ),
    vocabulary_sizes={
        "user_id": 31,
        "item_id": 2**31 - 1,
        "category_id": 7000,
        "behavior_type": 6,
    },
    max_history=101,
)


@st.composite
def histories(draw):
    """Events with ids of every width and times from one second to centuries."""
    length = draw(st.integers(1, 40))
    largest = draw(st.sampled_from([3, 200, 60_000, 2**24 - 1, 2**31 - 2]))
    span = draw(st.sampled_from([0, 7, 40_000, 2**23, 2**31, 2**40]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return {
        "item_id": rng.integers(2, largest, length, endpoint=True).astype(np.int32),
        "category_id": rng.integers(2, 9, length).astype(np.int32),
        "behavior_type": rng.integers(2, 5, length).astype(np.int32),
        "timestamp": np.sort(rng.integers(0, span, length, endpoint=True)) + 1_500_000_000,
    }


@hypothesis.given(history=histories(), key=st.sampled_from(["item_id", "category_id"]))
@hypothesis.settings(deadline=None, max_examples=80)
def test_every_list_comes_back(history, key):
    codec = BlockCodec(SCHEMA, key)
    block = b"before" + codec.encode(history, max_events_per_key=200) + b"after"
    keys = np.unique(history[key])
    np.testing.assert_array_equal(codec.keys(block, 6), keys)
    order = np.argsort(history[key], kind="stable")
    actual = codec.select(block, 6, keys)
    for name, values in history.items():
        np.testing.assert_array_equal(actual.events[name], values[order])
        assert actual.events[name].dtype == SCHEMA.field(name).dtype
    np.testing.assert_array_equal(actual.rank, rank_in_second(history["timestamp"])[order])


def example(events, **columns):
    default = {
        "item_id": 70_000 + np.arange(events),
        "category_id": np.full(events, 300),
        "behavior_type": np.full(events, 2),
        "timestamp": 1_500_000_000 + 100_000 * np.arange(events),
    }
    return {**default, **columns}


def size_of(events, key="category_id", **columns):
    return len(BlockCodec(SCHEMA, key).encode(example(events, **columns), 200))


def test_an_event_takes_the_bytes_of_its_largest_item_and_time():
    # Items below 2^24 and 194 days take three bytes each; all else is the same in the whole list.
    assert size_of(150) - size_of(100) == 50 * (3 + 3)


def test_ranks_take_a_byte_an_event_only_where_seconds_are_shared():
    apart = 1_500_000_000 + 100_000 * np.arange(100)
    together = np.sort(np.append(apart[:-1], apart[:1]))
    assert size_of(100, timestamp=together) - size_of(100, timestamp=apart) == 100


def test_an_attribute_that_the_key_decides_is_stored_once_a_list():
    columns = {
        "item_id": np.repeat([70_000, 70_001], 50),
        "timestamp": 1_500_000_000 + np.arange(100),
    }
    decided = size_of(100, "item_id", category_id=np.repeat([300, 301], 50), **columns)
    undecided = size_of(100, "item_id", category_id=np.resize([300, 301], 100), **columns)
    assert undecided - decided == (100 - 2) * 2


def test_a_user_without_events_takes_no_bytes():
    assert size_of(0) == 0


def test_unknown_and_missing_keys_give_nothing():
    codec = BlockCodec(SCHEMA, "category_id")
    block = codec.encode(example(7, category_id=np.array([3, 5, 3, 3, 5, 9, 9])), 200)
    assert len(codec.select(block, 0, np.array([], np.int64)).rank) == 0
    assert len(codec.select(block, 0, np.array([0, 1, 4, 10, 2**40])).rank) == 0
    assert codec.select(block, 0, np.array([4, 5, 10])).events["category_id"].tolist() == [5, 5]


def test_lists_are_cut_to_their_newest_events():
    codec = BlockCodec(SCHEMA, "category_id")
    history = example(7, category_id=np.array([3, 5, 3, 3, 5, 9, 3]))
    actual = codec.select(codec.encode(history, 2), 0, np.array([3, 5, 9]))
    np.testing.assert_array_equal(actual.events["item_id"], history["item_id"][[3, 6, 1, 4, 5]])


@pytest.mark.parametrize("keys", [[], [4], [4, 4, 4], [4, 7, 4, 4, 7, 1]])
def test_newest_per_key_counts_from_the_end(keys):
    keys = np.array(keys, np.int64)
    reference = [np.sum(keys[row:] == key) <= 2 for row, key in enumerate(keys)]
    assert newest_per_key(keys, 2).tolist() == reference


def test_rank_counts_the_events_of_a_second():
    assert rank_in_second(np.array([5, 7, 7, 7, 8, 9, 9])).tolist() == [0, 0, 1, 2, 0, 0, 1]
    assert rank_in_second(np.zeros(0, np.int64)).tolist() == []


@pytest.mark.parametrize("key", ["timestamp", "user_id", "brand"])
def test_a_key_that_is_no_id_of_past_events_is_refused_with_those_that_are(key):
    with pytest.raises(ValueError, match="among item_id, category_id, behavior_type; got"):
        BlockCodec(SCHEMA, key)


def test_a_history_without_times_cannot_be_indexed():
    fields = tuple(field for field in SCHEMA.fields if field.name != "timestamp")
    timeless = Schema(fields, SCHEMA.vocabulary_sizes, SCHEMA.max_history)
    with pytest.raises(ValueError, match="'timestamp'"):
        BlockCodec(timeless, "item_id")
