"""The steps of the recurrences against the paper's equations in numpy."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops import recurrence as ops
from dgin_tf.ops.recurrence import RecurrentWeights
from dgin_tf.released.recurrent import keep_gate
from tests.oracles import dien

USERS, DIM, UNITS = 3, 5, 4


@pytest.fixture
def step():
    rng = np.random.default_rng(3)
    numbers = {
        name: rng.normal(size=[rows, 3 * UNITS]) for name, rows in (("W", DIM), ("U", UNITS))
    }
    numbers["b"] = rng.normal(size=3 * UNITS)
    return {
        "i": rng.normal(size=[USERS, DIM]),
        "a": rng.uniform(size=[USERS, 1]),
        "h": rng.normal(size=[USERS, UNITS]),
        "weights": numbers,
    }


def agru_step(inputs, score, state, weights):
    """Eq. (11), where weights hold reset and candidate only."""
    return ops.gated_step(inputs, score, None, state, weights)


def augru_step(inputs, score, state, weights):
    """Eqs. (12), (13)."""
    return ops.gated_step(inputs, score, None, state, weights)


def released_augru_step(inputs, score, state, weights):
    return ops.gated_step(inputs, *keep_gate(score), state, weights)


def mine(function, step, reset_after=True):
    """A step function of the package on the arguments of the oracle."""
    numbers = step["weights"]
    gates = slice(UNITS, None) if function is agru_step else slice(None)
    inputs = (step["i"] @ numbers["W"] + numbers["b"])[:, gates]
    weights = RecurrentWeights(tf.constant(numbers["U"][:, gates]), None, reset_after)
    score = () if function is ops.gru_step else (step["a"],)
    return function(inputs, *score, tf.constant(step["h"]), weights).numpy()


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize(
    ("function", "oracle"),
    [
        (ops.gru_step, dien.gru),
        (agru_step, dien.agru),
        (augru_step, dien.augru),
        (released_augru_step, dien.augru_released),
    ],
)
def test_a_step_is_the_papers_equation(step, function, oracle, reset_after):
    result = mine(function, step, reset_after)
    np.testing.assert_allclose(result, oracle(**step, reset_after=reset_after), atol=1e-14)


@pytest.mark.parametrize("function", [agru_step, augru_step])
def test_a_zero_score_keeps_the_state(step, function):
    step["a"] *= 0
    np.testing.assert_array_equal(mine(function, step), step["h"])


def test_a_score_of_one_makes_augru_a_gru(step):
    step["a"] = np.ones_like(step["a"])
    np.testing.assert_array_equal(mine(augru_step, step), mine(ops.gru_step, step))


def test_a_score_of_one_makes_agru_the_candidate(step):
    step["a"] = np.ones_like(step["a"])
    candidate = dien.gru_gates(step["i"], step["h"], step["weights"])[2]
    np.testing.assert_allclose(mine(agru_step, step), candidate, atol=1e-14)


def test_the_released_augru_is_a_gru_at_score_zero_and_the_candidate_at_one(step):
    step["a"] *= 0
    result = mine(released_augru_step, step)
    np.testing.assert_allclose(result, mine(ops.gru_step, step), atol=1e-15)
    step["a"] += 1
    candidate = dien.gru_gates(step["i"], step["h"], step["weights"])[2]
    result = mine(released_augru_step, step)
    np.testing.assert_allclose(result, candidate, atol=1e-14)
