"""Crosses of history and candidate: one weight for a pair, summed over what is real."""

import numpy as np
import tensorflow as tf

from dgin_tf.layers.crosses import HistoryCross
from dgin_tf.layers.events import History, Target
from dgin_tf.ops.hashing import cross_bucket

RNG = np.random.default_rng(9)
MASK = np.arange(7) < np.array([7, 3, 0])[:, None]
REAL = np.array([[1, 1], [1, 0], [1, 1]], bool)
PAST = {name: RNG.integers(2, 50, (3, 7)) * MASK for name in ("item_id", "category_id")}
CANDIDATE = {name: RNG.integers(2, 50, (3, 2)) for name in ("item_id", "category_id")}


def make(buckets=1009):
    layer = HistoryCross(("item_id", "category_id"), buckets)
    layer.table.assign(RNG.normal(size=(buckets, 1)))
    return layer


def logit(layer, past=PAST, mask=MASK):
    state = layer.encode(History(tf.zeros([3, 7, 1]), tf.constant(mask), past))
    return layer.interest(state, Target(tf.zeros([3, 2, 1]), tf.constant(REAL), CANDIDATE))[
        "interest"
    ]


def test_the_wide_logit_is_the_sum_of_the_weights_of_all_pairs():
    layer = make()
    found = logit(layer).numpy()
    for user, candidate in np.argwhere(REAL):
        expected = 0.0
        for salt, name in enumerate(("item_id", "category_id")):
            target = CANDIDATE[name][user, candidate]
            for past in PAST[name][user][MASK[user]]:
                bucket = 1 + cross_bucket((past, target), 1008, salt)
                expected += layer.table.numpy()[bucket, 0]
        np.testing.assert_allclose(found[user, candidate, 0], expected, rtol=1e-4, atol=1e-5)


def test_an_empty_history_and_a_padded_candidate_give_zero():
    found = logit(make()).numpy()
    assert not found[2].any()
    assert not found[1, 1].any()


def test_the_order_of_events_and_what_is_padded_do_not_matter():
    layer, order = make(), RNG.permutation(7)
    shuffled = {name: ids[:, order] for name, ids in PAST.items()}
    np.testing.assert_allclose(logit(layer, shuffled, MASK[:, order]), logit(layer), rtol=1e-5)
    other = {name: np.where(MASK, ids, 41) for name, ids in PAST.items()}
    np.testing.assert_array_equal(logit(layer, other), logit(layer))


def test_the_gradient_is_sparse_and_padding_touches_the_first_row_alone():
    layer = make()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(logit(layer))
    gradient = tape.gradient(loss, layer.table)
    assert isinstance(gradient, tf.IndexedSlices)
    idle = tf.reduce_all(gradient.values == 0, axis=-1).numpy()
    assert set(gradient.indices.numpy()[idle]) == {0}
    assert not idle[gradient.indices.numpy() > 0].any()


def test_settings_survive_the_config():
    layer = make(buckets=53)
    assert HistoryCross.from_config(layer.get_config()).get_config() == layer.get_config()
