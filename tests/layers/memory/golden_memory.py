"""Weights of the published MIMN and RUM cells, by name, into our layer."""

import numpy as np
import tensorflow as tf

from dgin_tf.released.memory import ReleasedStep, ReleasedTuringMemory
from tests import released_weights


def settings(golden, **changes) -> ReleasedStep:
    """The cell that a golden file was computed with; RUM's file has no slot keys."""
    has_slot_keys = "w_key_M_before_tanh" in golden
    values = {
        "dim": golden["w_init_M_before_tanh"].shape[1],
        "has_slot_keys": has_slot_keys,
        "balances": bool(golden.get("cfg_util_reg", 0)) and has_slot_keys,
        "induces": bool(golden.get("cfg_mem_induction", 0)),
        "clears": bool(golden.get("cfg_mask_resets_state", 0)),
    }
    for name, key in (
        ("read_heads", "read_heads"),
        ("write_heads", "write_heads"),
        ("sharp", "sharp_value"),
        ("clip", "clip_value"),
        ("reach", "shift_range"),
        ("usage_scale", "usage_divisor"),
    ):
        if f"cfg_{key}" in golden:
            values[name] = golden[f"cfg_{key}"].item()
    return ReleasedStep(**{**values, **changes})


def cell(golden, **kwargs) -> ReleasedTuringMemory:
    """A layer of the golden file's sizes, without its weights."""
    output = golden.get("w_o2o_bias")
    slots = len(golden["w_init_M_before_tanh"])
    units = len(golden["w_controller_gru_candidate_bias"])
    width = None if output is None else len(output)
    return ReleasedTuringMemory(settings(golden), slots, units, width, **kwargs)


def assign(layer: ReleasedTuringMemory, golden) -> None:
    """Everything of the cell."""
    for name in ("controller", "channel"):
        weights = {
            key.removeprefix(f"w_{name}_gru_"): value
            for key, value in golden.items()
            if key.startswith(f"w_{name}_gru_")
        }
        if weights:
            kernel, units = weights["candidate_kernel"], len(weights["candidate_bias"])
            result = released_weights.from_tensorflow_1(weights, len(kernel) - units)
            ours = "induction" if name == "channel" else name
            for part, value in zip(("kernel", "bias", "recurrent_kernel"), result, strict=True):
                getattr(getattr(layer, ours), part).assign(value)
    for theirs, ours in (("o2p", "instructions"), ("o2o", "output_layer")):
        if f"w_{theirs}_kernel" in golden:
            getattr(layer, ours).kernel.assign(golden[f"w_{theirs}_kernel"])
            getattr(layer, ours).bias.assign(golden[f"w_{theirs}_bias"])
    if layer.step.has_slot_keys:
        layer.keys.assign(golden["w_key_M_before_tanh"])
    layer.first_memory.assign(golden["w_init_M_before_tanh"])
    heads = range(layer.step.read_heads)
    reads = [golden[f"w_init_read_vector{head}_before_tanh"] for head in heads]
    layer.first_read.assign(np.concatenate(reads))


def built(golden, inputs) -> ReleasedTuringMemory:
    """The published cell in double precision."""
    layer = cell(golden, dtype="float64")
    layer.build(inputs.shape)
    assign(layer, golden)
    return layer


def inputs(golden) -> tf.Tensor:
    """Events in double precision."""
    return tf.constant(golden["in_x"], tf.float64)
