"""Draws that depend on a history alone."""

import numpy as np
import tensorflow as tf

from dgin_tf.ops import sampling


def test_draws_are_different_and_one_from_each_part():
    found = sampling.stratified(tf.constant([7, 31, 1000]), 7, [], seed=3).numpy()
    for count, row in zip((7, 31, 1000), found, strict=True):
        parts = [(part * count // 7, (part + 1) * count // 7) for part in range(7)]
        assert all(low <= draw < high for draw, (low, high) in zip(row, parts, strict=True))


def test_fewer_than_wanted_are_all_there_are():
    found = sampling.stratified(tf.constant([3, 0]), 5, [], seed=1)
    np.testing.assert_array_equal(found, [[0, 1, 2, 3, 4]] * 2)


def test_the_seed_and_the_keys_decide():
    def draw(key, seed):
        return sampling.stratified(tf.constant([10**6]), 11, [tf.constant([key])], seed).numpy()

    np.testing.assert_array_equal(draw(2, 5), draw(2, 5))
    assert np.any(draw(2, 5) != draw(3, 5))
    assert np.any(draw(2, 5) != draw(2, 6))


def test_ranks_are_places_on_whichever_side_padding_is():
    mask = tf.constant([[True, True, False, False], [False, False, True, True]])
    ranks = tf.constant([[0, 1], [0, 1]])
    np.testing.assert_array_equal(sampling.places(mask, ranks), [[0, 1], [2, 3]])
    np.testing.assert_array_equal(tf.boolean_mask(sampling.ranks(mask), mask), [0, 1, 0, 1])


def test_remainders_are_exact_up_to_the_largest_integers():
    count = np.concatenate([np.arange(1, 2000), [2**20 - 1, 2**30, 2**31 - 1]])
    for near in (count, 2 * count, (2**31 - 1) // count * count):
        value = np.clip(near[:, None] + [-1, 0, 1], 0, 2**31 - 1).astype(np.int32)
        found = sampling.remainder(tf.constant(value), tf.constant(count[:, None], tf.int32))
        np.testing.assert_array_equal(found, value % count[:, None])
