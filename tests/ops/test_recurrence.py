"""The steps against the paper's equations in numpy; the engine against an unrolled loop."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops import recurrence as ops
from dgin_tf.ops.compiling import MIN_XLA_ROWS
from dgin_tf.ops.recurrence import RecurrentWeights, recurrence
from dgin_tf.released.recurrent import keep_gate
from tests.oracles import dien
from tests.oracles.recurrence import unrolled

USERS, CANDIDATES, TIME, DIM, UNITS = 3, 2, 7, 5, 4
FORMS = {
    "paper": {},
    "two biases": {"bias": True},
    "reset before": {"reset_after": False},
    "no update gate": {"gates": 2},
    "no update gate, reset before": {"gates": 2, "reset_after": False},
    "floor": {"floor": True},
    "inputs per candidate": {"candidates": True, "floor": True, "bias": True},
}


def case(gates=3, bias=False, floor=False, reset_after=True, candidates=False, users=USERS):
    """Random arguments of `recurrence` in float64."""
    rng = np.random.default_rng(11)

    def normal(*shape):
        return tf.constant(rng.normal(size=shape))

    shape = (users, CANDIDATES, TIME) if candidates else (users, TIME)
    scale = tf.sigmoid(normal(users, CANDIDATES, TIME))
    weights = RecurrentWeights(
        normal(UNITS, gates * UNITS), normal(gates * UNITS) if bias else None, reset_after
    )
    gate = (scale, 1 - scale if floor else None)
    return normal(*shape, gates * UNITS), gate, normal(users, CANDIDATES, UNITS), weights


def tensors(inputs, gate, state, weights):
    return [x for x in (inputs, *gate, state, weights.kernel, weights.bias) if x is not None]


def value_and_gradients(run, arguments, with_states):
    """Last state, and the gradients of a loss that reads it (and all states)."""
    watched = tensors(*arguments)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        states, last = run(*arguments)
        loss = tf.reduce_sum(tf.sin(last))
        if with_states:
            loss += tf.reduce_sum(tf.cos(states))
    return [last, *tape.gradient(loss, watched)]


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


def released_augru_step(inputs, score, state, weights):
    return ops.gated_step(inputs, *keep_gate(score), state, weights)


def mine(function, step, reset_after=True):
    """A step function of the package on the arguments of the oracle."""
    numbers = step["weights"]
    gates = slice(UNITS, None) if function is ops.agru_step else slice(None)
    inputs = (step["i"] @ numbers["W"] + numbers["b"])[:, gates]
    weights = RecurrentWeights(tf.constant(numbers["U"][:, gates]), None, reset_after)
    score = () if function is ops.gru_step else (step["a"],)
    return function(inputs, *score, tf.constant(step["h"]), weights).numpy()


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize(
    ("function", "oracle"),
    [
        (ops.gru_step, dien.gru),
        (ops.agru_step, dien.agru),
        (ops.augru_step, dien.augru),
        (released_augru_step, dien.augru_released),
    ],
)
def test_a_step_is_the_papers_equation(step, function, oracle, reset_after):
    found = mine(function, step, reset_after)
    np.testing.assert_allclose(found, oracle(**step, reset_after=reset_after), atol=1e-14)


@pytest.mark.parametrize("function", [ops.agru_step, ops.augru_step])
def test_a_zero_score_keeps_the_state(step, function):
    step["a"] *= 0
    np.testing.assert_array_equal(mine(function, step), step["h"])


def test_a_score_of_one_makes_augru_a_gru(step):
    step["a"] = np.ones_like(step["a"])
    np.testing.assert_array_equal(mine(ops.augru_step, step), mine(ops.gru_step, step))


def test_a_score_of_one_makes_agru_the_candidate(step):
    step["a"] = np.ones_like(step["a"])
    candidate = dien.gru_gates(step["i"], step["h"], step["weights"])[2]
    np.testing.assert_allclose(mine(ops.agru_step, step), candidate, atol=1e-14)


def test_the_released_augru_is_a_gru_at_score_zero_and_the_candidate_at_one(step):
    step["a"] *= 0
    found = mine(released_augru_step, step)
    np.testing.assert_allclose(found, mine(ops.gru_step, step), atol=1e-15)
    step["a"] += 1
    candidate = dien.gru_gates(step["i"], step["h"], step["weights"])[2]
    found = mine(released_augru_step, step)
    np.testing.assert_allclose(found, candidate, atol=1e-14)


@pytest.mark.parametrize(
    ("form", "jit_compile", "with_states"),
    [
        *itertools.product(FORMS, [False, True], [True]),
        *itertools.product(FORMS, [False], [False]),
        ("paper", True, False),
    ],
)
def test_states_and_gradients_are_those_of_the_unrolled_loop(form, jit_compile, with_states):
    arguments = case(**FORMS[form])

    def run(*args):
        return recurrence(*args, return_states=with_states, jit_compile=jit_compile)

    found = value_and_gradients(run, arguments, with_states)
    expected = value_and_gradients(unrolled, arguments, with_states)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_all_states_end_in_the_last_one():
    states, last = recurrence(*case(), return_states=True)
    np.testing.assert_array_equal(states[:, :, -1], last)


def test_a_batch_in_pieces_gives_the_same_as_the_whole(monkeypatch):
    arguments = case(users=6)
    whole, pieces = (
        value_and_gradients(
            lambda *args: recurrence(*args, return_states=True, jit_compile=True), arguments, True
        )
        for _ in [None, monkeypatch.setattr(ops, "shard_count", lambda users: 3)]
    )
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-13)


def test_a_scale_of_zero_passes_the_state_through_bitwise():
    inputs, (scale, _), state, weights = case()
    scale = scale * np.array([1, 0, 0, 1, 0, 1, 0.0])
    states, _ = recurrence(inputs, (scale, None), state, weights, return_states=True)
    for t in (1, 2, 4, 6):
        np.testing.assert_array_equal(states[:, :, t], states[:, :, t - 1])


def test_sizes_may_be_unknown():
    inputs, (scale, _), state, weights = case()

    @tf.function(
        input_signature=[tf.TensorSpec([None] * x.shape.rank, x.dtype) for x in (inputs,)],
        autograph=False,
    )
    def run(inputs):
        return recurrence(
            tf.ensure_shape(inputs, [None, None, 3 * UNITS]),
            (scale[:, :, : tf.shape(inputs)[1]], None),
            state,
            weights,
            return_states=True,
        )

    for time in (TIME, 3, 0):
        np.testing.assert_array_equal(
            run(inputs[:, :time])[1],
            unrolled_last(inputs[:, :time], (scale[:, :, :time], None), state, weights),
        )


def unrolled_last(inputs, gate, state, weights):
    return unrolled(inputs, gate, state, weights)[1] if inputs.shape[1] else state


def compiled_by_xla(users, time):
    """Whether a graph of these sizes, None for unknown, asks for XLA."""
    _, gate, state, weights = case(users=8)

    def last(inputs, scale):
        return recurrence(inputs, (scale, None), state[:users], weights, return_states=False)[1]

    function = tf.function(last, autograph=False).get_concrete_function(
        tf.TensorSpec([users, time, 3 * UNITS], tf.float64),
        tf.TensorSpec([users, CANDIDATES, time], tf.float64),
    )
    library = function.graph.as_graph_def().library.function
    return any(f.attr["_XlaMustCompile"].b for f in library)


def test_enough_rows_of_a_known_number_are_compiled_whatever_the_length():
    assert compiled_by_xla(MIN_XLA_ROWS // CANDIDATES, TIME)
    assert not compiled_by_xla(MIN_XLA_ROWS // CANDIDATES - 1, TIME)
    assert compiled_by_xla(MIN_XLA_ROWS // CANDIDATES, None)
    assert not compiled_by_xla(None, TIME)


@pytest.mark.parametrize(("users", "cores", "expected"), [(64, 2, 2), (64, 8, 4), (33, 2, 1)])
def test_a_batch_is_split_evenly_over_the_cores(monkeypatch, users, cores, expected):
    monkeypatch.setattr(ops.os, "cpu_count", lambda: cores)
    assert ops.shard_count(users) == expected
    assert ops.shard_count(None) == 1


def test_gradients_are_right_under_a_step_compiled_whole():
    arguments = case(floor=True)

    def gradients(jit):
        def step():
            return value_and_gradients(
                lambda *args: recurrence(*args, return_states=True), arguments, True
            )

        return tf.function(step, jit_compile=jit, autograph=False)()

    for one, other in zip(gradients(True), gradients(False), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
