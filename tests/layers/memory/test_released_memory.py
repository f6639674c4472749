"""The released cells against the numbers that the published code computed."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops.fast.scan import fast_scan
from dgin_tf.released.memory import (
    ReleasedMemoryInterest,
    ReleasedTuringMemory,
    shift_and_sharpen,
)
from tests import golden_files
from tests.layers.memory import golden_memory

CELLS = (
    "mimn_base",
    "mimn_util",
    "mimn_induction",
    "mimn_util_induction",
    "mimn_util_sharp1_clip_shift2",
    "mimn_two_heads",
    "rum",
)
MIMN_CELLS = CELLS[:-1]
WHOLE = {
    "M": "memory",
    "controller_state": "controller",
    "usage_w_aggre": "usage",
    "sum_aggre": "written",
    "channel_gru_state": "channels",
    "channel_output_list": "channel_output",
    "read_output": "output",
}
HEADS = {"read_vector": "read", "read_weight": "read_weights", "write_weight": "write_weights"}
TOLERANCE = 1e-9


def run(golden, **kwargs):
    inputs = golden_memory.inputs(golden)
    layer = golden_memory.built(golden, inputs)
    known = {*layer.initial_state(1), *layer.trace_shapes}
    return layer, *layer(inputs, traces=sorted(known), **kwargs)


@pytest.mark.parametrize("stem", CELLS)
def test_golden_steps_of_the_released_cell(stem):
    golden = golden_files.load(stem)
    layer, last, traces = run(golden)
    compared = 0
    for theirs, ours in WHOLE.items():
        pairs = ((traces.get(ours), f"out_{theirs}"), (last.get(ours), f"out_final_{theirs}"))
        for result, name in pairs:
            if name in golden:
                golden_files.assert_close(result, golden[name], TOLERANCE)
                compared += 1
    reads = layer.step.read_heads
    read = tf.reshape(traces["read"], [*traces["read"].shape[:2], reads, -1])
    traces = {**traces, "read": read}
    for theirs, ours in HEADS.items():
        for head in range(traces[ours].shape[2]):
            golden_files.assert_close(
                traces[ours][:, :, head], golden[f"out_{theirs}_head{head}"], TOLERANCE
            )
            compared += 1
    outputs = {n for n in golden if n.startswith("out_") and "grad" not in n and "loss" not in n}
    assert compared == len(outputs)


@pytest.mark.parametrize(
    ("stem", "jit_compile"),
    [
        *((stem, False) for stem in MIMN_CELLS),
        pytest.param("mimn_util_induction", True, marks=pytest.mark.slow),
    ],
)
def test_golden_gradients_of_the_released_cell(stem, jit_compile):
    golden = golden_files.load(stem)
    layer, x = (
        golden_memory.built(golden, golden_memory.inputs(golden)),
        golden_memory.inputs(golden),
    )
    state = layer.initial_state(len(x))
    state["output"] = tf.zeros([len(x), *layer.trace_shapes["output"]], x.dtype)
    ones = tf.ones(x.shape[:2], x.dtype)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        last, traces = fast_scan(
            layer.step,
            state,
            (x, ones),
            layer.step_weights(),
            ["output"],
            jit_compile=jit_compile,
        )
        read_out = tf.reduce_sum(traces["output"] * golden["in_cotangent"])
        capacity = utilization_loss(layer, last)
    golden_files.assert_close(
        tape.gradient(read_out, x), golden["out_grad_x_of_dot_read_output_cotangent"], TOLERANCE
    )
    reference = golden["out_grad_x_of_capacity_loss"]
    scale = np.abs(reference).max()
    golden_files.assert_close(tape.gradient(capacity, x) / scale, reference / scale, 1e-8)
    golden_files.assert_close(capacity / golden["out_capacity_loss"], 1.0, 1e-8)


def utilization_loss(layer, state):
    """The released regularization of a state, also of cells that do not balance their writing."""
    balanced = ReleasedTuringMemory(dataclasses.replace(layer.step, balances=True))
    return tf.reduce_mean(ReleasedMemoryInterest(balanced).utilization_loss(state["usage"]))


def test_the_second_of_all_heads_is_balanced_and_alone_counted_as_use():
    golden = golden_files.load("mimn_two_heads")  # its second head reads
    slots, kernel = len(golden["w_key_M_before_tanh"]), golden["w_o2p_kernel"]
    golden |= {"cfg_util_reg": np.array(1), "w_o2p_kernel": np.pad(kernel, [(0, slots), (0, 0)])}
    x = golden_memory.inputs(golden)
    layer = golden_memory.built(golden, x)
    state, weights = layer.initial_state(len(x)), layer.step_weights()
    heads = layer.step.look(state, x[:, 0], weights)
    plain = dataclasses.replace(layer.step, balances=False)
    cut = weights.instructions._replace(kernel=weights.instructions.kernel[:-slots])
    unbalanced = plain.look(state, x[:, 0], weights._replace(instructions=cut))
    block = heads.instructions[:, plain.head_width : 2 * plain.head_width]
    shift = tf.nn.softmax(block[:, plain.dim + 2 : -1])
    power = 2 * plain.sharp * (1 + tf.nn.softplus(block[:, -1:]))
    expected = unbalanced.weights.numpy()
    expected[:, 1] = shift_and_sharpen(expected[:, 1], shift, power)
    np.testing.assert_allclose(heads.weights, expected, rtol=1e-12)
    after = layer.step(state, (x[:, 0], tf.ones(len(x), x.dtype)), weights)
    usage = shift_and_sharpen(expected[:, 1], shift, power)
    np.testing.assert_allclose(after["usage"], usage, rtol=1e-12)
    np.testing.assert_allclose(after["write_weights"], expected[:, 2:], rtol=1e-12)


def test_the_usage_scale_divides_what_the_heads_see_of_the_usage():
    golden = golden_files.load("mimn_util")
    kernel, units = golden["w_o2p_kernel"].astype(float), 12
    kernel[units:] /= golden["cfg_usage_divisor"]
    changed = {**golden, "cfg_usage_divisor": np.array(1.0), "w_o2p_kernel": kernel}
    np.testing.assert_allclose(run(changed)[1]["memory"], run(golden)[1]["memory"], rtol=1e-12)
