"""Self-attention within sets of events: Eqs. (4)-(6) and the encoder of Eq. (8)."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.self_attention import MultiHeadSelfAttention, SelfAttentionEncoder
from dgin_tf.ops.masking import masked_mean
from tests.oracles import dgin

SETS, TIME, DIM, HEADS = 4, 7, 5, 2
LENGTHS = np.array([7, 3, 1, 0])
MASK = np.arange(TIME) < LENGTHS[:, None]
RNG = np.random.default_rng(5)
EVENTS = RNG.normal(size=(SETS, TIME, DIM)).astype(np.float32)


def kernels_of(layer):
    parts = ("query", "key", "value", "output")
    return [getattr(layer, f"{part}_kernels")(EVENTS).numpy() for part in parts]


def test_events_learn_from_their_set_by_equations_4_and_5():
    layer = MultiHeadSelfAttention(HEADS)
    found = layer(EVENTS, MASK)
    for row, length in enumerate(LENGTHS[:-1]):
        expected = dgin.self_attention(EVENTS[row, :length], *kernels_of(layer))
        np.testing.assert_allclose(found[row, :length], expected, rtol=1e-4, atol=1e-6)


def test_the_mean_of_a_set_is_equation_6():
    layer = MultiHeadSelfAttention(HEADS)
    found = layer.mean_of_sets(EVENTS, MASK)
    for row, length in enumerate(LENGTHS):
        expected = np.zeros(DIM)
        if length:
            events = EVENTS[row, :length]
            expected = dgin.self_attention(events, *kernels_of(layer)).mean(axis=0)
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-6)


def test_a_lone_event_is_the_mean_of_its_set():
    layer = MultiHeadSelfAttention(HEADS)
    found = layer.of_lone_events(EVENTS[:, 0])
    expected = layer.mean_of_sets(EVENTS[:, :1], np.ones([SETS, 1], bool))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_mean_of_the_weights_has_the_gradients_of_the_mean_of_the_outputs():
    layer, asked = MultiHeadSelfAttention(HEADS), RNG.normal(size=(SETS, DIM))
    events = tf.constant(EVENTS)
    layer(events, MASK)
    gradients = []
    for mean in (layer.mean_of_sets, lambda *sets: masked_mean(layer(*sets), sets[1])):
        with tf.GradientTape() as tape:
            tape.watch(events)
            loss = tf.reduce_sum(mean(events, tf.constant(MASK)) * asked)
        gradients.append(tape.gradient(loss, [events, *layer.trainable_variables]))
    assert len(gradients[0]) == 5
    for found, expected in zip(*gradients, strict=True):
        assert np.any(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("time", [1, TIME])
def test_events_of_few_classes_have_the_mean_and_the_gradients_of_events(time):
    layer, asked = MultiHeadSelfAttention(HEADS), RNG.normal(size=(SETS, DIM))
    classes = tf.constant(RNG.integers(0, 3, (SETS, time)), tf.int32)
    mask = tf.constant(MASK[:, :time])
    table = tf.constant(RNG.normal(size=(3, DIM)), tf.float32)
    layer(EVENTS, MASK)

    def by_event(table):
        return layer.mean_of_sets(tf.gather(table, classes), mask)

    def by_class(table):
        return layer.mean_of_class_sets(table, classes, mask)

    np.testing.assert_allclose(by_class(table), by_event(table), rtol=1e-4, atol=1e-6)
    gradients = []
    for mean in (by_class, by_event):
        with tf.GradientTape() as tape:
            tape.watch(table)
            loss = tf.reduce_sum(mean(table) * asked)
        sources = [table, *layer.trainable_variables]
        gradients.append(
            tape.gradient(loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        )
    for found, expected in zip(*gradients, strict=True):
        expected = tf.convert_to_tensor(expected)
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
