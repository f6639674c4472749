"""SDIM: sums of what collides, from a table that the history's length does not change."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import embed_history
from dgin_tf.layers.search.sdim import HashedInterest, normalize
from tests.layers.search.searching import Data
from tests.oracles import searchers


def interest(layer, data):
    return layer.interest(layer.encode(data.embedded_history), data.target)["interest"].numpy()


@pytest.mark.parametrize("norm", ["l2", "count", "none"])
@pytest.mark.parametrize("tau", [1, 2, 5])
def test_the_table_gives_what_comparing_with_every_event_gives(norm, tau):
    data, layer = Data(), HashedInterest(10, tau, norm)
    found = interest(layer, data)
    directions = layer.hyperplanes.directions.numpy()
    for user, place, candidate, events in data.pairs():
        wanted = searchers.collided(candidate, events, directions, tau, norm)
        np.testing.assert_allclose(found[user, place], wanted, rtol=1e-4, atol=1e-6)
    assert not np.any(found[2])


@pytest.mark.parametrize("time", [3, 17])
def test_the_state_is_as_large_for_every_history(time):
    data, layer = Data(length=(time, 1), time=time), HashedInterest(12, 3, "count")
    state = layer.encode(data.embedded_history)
    assert state["sums"].shape == (2, 4, 8, 6)
    assert state["counts"].shape == (2, 4, 8, 1)


def test_every_event_is_filed_once_in_every_table():
    data, layer = Data(), HashedInterest(12, 3, "count")
    counts = layer.encode(data.embedded_history)["counts"].numpy()[..., 0]
    np.testing.assert_array_equal(counts.sum(-1), np.repeat([[9], [5], [0]], 4, axis=1))


@pytest.mark.parametrize("training", [False, True])
def test_order_of_events_does_not_matter(training):
    data, layer = Data(length=(9,)), HashedInterest(12, 3)
    forwards = layer.encode(data.embedded_history, training=training)
    data.items = data.features["hist_item_id"] = data.items[:, ::-1]
    backwards = layer.encode(data.embedded_history, training=training)
    target = data.target
    np.testing.assert_allclose(
        layer.interest(forwards, target, training=training)["interest"],
        layer.interest(backwards, target, training=training)["interest"],
        atol=1e-6,
    )


def test_length_of_the_candidate_does_not_matter():
    data, layer = Data(), HashedInterest(12, 3)
    state, target = layer.encode(data.embedded_history), data.target
    longer = target._replace(embedding=37.0 * target.embedding)
    np.testing.assert_array_equal(
        layer.interest(state, target)["interest"], layer.interest(state, longer)["interest"]
    )


def test_without_a_norm_histories_add():
    data, layer = Data(length=(9,)), HashedInterest(12, 3, "none")
    target = data.target
    parts = [
        layer.interest(layer.encode(embed_history(data.part(slice(*p)), tf.float32)), target)[
            "interest"
        ].numpy()
        for p in ((0, 4), (4, 9))
    ]
    np.testing.assert_allclose(sum(parts), interest(layer, data), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["l2", "count", "none"])
def test_training_and_serving_agree_in_value_and_gradient(norm):
    data, layer = Data(), HashedInterest(12, 3, norm)
    found = []
    for training in (False, True):
        with tf.GradientTape() as tape:
            state = layer.encode(data.embedded_history, training=training)
            value = layer.interest(state, data.target, training=training)["interest"]
            loss = tf.reduce_sum(tf.sin(value))
        found.append((value.numpy(), tf.convert_to_tensor(tape.gradient(loss, data.table))))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-5)
    assert np.any(found[0][1])


def test_the_norm_of_nothing_is_nothing_and_so_is_its_gradient():
    sums = tf.constant([[0.0, 0.0], [3.0, 4.0]])
    with tf.GradientTape() as tape:
        tape.watch(sums)
        normal = normalize(sums)
    np.testing.assert_allclose(normal, [[0, 0], [0.6, 0.8]], rtol=1e-6)
    assert not np.any(tape.gradient(normal, sums)[0])


def test_settings_that_make_no_tables_are_refused():
    with pytest.raises(ValueError, match="multiple of tau, at least 1; got 10 and 3"):
        HashedInterest(10, 3)
    with pytest.raises(ValueError, match="one of l2, count, none; got 'l1'"):
        HashedInterest(norm="l1")
