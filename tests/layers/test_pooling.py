"""Pooled histories: what is summed, how sums fold, and what the released code sums."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import History, Target
from dgin_tf.layers.pooling import Pooling

RNG = np.random.default_rng(2)
LENGTHS = np.array([7, 4, 1, 0])
MASK = np.arange(7) < LENGTHS[:, None]
EVENTS = RNG.normal(size=(4, 7, 5)).astype(np.float32) * MASK[..., None]
QUERY = RNG.normal(size=(4, 3, 5)).astype(np.float32)
TARGET = Target(tf.constant(QUERY), tf.ones([4, 3], tf.bool), {})
TABLE = tf.Variable(np.arange(35, dtype=np.float32).reshape(7, 5))


def history(events=EVENTS, mask=MASK):
    return History(tf.constant(events), tf.constant(mask), tables={"item_id": TABLE})


def interest(layer, past):
    return layer.interest(layer.encode(past), TARGET)["interest"].numpy()


def test_every_candidate_gets_the_sum_of_the_real_events():
    expected = np.tile(EVENTS.sum(1)[:, None], (1, 3, 1))
    np.testing.assert_allclose(interest(Pooling(), history()), expected, atol=1e-5)


def test_the_mean_divides_by_the_number_of_events_or_one():
    expected = EVENTS.sum(1) / np.maximum(LENGTHS, 1)[:, None]
    found = interest(Pooling(mean=True), history())
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)
    assert not found[3].any()


def test_padding_does_not_matter_bitwise():
    other = np.where(MASK[..., None], EVENTS, 77).astype(np.float32)
    np.testing.assert_array_equal(
        interest(Pooling(), history(other)), interest(Pooling(), history())
    )


@pytest.mark.parametrize("mean", [False, True])
def test_updates_equal_one_encode(mean):
    layer = Pooling(mean=mean)
    state = layer.encode(history(EVENTS[:, :2], MASK[:, :2]))
    for part in (slice(2, 3), slice(3, 7)):
        state = layer.update(state, history(EVENTS[:, part], MASK[:, part]))
    found = layer.interest(state, TARGET)["interest"]
    np.testing.assert_allclose(found, interest(layer, history()), rtol=1e-6)


def test_repeating_every_event_doubles_the_sum_and_leaves_the_mean():
    twice = history(np.tile(EVENTS, (1, 2, 1)), np.tile(MASK, (1, 2)))
    for mean, factor in ((False, 2), (True, 1)):
        layer = Pooling(mean=mean)
        expected = factor * interest(layer, history())
        np.testing.assert_allclose(interest(layer, twice), expected, rtol=1e-5, atol=1e-6)


def test_the_product_with_the_candidate_joins_the_interest():
    found = interest(Pooling(product=True), history())
    pooled = EVENTS.sum(1)[:, None]
    np.testing.assert_allclose(found[..., :5], np.tile(pooled, (1, 3, 1)), atol=1e-5)
    np.testing.assert_allclose(found[..., 5:], QUERY * pooled, atol=1e-5)


def test_the_released_sum_counts_padding():
    found = interest(Pooling(count_padding=True), history())[:, 0]
    expected = EVENTS.sum(1) + (7 - LENGTHS)[:, None] * TABLE[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"need tables to be embedded"):
        Pooling(count_padding=True).encode(History(EVENTS, MASK))


def test_half_precision_keeps_the_state_in_float32():
    past = History(tf.cast(EVENTS, tf.bfloat16), tf.constant(MASK), {})
    state = Pooling().encode(past)
    assert state["sum"].dtype == tf.float32
    target = Target(tf.cast(QUERY, tf.bfloat16), TARGET.mask, {})
    assert Pooling().interest(state, target)["interest"].dtype == tf.bfloat16
