"""The fast recurrence against the plain loop, which TensorFlow differentiates by itself."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops.compiling import MIN_XLA_ROWS
from dgin_tf.ops.fast import loops
from dgin_tf.ops.fast.recurrence import fast_recurrence
from dgin_tf.ops.recurrence import RecurrentWeights, recurrence

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


@pytest.mark.parametrize(
    ("form", "jit_compile", "with_states"),
    [
        *itertools.product(FORMS, [False, True], [True]),
        *itertools.product(FORMS, [False], [False]),
        ("paper", True, False),
    ],
)
def test_states_and_gradients_are_those_of_the_plain_loop(form, jit_compile, with_states):
    arguments = case(**FORMS[form])

    def run(*args):
        return fast_recurrence(*args, return_states=with_states, jit_compile=jit_compile)

    result = value_and_gradients(run, arguments, with_states)
    expected = value_and_gradients(recurrence, arguments, with_states)
    for one, other in zip(result, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_all_states_end_in_the_last_one():
    states, last = fast_recurrence(*case(), return_states=True)
    np.testing.assert_array_equal(states[:, :, -1], last)


def test_a_batch_in_pieces_gives_the_same_as_the_whole(monkeypatch):
    arguments = case(users=6)
    whole, pieces = (
        value_and_gradients(
            lambda *args: fast_recurrence(*args, return_states=True, jit_compile=True),
            arguments,
            True,
        )
        for _ in [None, monkeypatch.setattr(loops, "shard_count", lambda users: 3)]
    )
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-13)


def test_a_scale_of_zero_passes_the_state_through_bitwise():
    inputs, (scale, _), state, weights = case()
    scale = scale * np.array([1, 0, 0, 1, 0, 1, 0.0])
    states, _ = fast_recurrence(inputs, (scale, None), state, weights, return_states=True)
    for t in (1, 2, 4, 6):
        np.testing.assert_array_equal(states[:, :, t], states[:, :, t - 1])


def test_sizes_may_be_unknown():
    inputs, (scale, _), state, weights = case()

    @tf.function(
        input_signature=[tf.TensorSpec([None] * x.shape.rank, x.dtype) for x in (inputs,)],
        autograph=False,
    )
    def run(inputs):
        return fast_recurrence(
            tf.ensure_shape(inputs, [None, None, 3 * UNITS]),
            (scale[:, :, : tf.shape(inputs)[1]], None),
            state,
            weights,
            return_states=True,
        )

    for time in (TIME, 3, 0):
        np.testing.assert_array_equal(
            run(inputs[:, :time])[1],
            recurrence(inputs[:, :time], (scale[:, :, :time], None), state, weights)[1],
        )


def compiled_by_xla(users, time):
    """Whether a graph of these sizes, None for unknown, asks for XLA."""
    _, gate, state, weights = case(users=8)

    def last(inputs, scale):
        return fast_recurrence(inputs, (scale, None), state[:users], weights, return_states=False)[
            1
        ]

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


@pytest.mark.parametrize(
    ("users", "cores", "expected"), [(64, 2, 2), (128, 8, 4), (63, 2, 1), (40, 2, 1)]
)
def test_a_batch_is_split_evenly_over_the_cores(monkeypatch, users, cores, expected):
    monkeypatch.setattr(loops.os, "cpu_count", lambda: cores)
    assert loops.shard_count(users) == expected
    assert loops.shard_count(None) == 1


def test_gradients_are_right_under_a_step_compiled_whole():
    arguments = case(floor=True)

    def gradients(jit):
        def step():
            return value_and_gradients(
                lambda *args: fast_recurrence(*args, return_states=True), arguments, True
            )

        return tf.function(step, jit_compile=jit, autograph=False)()

    for one, other in zip(gradients(True), gradients(False), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
