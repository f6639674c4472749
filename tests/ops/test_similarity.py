"""The one metric of ENCODE."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops.similarity import Relevance, cosine_distance
from tests.oracles import encode

SETTINGS = (
    {},
    {"beta": 3.0},
    {"metric": "printed"},
    {"metric": "dot"},
)


def vectors(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_similarities_are_those_of_the_equations(settings):
    left, right = vectors(3, 5), vectors(7, 5, seed=1)
    found = Relevance(**settings).check().pairwise(tf.constant(left), tf.constant(right))
    wanted = [[encode.similarity(x, y, **settings) for y in right] for x in left]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    beside = Relevance(**settings).between(tf.constant(left), tf.constant(right[:3]))
    np.testing.assert_allclose(beside, np.diag(wanted), rtol=1e-4, atol=1e-6)


def test_a_vector_of_zeros_is_at_distance_one_and_passes_no_gradient():
    zero, other = tf.zeros([5]), tf.constant(vectors(5))
    with tf.GradientTape() as tape:
        tape.watch([zero, other])
        distance = cosine_distance(zero, other)
    assert distance == 1.0
    assert not np.any(tape.gradient(distance, [zero, other]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"metric": "l2"}, "one of cosine, printed, dot; got 'l2'"),
        ({"beta": 0.0}, "above 0; got 0.0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Relevance(**settings).check()
