"""Self-attention within sets of events: Eqs. (4)-(6) and the encoder of Eq. (8)."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.groups import GroupAggregation
from dgin_tf.layers.self_attention import MultiHeadSelfAttention, SelfAttentionEncoder
from dgin_tf.ops import self_attention
from dgin_tf.ops.fast import self_attention as fast_ops
from dgin_tf.ops.self_attention import AttentionKernels
from tests.oracles import dgin

SETS, TIME, DIM, HEADS = 4, 7, 5, 2
LENGTHS = np.array([7, 3, 1, 0])
MASK = np.arange(TIME) < LENGTHS[:, None]
RNG = np.random.default_rng(5)
EVENTS = RNG.normal(size=(SETS, TIME, DIM)).astype(np.float32)


def kernels_of(layer):
    return [kernel.numpy() for kernel in layer.kernels]


def test_events_learn_from_their_set_by_equations_4_and_5():
    layer = MultiHeadSelfAttention(HEADS)
    found = layer(EVENTS, MASK)
    for row, length in enumerate(LENGTHS[:-1]):
        expected = dgin.self_attention(EVENTS[row, :length], *kernels_of(layer))
        np.testing.assert_allclose(found[row, :length], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fast", [False, True])
def test_the_mean_of_a_set_is_equation_6(fast):
    layer = GroupAggregation(HEADS, fast=fast)
    found = layer(EVENTS, MASK)
    for row, length in enumerate(LENGTHS):
        expected = np.zeros(DIM)
        if length:
            events = EVENTS[row, :length]
            expected = dgin.self_attention(events, *kernels_of(layer.attention)).mean(axis=0)
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-6)


def test_a_lone_event_is_the_mean_of_its_set():
    found, expected = (
        GroupAggregation.from_config({"heads": HEADS, "fast": fast}) for fast in (True, False)
    )
    one, mask = EVENTS[:, :1], np.array([[True], [True], [False], [True]])
    rows = found(one, mask)
    expected.build(one.shape)
    expected.set_weights(found.get_weights())
    np.testing.assert_allclose(rows, expected(one, mask), rtol=1e-5, atol=1e-6)
    assert not np.any(rows[2])


def values_and_gradients(function, *arguments):
    """Of a mean [sets, dim], and of a sum of it with respect to the arguments."""
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        mean = function(*arguments)
        loss = tf.reduce_sum(tf.sin(mean) * ASKED)
    return [mean, *tape.gradient(loss, arguments, unconnected_gradients="zero")]


def random_kernels():
    shape = DIM, HEADS, 3
    return AttentionKernels(*(tf.constant(RNG.normal(0, 0.5, shape), tf.float32) for _ in range(4)))


ASKED = RNG.normal(size=(SETS, DIM)).astype(np.float32)


@pytest.mark.parametrize("time", [1, TIME])
def test_the_fast_mean_has_the_values_and_gradients_of_the_equations(time):
    kernels = random_kernels()
    events, mask = tf.constant(EVENTS[:, :time]), tf.constant(MASK[:, :time])
    fast, plain = (
        values_and_gradients(
            lambda events, *kernels, f=f: f(events, mask, AttentionKernels(*kernels)),
            events,
            *kernels,
        )
        for f in (fast_ops.mean_self_attention, self_attention.mean_self_attention)
    )
    for found, expected in zip(fast, plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert all(np.any(part) for part in plain) is (time > 1)


@pytest.mark.parametrize("time", [1, TIME])
def test_events_of_few_classes_have_the_mean_and_the_gradients_of_events(time):
    kernels = random_kernels()
    classes = tf.constant(RNG.integers(0, 3, (SETS, time)), tf.int32)
    mask = tf.constant(MASK[:, :time])
    table = tf.constant(RNG.normal(size=(3, DIM)), tf.float32)

    def by_event(table, *kernels):
        events = tf.gather(table, classes)
        return self_attention.mean_self_attention(events, mask, AttentionKernels(*kernels))

    def by_class(table, *kernels):
        kernels = AttentionKernels(*kernels)
        return fast_ops.mean_self_attention_of_classes(table, classes, mask, kernels)

    fast, plain = (values_and_gradients(f, table, *kernels) for f in (by_class, by_event))
    for found, expected in zip(fast, plain, strict=True):
        np.testing.assert_allclose(found, tf.convert_to_tensor(expected), rtol=1e-4, atol=1e-5)


def test_fast_self_attention_has_the_values_and_gradients_of_the_equations():
    kernels = random_kernels()
    fast, plain = (
        values_and_gradients(
            lambda events, *kernels, f=f: tf.reduce_sum(
                tf.where(
                    MASK[..., None], f(events, tf.constant(MASK), AttentionKernels(*kernels)), 0.0
                ),
                axis=1,
            ),
            tf.constant(EVENTS),
            *kernels,
        )
        for f in (fast_ops.self_attention, self_attention.self_attention)
    )
    for found, expected in zip(fast, plain, strict=True):
        assert np.any(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_sets_may_have_any_number_of_axes_before_them():
    layer = MultiHeadSelfAttention(HEADS)
    events, mask = EVENTS.reshape(2, 2, TIME, DIM), MASK.reshape(2, 2, TIME)
    found = layer(events, mask).numpy().reshape(SETS, TIME, DIM)
    np.testing.assert_allclose(found, layer(EVENTS, MASK), rtol=1e-5, atol=1e-6)


def test_the_order_of_events_does_not_matter():
    layer, order = MultiHeadSelfAttention(HEADS), RNG.permutation(TIME)
    found = layer(EVENTS[:, order], MASK[:, order])
    expected = layer(EVENTS, MASK).numpy()[:, order]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_one_event_attends_to_itself_so_that_it_is_mapped_linearly():
    layer = MultiHeadSelfAttention(HEADS)
    one = EVENTS[:, :1]
    mask = np.ones((SETS, 1), bool)
    np.testing.assert_allclose(layer(3 * one, mask), 3 * layer(one, mask), rtol=1e-4, atol=1e-6)


def test_the_encoder_is_the_first_half_of_equation_8():
    layer = SelfAttentionEncoder(HEADS)
    layer(EVENTS, MASK)
    for variable in layer.trainable_variables:
        variable.assign(RNG.normal(0, 0.5, variable.shape))
    found = layer(EVENTS, MASK).numpy()
    feed = layer.feed_forward
    ffn = [
        w.numpy() for dense in (feed.hidden, feed.output_layer) for w in (dense.kernel, dense.bias)
    ]
    for row, length in enumerate(LENGTHS[:-1]):
        events = EVENTS[row, :length]
        attended = events + dgin.self_attention(events, *kernels_of(layer.attention))
        first = dgin.layer_norm(attended, layer.norm.gamma.numpy(), layer.norm.beta.numpy())
        expected = dgin.layer_norm(
            first + dgin.feed_forward(first, *ffn), feed.norm.gamma.numpy(), feed.norm.beta.numpy()
        )
        np.testing.assert_allclose(found[row, :length], expected, rtol=1e-3, atol=1e-4)


def test_no_heads_are_refused():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        MultiHeadSelfAttention(0)
