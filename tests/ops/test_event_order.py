"""Events in the order of a key: what a scan finds, by binary search."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops.event_order import newest_of_key, newest_of_keys, order_events
from tests.oracles import sim

RANDOM = np.random.default_rng(0)
USERS, TIME, CANDIDATES = 5, 29, 11
LENGTHS = np.array([29, 17, 5, 1, 0])
KEYS = RANDOM.integers(2, 7, (USERS, TIME)).astype(np.int32)
WANTED = RANDOM.integers(0, 9, (USERS, CANDIDATES)).astype(np.int32)


def assert_newest(places, mask, keys, lengths, k):
    for user, length in enumerate(lengths):
        for candidate, wanted in enumerate(WANTED[user]):
            found = places.numpy()[user, candidate][mask.numpy()[user, candidate]]
            assert list(found) == sim.hard_search(keys[user, :length], wanted, k)


@pytest.mark.parametrize("k", [1, 4, TIME, 3 * TIME])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_newest_events_of_a_key_are_found_newest_first(k, compiled):
    mask = np.arange(TIME) < LENGTHS[:, None]

    @tf.function(jit_compile=compiled, autograph=False)
    def find(keys, wanted):
        return newest_of_key(order_events(keys, tf.constant(mask)), wanted, k)

    places, found = find(KEYS, WANTED)
    assert places.shape == (USERS, CANDIDATES, min(k, TIME))
    assert_newest(places, found, KEYS, LENGTHS, k)


def test_a_user_without_a_time_axis_finds_nothing():
    order = order_events(tf.zeros([USERS, 0], tf.int32), tf.zeros([USERS, 0], tf.bool))
    places, found = newest_of_key(order, tf.constant(WANTED), 3)
    assert places.shape == found.shape == (USERS, CANDIDATES, 0)


def test_masked_events_are_behind_all_others_wherever_they_stand():
    mask = RANDOM.random((USERS, TIME)) < 0.5
    order = order_events(tf.constant(KEYS), tf.constant(mask))
    places, found = newest_of_key(order, tf.constant(WANTED), TIME)
    assert np.all(np.take_along_axis(mask[:, None], places.numpy(), 2)[found.numpy()])
    same = (KEYS[:, None] == WANTED[..., None]) & mask[:, None]
    np.testing.assert_array_equal(found.numpy().sum(-1), same.sum(-1))


def test_the_key_that_stands_for_padding_finds_nothing():
    order = order_events(tf.constant(KEYS), tf.zeros([USERS, TIME], tf.bool))
    _, found = newest_of_key(order, tf.fill([USERS, 1], tf.int32.max), 3)
    assert not np.any(found)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_the_newest_of_several_keys_are_those_of_a_scan_each_once(k):
    random = np.random.default_rng(k)
    keys, mask = random.integers(2, 6, (4, 17)), random.random((4, 17)) < 0.8
    mask[-1] = False
    wanted = np.array([[3, 3, 4], [5, 2, 3], [9, 9, 9], [3, 4, 5]])
    places, real = newest_of_keys(
        order_events(tf.constant(keys), tf.constant(mask)), tf.constant(wanted), k
    )
    for user, own in enumerate(wanted):
        expected: set[int] = set()
        for key in own:
            expected |= set(np.flatnonzero((keys[user] == key) & mask[user])[-k:].tolist())
        count = len(expected)
        assert places[user, :count].numpy().tolist() == sorted(expected)
        np.testing.assert_array_equal(real[user], np.arange(real.shape[1]) < count)
    longest = np.sum(real.numpy(), axis=1).max()
    assert longest <= real.shape[1] < max(2 * longest, 2)
