"""MIMN's equations against numpy, and their limits."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops import ntm as ops
from dgin_tf.ops.ntm import GRUWeights
from dgin_tf.released.memory import shift_and_sharpen
from tests.oracles import mimn

USERS, SLOTS, DIM, UNITS = 3, 5, 7, 4


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


MEMORY, KEYS = normal(USERS, SLOTS, DIM), normal(USERS, 2, DIM, seed=1)
WEIGHTS = mimn.softmax(normal(USERS, SLOTS, seed=2))
ERASE, ADDITION = mimn.sigmoid(normal(USERS, DIM, seed=3)), normal(USERS, DIM, seed=4)
USAGE, KERNEL = np.abs(normal(USERS, SLOTS, seed=5)), normal(SLOTS, SLOTS * SLOTS, seed=6)


def test_addressing_and_reading_are_equations_1_to_3():
    weights = ops.address(ops.cosine(KEYS, MEMORY))
    read = ops.read(weights, tf.constant(MEMORY))
    for user in range(USERS):
        for head in range(2):
            reference = mimn.address(KEYS[user, head], MEMORY[user])
            np.testing.assert_allclose(weights[user, head], reference, rtol=1e-12)
            np.testing.assert_allclose(read[user, head], mimn.read(reference, MEMORY[user]))


def test_writing_is_equation_4():
    result = ops.write(MEMORY, WEIGHTS, ERASE, ADDITION)
    reference = [mimn.write(*parts) for parts in zip(MEMORY, WEIGHTS, ERASE, ADDITION, strict=True)]
    np.testing.assert_allclose(result, reference, rtol=1e-12)


def test_nothing_to_erase_and_nothing_to_add_leave_the_memory():
    nothing = np.zeros_like(ERASE)
    np.testing.assert_array_equal(ops.write(MEMORY, WEIGHTS, nothing, nothing), MEMORY)


def test_a_slot_that_is_wholly_erased_holds_what_is_added():
    one_slot = np.eye(SLOTS)[[2] * USERS]
    result = ops.write(tf.constant(MEMORY), one_slot, np.ones_like(ERASE), ADDITION).numpy()
    np.testing.assert_allclose(result[:, 2], ADDITION, rtol=1e-12)
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(result[:, others], MEMORY[:, others])


def test_balancing_is_equations_5_and_6():
    result = ops.rebalance(tf.constant(WEIGHTS), ops.transfer(tf.constant(USAGE), KERNEL))
    reference = [mimn.rebalance(w, g, KERNEL) for w, g in zip(WEIGHTS, USAGE, strict=True)]
    np.testing.assert_allclose(result, reference, rtol=1e-12)
    np.testing.assert_allclose(np.sum(result, -1), 1.0)


def test_without_transfer_weights_every_slot_is_written_alike():
    result = ops.rebalance(tf.constant(WEIGHTS), ops.transfer(tf.constant(USAGE), KERNEL * 0))
    np.testing.assert_allclose(result, np.full_like(WEIGHTS, 1 / SLOTS))


def test_the_regularization_is_equation_8_and_zero_for_equal_use():
    result = ops.utilization_variance(tf.constant(USAGE))
    np.testing.assert_allclose(result, [mimn.utilization_loss(g) for g in USAGE])
    np.testing.assert_array_equal(ops.utilization_variance(tf.fill([USERS, SLOTS], 4.0)), 0.0)


@pytest.mark.parametrize("k", [1, 2, SLOTS])
def test_k_channels_take_a_step_and_the_others_stay_bitwise(k):
    channels = tf.constant(normal(USERS, SLOTS, UNITS, seed=7))
    event = tf.constant(normal(USERS, 6, seed=8))
    shapes = ((6 + DIM, 3 * UNITS), (UNITS, 3 * UNITS), (3 * UNITS,))
    weights = GRUWeights(*(tf.constant(normal(*shape, seed=9)) for shape in shapes))
    selection = ops.top_channels(tf.constant(WEIGHTS), k)
    after = ops.induce(channels, tf.constant(MEMORY), event, selection, weights)
    has_moved = np.any(after.numpy() != channels.numpy(), axis=-1)
    is_selected = np.argsort(np.argsort(-WEIGHTS)) < k
    np.testing.assert_array_equal(has_moved, is_selected)
    for user, slot in np.argwhere(is_selected):  # Eq. (9)
        inputs = np.concatenate([event[user], MEMORY[user, slot]])
        numbers = [array.numpy() for array in weights]
        step = mimn.gru(inputs, channels[user, slot].numpy(), *numbers)
        np.testing.assert_allclose(after[user, slot], step, rtol=1e-9)


def test_a_memory_of_zeros_has_finite_gradients():
    memory = tf.zeros([USERS, SLOTS, DIM])
    keys = tf.zeros([USERS, 2, DIM])
    with tf.GradientTape() as tape:
        tape.watch([memory, keys])
        result = tf.reduce_sum(tf.square(ops.read(ops.address(ops.cosine(keys, memory)), memory)))
    for gradient in tape.gradient(result, [memory, keys]):
        np.testing.assert_array_equal(gradient, tf.zeros_like(gradient))


def test_a_shift_moves_the_weights_in_a_circle():
    one_slot = tf.constant(np.eye(SLOTS)[[SLOTS - 1]])
    forward = tf.constant([[0.0, 1.0, 0.0]], tf.float64)  # offsets 0, +1, -1
    result = shift_and_sharpen(one_slot, forward, tf.ones([1, 1], tf.float64))
    np.testing.assert_array_equal(result[0], np.eye(SLOTS)[0])
