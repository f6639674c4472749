"""Self-attention within sets of events: Eqs. (4)-(6) and the encoder of Eq. (8)."""

import numpy as np
import pytest

from dgin_tf.layers.self_attention import MultiHeadSelfAttention, SelfAttentionEncoder
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


@pytest.mark.parametrize("longest", [3, 4, 7, 50])
def test_the_mean_is_equation_6_for_sets_that_lie_behind_each_other(longest):
    layer = MultiHeadSelfAttention(HEADS)
    events = RNG.normal(size=(2, 19, DIM)).astype(np.float32)
    # The first user's sets, a gap before the last one, and one of no events; the second has one set.
    runs = [[(0, 3), (3, 4), (4, 7), (7, 10), (16, 19), (0, 0)], [(8, 11)] + 5 * [(0, 0)]]
    place = np.arange(19)
    member = np.array([[(place >= a) & (place < b) for a, b in user] for user in runs])
    found = layer.mean_of_sets(events, member, longest)
    for user, sets in enumerate(runs):
        for row, (start, end) in enumerate(sets):
            expected = np.zeros(DIM)
            if end > start:
                own = events[user, start:end]
                expected = dgin.self_attention(own, *kernels_of(layer)).mean(axis=0)
            np.testing.assert_allclose(found[user, row], expected, rtol=1e-4, atol=1e-6)


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
