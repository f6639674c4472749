"""A fast `ops.recurrence.recurrence`: the gated cell along time with a gradient written by hand."""

from typing import NamedTuple

import tensorflow as tf

from dgin_tf.ops.compiling import should_compile
from dgin_tf.ops.fast.loops import loop, run_loops
from dgin_tf.ops.recurrence import (
    RecurrentWeights,
    flat_matmul,
    gated_step,
    recurrent_gates,
    write_gate,
)


# Forward keeps the states alone and backward computes the gates again from them: one matmul more a step,
# a quarter of the memory, and as fast as keeping them. Candidates of a user share the projected inputs
# and differ in their scores, so that a state is [candidates, users, units] here and the inputs of a step
# broadcast over its first axis as one block. Compiled by XLA the loops run twice as fast.
def fast_recurrence(
    inputs: tf.Tensor,
    gate: tuple[tf.Tensor, tf.Tensor | None],
    initial_state: tf.Tensor,
    weights: RecurrentWeights,
    *,
    return_states: bool,
    jit_compile: bool | None = None,
) -> tuple[tf.Tensor | None, tf.Tensor]:
    """Values and gradients of `ops.recurrence.recurrence`; the number of steps may be unknown.

    Args:
      inputs, gate, initial_state, weights: as there, float32 or float64, and differentiable once.
        Weights are tensors: a variable of another replica cannot be read here.
      return_states: whether to return all states, or the last alone, whose gradient is cheaper.
      jit_compile: whether XLA compiles the loops, anew for each shape; None for the rule of
        `should_compile`, rows being users times candidates.

    Returns:
      States [users, candidates, time, units] (None unless `return_states`), and the last one,
      [users, candidates, units].
    """
    if inputs.shape.rank == 3:
        inputs = inputs[:, tf.newaxis]
    if jit_compile is None:
        jit_compile = should_compile(gate[0].shape[:2].num_elements())
    loops = _Recurrence(weights.reset_after, return_states, prefetch=jit_compile)
    per_user = _PerUser(inputs, *gate, initial_state)
    *states, last = run_loops(loops, per_user, (weights.kernel, weights.bias), jit_compile)
    return states[0] if return_states else None, last


class _PerUser(NamedTuple):
    """Arguments or their gradients; users lead."""

    inputs: tf.Tensor
    scale: tf.Tensor
    floor: tf.Tensor | None
    initial_state: tf.Tensor


class _Recurrence(NamedTuple):
    """Forward and backward loop, see `Loops`; weights are (kernel, bias or None)."""

    reset_after: bool
    return_states: bool
    prefetch: bool

    def forward(self, per_user, weights):
        weights = RecurrentWeights(weights[0], weights[1], self.reset_after)
        inputs, scale, floor = _sequences(per_user)

        def step(state, values):
            inputs_t, scale_t, *floor_t = values
            state = gated_step(inputs_t, scale_t, floor_t[0] if floor_t else None, state, weights)
            return state, [state]

        state = tf.transpose(per_user.initial_state, [1, 0, 2])  # [candidates, users, units]
        sequences = [inputs, scale] + ([] if floor is None else [floor])
        state, (states,) = loop(step, state, sequences, [state.shape], prefetch=self.prefetch)
        last = tf.transpose(state, [1, 0, 2])
        return (_batch_major(states), last) if self.return_states else (last,), states

    def backward(self, per_user, weights, residuals, upstream):
        states = residuals
        weights = RecurrentWeights(weights[0], weights[1], self.reset_after)
        inputs, scale, floor = _sequences(per_user)
        first = tf.transpose(per_user.initial_state, [1, 0, 2])
        sequences = [inputs, scale, tf.concat([first[tf.newaxis], states[:-1]], 0)]
        if floor is not None:
            sequences.append(floor)
        if self.return_states:
            sequences.append(_time_major(upstream[0]))
        shares_inputs = per_user.inputs.shape[1] == 1

        def step(carry, values):
            upstream, into_weights = carry
            values = list(values)
            if self.return_states:
                upstream += values.pop()
            inputs_t, scale_t, previous, *floor_t = values
            gate = (scale_t, floor_t[0] if floor_t else None)
            gradients = _step_gradient(upstream, inputs_t, gate, previous, weights)
            into_weights = [
                total + part for total, part in zip(into_weights, gradients.weights, strict=True)
            ]
            into_inputs = gradients.inputs
            if shares_inputs:  # [1, users, 3 units]: one gradient for all candidates
                into_inputs = tf.reduce_sum(into_inputs, 0, keepdims=True)
            results = [into_inputs, gradients.scale]
            return (gradients.state, into_weights), results + [gradients.floor] * len(floor_t)

        into_weights = [tf.zeros_like(weights.kernel)]
        if weights.bias is not None:
            into_weights.append(tf.zeros_like(weights.bias))
        shapes = [inputs.shape[1:], scale.shape[1:]] + ([] if floor is None else [floor.shape[1:]])
        (into_state, into_weights), (into_inputs, *into_gate) = loop(
            step,
            (tf.transpose(upstream[-1], [1, 0, 2]), into_weights),
            sequences,
            shapes,
            reverse=True,
            prefetch=self.prefetch,
        )
        into_scale, *into_floor = [_batch_major(value)[..., 0] for value in into_gate]
        into_user = _PerUser(
            inputs=_batch_major(into_inputs),
            scale=into_scale,
            floor=into_floor[0] if into_floor else None,
            initial_state=tf.transpose(into_state, [1, 0, 2]),
        )
        return into_user, (into_weights[0], into_weights[1] if into_weights[1:] else None)


class _StepGradient(NamedTuple):
    """Gradients of one `gated_step`."""

    inputs: tf.Tensor
    scale: tf.Tensor
    floor: tf.Tensor
    state: tf.Tensor
    weights: list[tf.Tensor]


def _step_gradient(
    upstream: tf.Tensor,
    inputs: tf.Tensor,
    gate: tuple[tf.Tensor, tf.Tensor | None],
    state: tf.Tensor,
    weights: RecurrentWeights,
) -> _StepGradient:
    """Adjoint of `gated_step`: `upstream` is the gradient with respect to h_t."""
    units = weights.kernel.shape[0]
    gates = recurrent_gates(inputs, state, weights)
    write = write_gate(gates.update, *gate)
    into_write = upstream * (gates.candidate - state)
    into_candidate = upstream * write * (1.0 - tf.square(gates.candidate))  # before the tanh
    into_state = upstream * (1.0 - write)
    reset_slope = gates.recurrent * gates.reset * (1.0 - gates.reset)

    if weights.reset_after:
        into_gates = [into_candidate * reset_slope]
    else:
        into_product = flat_matmul(into_candidate, weights.kernel[:, -units:], transpose=True)
        into_gates = [into_product * reset_slope]
        into_state += into_product * gates.reset
    # Through write = scale * u + floor, Eqs. (11)-(13).
    into_scale = into_write
    if gates.update is not None:
        into_scale *= gates.update
        update_slope = gates.update * (1.0 - gates.update)
        into_gates.insert(0, into_write * gate[0] * update_slope)

    into_inputs = tf.concat([*into_gates, into_candidate], -1)
    if weights.reset_after:
        into_product = tf.concat([*into_gates, into_candidate * gates.reset], -1)
        into_state += flat_matmul(into_product, weights.kernel, transpose=True)
        into_weights = [_weight_gradient(state, into_product)]
        if weights.bias is not None:
            into_weights.append(tf.reduce_sum(into_product, [0, 1]))
    else:
        into_product = tf.concat(into_gates, -1)
        into_state += flat_matmul(into_product, weights.kernel[:, :-units], transpose=True)
        into_gate_weights = _weight_gradient(state, into_product)
        into_candidate_weights = _weight_gradient(gates.reset * state, into_candidate)
        into_weights = [tf.concat([into_gate_weights, into_candidate_weights], -1)]
    return _StepGradient(
        inputs=into_inputs,
        scale=tf.reduce_sum(into_scale, -1, keepdims=True),
        floor=tf.reduce_sum(into_write, -1, keepdims=True),
        state=into_state,
        weights=into_weights,
    )


def _sequences(per_user: _PerUser) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Inputs, scale and floor as [time, candidates, users, ...]."""
    gates = [
        None if gate is None else _time_major(gate[..., tf.newaxis])
        for gate in (per_user.scale, per_user.floor)
    ]
    return _time_major(per_user.inputs), *gates


def _time_major(value: tf.Tensor) -> tf.Tensor:
    """[users, candidates, time, dim] -> [time, candidates, users, dim]."""
    return tf.transpose(value, [2, 1, 0, 3])


_batch_major = _time_major  # its own inverse


def _weight_gradient(state: tf.Tensor, into_product: tf.Tensor) -> tf.Tensor:
    flat_state = tf.reshape(state, [-1, state.shape[-1]])
    return tf.matmul(
        flat_state, tf.reshape(into_product, [-1, into_product.shape[-1]]), transpose_a=True
    )
