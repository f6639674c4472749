"""A history cut into its newest events and the rest."""

import numpy as np
import pytest

from dgin_tf.layers.events import all_but_newest, newest
from dgin_tf.layers.pooling import Pooling
from dgin_tf.layers.search.hard import HardSearch
from dgin_tf.layers.search.readers import MeanReader
from dgin_tf.layers.search.unit import SearchedInterest
from dgin_tf.layers.short_and_long import ShortAndLong
from dgin_tf.layers.target_attention import AttendedHistory
from tests.layers.search import embedded

LENGTHS, TIME, SHORT = (11, 4, 2, 0), 11, 3
HISTORY = embedded.history(LENGTHS, TIME)
TARGET = embedded.target(len(LENGTHS), 5)


def items(history):
    """Item ids of each user's real events, in their order."""
    rows = zip(history.features["item_id"].numpy(), history.mask.numpy(), strict=True)
    return [list(row[real]) for row, real in rows]


def pooled(mean=True):
    return ShortAndLong(Pooling(), Pooling(mean=mean), SHORT)


def interest(encoder, state):
    return encoder.interest(state, TARGET)["interest"]


def on_the_left(history, extra):
    """The same events, at the end of a longer time axis."""
    time = TIME + extra
    mask = np.arange(time) >= time - np.asarray(LENGTHS)[:, None]
    arrays = {}
    for name, values in history.features.items():
        arrays[name] = moved = np.zeros(mask.shape, np.int64)
        moved[mask] = values.numpy()[history.mask.numpy()]
    return embedded.history_of(mask, **arrays)


@pytest.mark.parametrize("count", [1, SHORT, TIME, 2 * TIME])
@pytest.mark.parametrize("history", [HISTORY, on_the_left(HISTORY, 2)], ids=["right", "left"])
def test_the_parts_share_no_event_and_lose_none(count, history):
    recent, older = items(newest(history, count)), items(all_but_newest(history, count))
    assert [old + new for old, new in zip(older, recent, strict=True)] == items(history)
    assert [len(row) for row in recent] == [min(count, length) for length in LENGTHS]


def test_the_earlier_events_take_no_room_for_the_newest():
    assert all_but_newest(HISTORY, SHORT).mask.shape == (len(LENGTHS), TIME - SHORT)
    assert all_but_newest(HISTORY, 2 * TIME).mask.shape == (len(LENGTHS), 1)


def test_the_newest_events_take_no_more_room_than_they_may():
    recent = newest(HISTORY, SHORT)
    assert recent.mask.shape == (len(LENGTHS), SHORT)
    assert embedded.events_of(recent).shape == (len(LENGTHS), SHORT, embedded.DIM)


def test_the_newest_of_a_time_axis_of_no_length_are_padding():
    recent = newest(embedded.part_of(HISTORY, 0, 0), SHORT)
    assert not np.any(recent.mask)
    assert not np.any(embedded.events_of(recent))


def test_the_interests_stand_side_by_side_short_first():
    encoder, events = pooled(), embedded.events_of(HISTORY).numpy()
    found = interest(encoder, encoder.encode(HISTORY))
    for user, length in enumerate(LENGTHS):
        cut = max(length - SHORT, 0)
        short, long = events[user, cut:length].sum(0), events[user, :cut].sum(0) / max(cut, 1)
        expected = np.tile(np.concatenate([short, long]), (5, 1))
        np.testing.assert_allclose(found[user], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("times", [False, True])
def test_times_are_kept_where_the_long_part_keeps_them(times):
    long = SearchedInterest(HardSearch(2), MeanReader(), times=times)
    state = ShortAndLong(Pooling(), long, SHORT).encode(HISTORY)
    for part in (state["long"], state["recent"]):
        assert ("timestamp" in part["events"]) == times
    assert "events" not in state["short"]


@pytest.mark.parametrize("chunk", [1, 2, SHORT, 5])
def test_folding_events_in_moves_the_older_ones_to_the_long_part(chunk):
    long = SearchedInterest(HardSearch(2), MeanReader(), times=True)
    for encoder in (pooled(), ShortAndLong(AttendedHistory(), long, SHORT)):
        state = encoder.encode(embedded.part_of(HISTORY, 0, 0))
        for start in range(0, TIME, chunk):
            state = encoder.update(state, embedded.part_of(HISTORY, start, start + chunk))
        expected = interest(encoder, encoder.encode(HISTORY))
        np.testing.assert_allclose(interest(encoder, state), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 3])
def test_the_long_part_grows_by_no_more_events_than_come(chunk):
    encoder = ShortAndLong(Pooling(), AttendedHistory(), SHORT)
    state = encoder.encode(HISTORY)
    newer = encoder.update(state, embedded.part_of(HISTORY, 0, chunk))
    assert newer["long"]["mask"].shape[1] == state["long"]["mask"].shape[1] + chunk


class NotIncremental(Pooling):
    is_incremental = False


def test_a_long_part_that_cannot_follow_a_stream_keeps_no_events_for_it():
    encoder = ShortAndLong(Pooling(), NotIncremental(), SHORT)
    assert not encoder.is_incremental
    state = encoder.encode(HISTORY)
    assert set(state) == {"short", "long"}
    with pytest.raises(NotImplementedError, match="ShortAndLong cannot fold"):
        encoder.update(state, HISTORY)


def test_a_short_part_of_nothing_is_refused():
    with pytest.raises(ValueError, match="short_events must be at least 1; got 0"):
        ShortAndLong(Pooling(), Pooling(), 0)
