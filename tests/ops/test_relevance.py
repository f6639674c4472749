"""SIM's weighted sum of events: the formula in numpy, and the fast one with its gradient."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops import relevance
from dgin_tf.ops.fast.relevance_pooling import pool_by_relevance

RANDOM = np.random.default_rng(5)
QUERY, EVENTS = (
    tf.constant(RANDOM.normal(size=shape), tf.float32) for shape in ((3, 2, 5), (3, 7, 5))
)
MASK = tf.constant(np.arange(7) < np.array([[7], [4], [0]]))
UPSTREAM = tf.constant(RANDOM.normal(size=(3, 2, 5)), tf.float32)


def test_the_sum_is_equation_2():
    real = MASK.numpy()[..., None]
    formula = np.einsum("ucd,utd,utk->uck", QUERY, EVENTS * real, EVENTS)
    pooled = relevance.pool_by_relevance(QUERY, EVENTS, MASK)
    np.testing.assert_allclose(pooled, formula, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_the_fast_sum_has_the_value_and_the_gradients_of_the_formula(jit):
    def with_gradients(function):
        with tf.GradientTape() as tape:
            tape.watch([QUERY, EVENTS])
            pooled = function(QUERY, EVENTS, MASK)
        return [pooled, *tape.gradient(pooled, [QUERY, EVENTS], UPSTREAM)]

    fast = tf.function(lambda: with_gradients(pool_by_relevance), jit_compile=jit, autograph=False)
    for ours, formula in zip(fast(), with_gradients(relevance.pool_by_relevance), strict=True):
        np.testing.assert_allclose(ours, formula, rtol=1e-4, atol=1e-5)
