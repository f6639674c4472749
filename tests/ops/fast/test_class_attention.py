"""Attention among members of a few classes is attention among members, gradients included."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops.compiling import leaving_xla
from dgin_tf.ops.fast.class_attention import mean_weights, weighted_sums
from dgin_tf.ops.fast.sets import put_back, split_by_size
from dgin_tf.ops.masking import masked_mean, masked_softmax

CLASSES, HEADS, DIM = 6, 3, 4
LENGTHS = np.array([5, 1, 0, 3, 5, 2])
TIME = 5
MASK = tf.constant(np.arange(TIME) < LENGTHS[:, None])
RNG = np.random.default_rng(3)
# Of five members of six classes several are of one class; what is masked is of any class.
MEMBERS = tf.constant(RNG.integers(0, CLASSES, MASK.shape), tf.int32)
SCORES = tf.constant(RNG.normal(0, 2, [CLASSES, CLASSES, HEADS]), tf.float32)
TABLE = tf.constant(RNG.normal(size=[CLASSES, DIM]), tf.float32)


def pair_by_pair(scores, classes, mask):
    """The same by definition: [sets, i, heads, j], weighed, then the mean over i."""
    rows = tf.gather(scores, classes)  # of j: [sets, j, classes, heads]
    pairs = tf.gather(rows, classes, axis=2, batch_dims=1)  # [sets, j, i, heads]
    weights = masked_softmax(tf.transpose(pairs, [0, 2, 3, 1]), mask[:, tf.newaxis, tf.newaxis])
    flat = tf.reshape(weights, [*weights.shape[:2], -1])
    means = tf.reshape(masked_mean(flat, mask), [-1, HEADS, classes.shape[1]])
    return tf.transpose(means, [0, 2, 1])


def gradient_of(function, table, asked):
    with tf.GradientTape() as tape:
        tape.watch(table)
        loss = tf.reduce_sum(function(table) * asked)
    return tf.convert_to_tensor(tape.gradient(loss, table))


@pytest.mark.parametrize("compiled", [False, True])
def test_weights_are_the_mean_of_what_members_give(compiled):
    found = tf.function(mean_weights, jit_compile=compiled, autograph=False)(SCORES, MEMBERS, MASK)
    np.testing.assert_allclose(found, pair_by_pair(SCORES, MEMBERS, MASK), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(tf.reduce_sum(found, axis=1)[LENGTHS > 0], 1, rtol=1e-5)
    assert not np.any(found.numpy()[~MASK.numpy()])


def test_weights_have_the_gradient_of_the_mean():
    asked = RNG.normal(size=[*MASK.shape, HEADS])
    found, expected = (
        gradient_of(lambda scores, w=weigh: w(scores, MEMBERS, MASK), SCORES, asked)
        for weigh in (mean_weights, pair_by_pair)
    )
    assert np.any(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_sets_whose_number_xla_does_not_know_have_the_same_gradients():
    asked = tf.constant(RNG.normal(size=[len(LENGTHS), HEADS, DIM]), tf.float32)

    def gradients(scores, table, mask):
        with tf.GradientTape() as tape:
            tape.watch([scores, table])
            split, found = split_by_size(mask, (1, 3)), []
            for sets in split:
                classes = sets.members(MEMBERS)
                weights = mean_weights(scores, classes, sets.members(mask))
                found.append(weighted_sums(weights, classes, table))
            loss = tf.reduce_sum(put_back(split, found, mask) * asked)
        return tape.gradient(loss, [scores, table])

    plain, compiled = (
        tf.function(gradients, jit_compile=jit, autograph=False)(SCORES, TABLE, MASK)
        for jit in (None, True)
    )
    for found, expected in zip(compiled, plain, strict=True):
        assert np.any(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_scores_of_any_size_are_weighed(scale):
    found = mean_weights(scale * SCORES, MEMBERS, MASK)
    np.testing.assert_allclose(
        found, pair_by_pair(scale * SCORES, MEMBERS, MASK), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("leaves", [False, True])
def test_sums_are_of_the_rows_of_the_classes_and_so_are_their_gradients(leaves):
    weights = mean_weights(SCORES, MEMBERS, MASK)
    asked = RNG.normal(size=[len(LENGTHS), HEADS, DIM])

    def by_gather(weights, table):
        return tf.einsum("sjh,sjd->shd", weights, tf.gather(table, MEMBERS))

    def ours(weights, table):
        with leaving_xla(leaves):
            return weighted_sums(weights, MEMBERS, table)

    np.testing.assert_allclose(ours(weights, TABLE), by_gather(weights, TABLE), rtol=1e-5)
    for found, expected in (
        [gradient_of(lambda x, f=f: f(x, TABLE), weights, asked) for f in (ours, by_gather)],
        [gradient_of(lambda x, f=f: f(weights, x), TABLE, asked) for f in (ours, by_gather)],
    ):
        assert np.any(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
