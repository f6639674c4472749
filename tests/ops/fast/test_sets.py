"""Sets of about one size at a time: each set once, whole, and back in its place."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops.fast.sets import map_sets, put_back, split_by_size

COUNTS = np.array([[0, 1, 3], [5, 2, 0]])
MASK = tf.constant(np.arange(5) < COUNTS[..., None])
VALUES = tf.constant(np.random.default_rng(0).normal(size=(2, 3, 5, 4)), tf.float32)


@pytest.mark.parametrize("sizes", [(), (1,), (1, 3), (2, 4), (5, 9)])
@pytest.mark.parametrize("compiled", [False, True])
def test_every_set_is_summed_once_in_its_own_place(sizes, compiled):
    def sums(values, mask):
        parts, split = [], split_by_size(mask, sizes)
        for sets in split:
            real = tf.cast(sets.members(mask), values.dtype)[..., tf.newaxis]
            parts.append(tf.reduce_sum(sets.members(values) * real, 1))
        return put_back(split, parts, mask)

    found = tf.function(sums, jit_compile=compiled, autograph=False)(VALUES, MASK)
    real = tf.cast(MASK, tf.float32)[..., tf.newaxis]
    np.testing.assert_allclose(found, tf.reduce_sum(VALUES * real, 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_every_set_gets_its_own_gradient(compiled):
    # XLA's gradient of a concatenation of arrays of unknown size is wrong, see `put_back`.
    def gradient(values, mask):
        with tf.GradientTape() as tape:
            tape.watch(values)
            split = split_by_size(mask, (1, 3))
            firsts = [sets.members(values)[:, 0] for sets in split]
            loss = tf.reduce_sum(put_back(split, firsts, mask) * VALUES[:, :, 1])
        return tape.gradient(loss, values)

    found = tf.function(gradient, jit_compile=compiled, autograph=False)(VALUES, MASK)
    expected = np.zeros(VALUES.shape)
    expected[:, :, 0] = np.where(COUNTS[..., None] > 0, VALUES[:, :, 1], 0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_sets_that_xla_sorted_before_are_split_alike():
    # A condition of sorted members with an upper limit made XLA's `where` too short, see `split_by_size`.
    generator = np.random.default_rng(1)
    matches = tf.constant(generator.random((4, 3, 31)) < 0.2)

    def split(matches):
        mask = tf.math.top_k(tf.cast(matches, tf.int32), 11).values > 0
        return [sets.places for sets in split_by_size(mask, (4, 8))]

    for found, wanted in zip(
        tf.function(split, jit_compile=True, autograph=False)(matches), split(matches), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def test_sets_may_lie_in_one_row():
    parts, split = [], split_by_size(MASK[0], (1,))
    for sets in split:
        members = sets.members(VALUES[0]) * tf.cast(sets.members(MASK[0]), tf.float32)[..., None]
        parts.append(tf.reduce_sum(members, 1))
    real = tf.cast(MASK[0], tf.float32)[..., tf.newaxis]
    np.testing.assert_allclose(
        put_back(split, parts, MASK[0]), tf.reduce_sum(VALUES[0] * real, 1), rtol=1e-5
    )


def test_arrays_are_no_wider_than_the_largest_set_may_be():
    widths = [sets.members(VALUES).shape[1] for sets in split_by_size(MASK, (1, 3, 7))]
    assert widths == [1, 3, 5]
    places = [sets.places.numpy().tolist() for sets in split_by_size(MASK, (1, 3, 7))]
    assert places == [[[0, 1]], [[0, 2], [1, 1]], [[1, 0]]]


def test_what_belongs_to_a_set_is_chosen_with_it():
    (sets,) = split_by_size(MASK, ())
    np.testing.assert_array_equal(sets.of_sets(tf.constant(COUNTS)), [1, 3, 5, 2])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_mapped_function_has_its_values_and_gradients_on_all_sets_at_once(compiled):
    def function(values, mask):
        real = tf.cast(mask, tf.float32)[..., tf.newaxis]
        sums = tf.reduce_sum(values["events"] * real, axis=-2)
        return tf.sin(sums) * tf.reduce_sum(real * values["weights"][..., tf.newaxis], axis=-2)

    def values_and_gradients(mapped):
        with tf.GradientTape() as tape:
            tape.watch(VALUES)
            values = {"events": VALUES, "weights": VALUES[..., 0]}
            rows = map_sets(function, values, MASK, (1, 3)) if mapped else function(values, MASK)
            loss = tf.reduce_sum(rows**2)
        return rows, tape.gradient(loss, VALUES)

    fast = tf.function(values_and_gradients, jit_compile=compiled, autograph=False)(True)
    for found, expected in zip(fast, values_and_gradients(False), strict=True):
        assert np.any(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
