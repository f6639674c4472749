"""The fast scan against the plain one, which TensorFlow differentiates by itself."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops.fast import loops
from dgin_tf.ops.fast.scan import fast_scan
from dgin_tf.ops.ntm import scan

USERS, TIME, DIM = 3, 5, 2


@dataclasses.dataclass(frozen=True)
class Step:
    """A state of two tensors, one of which the other's step reads."""

    def __call__(self, state, values, weights):
        event, real = values
        level = tf.tanh(state["level"] @ weights["kernel"] + event)
        total = state["total"] + real[:, None] * level * weights["scale"]
        return {"level": level, "total": total, "dropped": event}


def arguments():
    rng = np.random.default_rng(5)

    def normal(*shape):
        return tf.constant(rng.normal(size=shape))

    state = {"total": normal(USERS, DIM), "level": normal(USERS, DIM)}
    weights = {"scale": normal(DIM), "kernel": normal(DIM, DIM)}
    return state, (normal(USERS, TIME, DIM), normal(USERS, TIME)), weights


def value_and_gradients(run, traces):
    inputs = arguments()
    with tf.GradientTape() as tape:
        tape.watch(tf.nest.flatten(inputs))
        last, histories = run(Step(), *inputs, traces)
        loss = tf.reduce_sum(tf.sin(last["total"])) + tf.reduce_sum(last["level"] ** 3)
        if traces:
            loss += tf.reduce_sum(tf.cos(histories["level"]) * arguments()[1][0])
    return [loss, *tf.nest.flatten(tape.gradient(loss, inputs))]


@pytest.mark.parametrize("traces", [(), ("level",)])
@pytest.mark.parametrize("keep_states", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_values_and_gradients_are_those_of_the_plain_loop(traces, keep_states, jit_compile):
    def run(*args, **kwargs):
        return fast_scan(*args, **kwargs, keep_states=keep_states, jit_compile=jit_compile)

    result, reference = value_and_gradients(run, traces), value_and_gradients(scan, traces)
    assert len(result) == len(reference) == 7
    for mine, theirs in zip(result, reference, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("traces", [(), ("level",)])
def test_a_compiled_batch_cut_into_pieces_has_the_values_and_gradients_of_the_whole(
    traces, monkeypatch
):
    monkeypatch.setattr(loops, "shard_count", lambda users: users)

    def run(*args, **kwargs):
        return fast_scan(*args, **kwargs, jit_compile=True)

    reference = value_and_gradients(scan, traces)
    for mine, theirs in zip(value_and_gradients(run, traces), reference, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


def test_no_event_leaves_the_state():
    state, (events, real), weights = arguments()
    last, traces = fast_scan(Step(), state, (events[:, :0], real[:, :0]), weights, ["level"])
    for name, value in state.items():
        np.testing.assert_array_equal(last[name], value)
    assert traces["level"].shape == [USERS, 0, DIM]


@pytest.mark.parametrize("cut", range(1, TIME))
def test_folding_in_two_parts_is_folding_at_once_bitwise(cut):
    state, sequences, weights = arguments()
    whole, _ = fast_scan(Step(), state, sequences, weights)
    first, _ = fast_scan(Step(), state, [s[:, :cut] for s in sequences], weights)
    second, _ = fast_scan(Step(), first, [s[:, cut:] for s in sequences], weights)
    for name, value in whole.items():
        np.testing.assert_array_equal(second[name], value)


def test_steps_of_unknown_number_and_users_are_folded():
    state, sequences, weights = arguments()
    whole, _ = fast_scan(Step(), state, sequences, weights)
    loose = [tf.TensorSpec([None, None, *s.shape[2:]], s.dtype) for s in sequences]
    states = {name: tf.TensorSpec([None, DIM], tf.float64) for name in state}
    run = tf.function(
        lambda state, sequences: fast_scan(Step(), state, sequences, weights)[0],
        input_signature=[states, loose],
        autograph=False,
    )
    for name, value in run(state, list(sequences)).items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-12)
