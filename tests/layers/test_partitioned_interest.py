"""Histories without repetitions, cut into parts."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.partitioned_interest import newest_of_each, partition, sum_in_parts
from tests.oracles import multi_behavior

RNG = np.random.default_rng(8)
USERS, TIME, PARTS = 4, 19, 3
MASK = np.array([[True] * TIME, [False] * 5 + [True] * 14, [True] + [False] * 18, [False] * TIME])
ITEMS = tf.constant(RNG.integers(2, 17, (USERS, TIME)), tf.int32)
CATEGORIES = ITEMS % 6


def test_largest_parts_of_different_items_are_kept_and_all_others_are_one():
    newest = newest_of_each(ITEMS, MASK)
    cut = partition(CATEGORIES, newest, PARTS)
    for user in range(USERS):
        kept, rest = multi_behavior.parts(
            ITEMS[user].numpy(), CATEGORIES[user].numpy(), MASK[user], PARTS
        )
        real = newest[user].numpy()
        part = np.where(real, cut.part[user], -1)
        for number, places in enumerate(kept.values()):
            assert list(np.flatnonzero(part == number)) == places
            assert cut.places[user, number] in places
        assert list(np.flatnonzero(part == PARTS)) == sorted(rest)
        expected = [number < len(kept) for number in range(PARTS)] + [bool(rest)]
        assert list(cut.mask[user].numpy()) == expected


def test_parts_add_up_to_the_whole():
    weights = RNG.normal(size=(USERS, 2, TIME)).astype(np.float32) * MASK[:, None]
    values = RNG.normal(size=(USERS, TIME, 5)).astype(np.float32)
    cut = partition(CATEGORIES, MASK, PARTS)
    sums = sum_in_parts(weights, values, cut.part, PARTS + 1).numpy()
    np.testing.assert_allclose(sums.sum(axis=2), weights @ values, rtol=1e-4, atol=1e-5)
    own = (cut.part[0].numpy() == 1) & MASK[0]
    np.testing.assert_allclose(sums[0, 0, 1], weights[0, 0, own] @ values[0, own], rtol=1e-4)


def test_no_history_has_no_parts():
    empty = tf.zeros([2, 0], tf.int32)
    newest = newest_of_each(empty, empty > 0)
    assert newest.shape == (2, 0)
    assert not np.any(partition(empty, newest, PARTS).mask)


def test_no_parts_are_refused():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        partition(CATEGORIES, MASK, 0)
