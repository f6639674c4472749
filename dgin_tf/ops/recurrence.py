"""The gated recurrences of DIEN (Zhou et al., 2019), Eqs. (3)-(6) and (10)-(13), and their engine.

All of them are one cell. A GRU step proposes a candidate state and decides how much of it to write:

    write_t = scale_t * u_t + floor_t          what of the candidate enters the state
    h_t     = (1 - write_t) * h_{t-1} + write_t * h~_t

    GRU, AIGRU       scale = 1,      floor = 0        Eq. (6); AIGRU feeds it a_t * i_t, Eq. (10)
    AGRU             scale = a_t,    floor = 0, u = 1 Eq. (11): a_t in the place of the update gate
    AUGRU            scale = a_t,    floor = 0        Eqs. (12), (13)
    AUGRU, released  scale = 1 - a_t, floor = a_t     the authors' cell scales the *keep* gate 1 - u
    padding          scale = 0,      floor = 0        the state passes through, bit for bit

The update gate follows the paper: it *writes* (in TensorFlow's own cells it keeps).

The engine, `recurrence`, runs that cell along time with a gradient written by hand. Forward keeps
the states alone; backward computes the gates again from them, which costs one matmul a step, saves
four times the memory and measured no slower than keeping them. Candidates of a user share the
projected inputs and differ in their scores, so a state is [candidates, users, units] and the inputs
of a step broadcast over its first axis as one block.
"""

import functools
import os
from typing import NamedTuple

import tensorflow as tf

from dgin_tf.ops.compiling import graph_function, should_compile

MIN_SHARD_USERS = 16


class RecurrentWeights(NamedTuple):
    """What a step multiplies the state with; gates side by side: update, reset, candidate.

    Attributes:
      kernel: U^u, U^r, U^h, [units, 3 units]; without an update gate [units, 2 units].
      bias: added to the product with the state, [3 units] or [2 units], or None. PyTorch's cells
        have one; the papers' and TensorFlow's do not.
      reset_after: whether the reset gate acts on the product U^h h (Eq. 5) or, as in the released
        code, on the state before it. Only the former can have a bias.
    """

    kernel: tf.Tensor
    bias: tf.Tensor | None = None
    reset_after: bool = True


class Gates(NamedTuple):
    """Gates of one step, each [..., units]; `update` is None where the cell has none.

    `recurrent` is what the reset gate multiplies: U^h h + b, or h itself where reset comes first.
    """

    update: tf.Tensor | None
    reset: tf.Tensor
    candidate: tf.Tensor
    recurrent: tf.Tensor


def recurrent_gates(inputs: tf.Tensor, state: tf.Tensor, weights: RecurrentWeights) -> Gates:
    """Gates of a GRU, Eqs. (3)-(5).

    Args:
      inputs: W i_t + b, gates side by side, [..., 3 units] (or 2), broadcasting against `state`.
      state: h_{t-1}, [..., units].
      weights: recurrent weights.
    """
    units = weights.kernel.shape[0]
    if weights.reset_after:
        product = _matmul(state, weights.kernel)
        if weights.bias is not None:
            product += weights.bias
        gates = tf.sigmoid(inputs[..., :-units] + product[..., :-units])  # Eqs. (3), (4)
        reset, recurrent = gates[..., -units:], product[..., -units:]
        candidate = tf.tanh(inputs[..., -units:] + reset * recurrent)  # Eq. (5)
    else:
        product = _matmul(state, weights.kernel[:, :-units])
        gates = tf.sigmoid(inputs[..., :-units] + product)
        reset, recurrent = gates[..., -units:], state
        product = _matmul(reset * state, weights.kernel[:, -units:])
        candidate = tf.tanh(inputs[..., -units:] + product)
    has_update = weights.kernel.shape[1] == 3 * units
    return Gates(gates[..., :units] if has_update else None, reset, candidate, recurrent)


def gated_step(
    inputs: tf.Tensor,
    scale: tf.Tensor,
    floor: tf.Tensor | None,
    state: tf.Tensor,
    weights: RecurrentWeights,
) -> tf.Tensor:
    """One step of the cell that all recurrences here are cases of.

    Args:
      inputs: W i_t + b, [..., 3 units] (or 2 units, without update gate).
      scale: factor of the update gate, [..., 1]; 0 (with no floor) keeps the state exactly.
      floor: what is written whatever the update gate says, [..., 1], or None for nothing.
      state: h_{t-1}, [..., units].
      weights: recurrent weights.

    Returns:
      h_t, [..., units].
    """
    gates = recurrent_gates(inputs, state, weights)
    write = _write_gate(gates.update, scale, floor)
    return (1.0 - write) * state + write * gates.candidate


def gru_step(inputs: tf.Tensor, state: tf.Tensor, weights: RecurrentWeights) -> tf.Tensor:
    """One GRU step, Eqs. (3)-(6): `inputs` W i_t + b [users, 3 units], `state` [users, units]."""
    return gated_step(inputs, tf.ones_like(state[..., :1]), None, state, weights)


def agru_step(
    inputs: tf.Tensor, score: tf.Tensor, state: tf.Tensor, weights: RecurrentWeights
) -> tf.Tensor:
    """One AGRU step, Eq. (11): attention a_t [users, 1] replaces the update gate.

    `inputs` is [users, 2 units] and the weights hold reset and candidate only: an update gate that
    nothing reads would be weights that nothing trains.
    """
    return gated_step(inputs, score, None, state, weights)


def augru_step(
    inputs: tf.Tensor, score: tf.Tensor, state: tf.Tensor, weights: RecurrentWeights
) -> tf.Tensor:
    """One AUGRU step, Eqs. (12), (13): attention a_t [users, 1] scales the update gate."""
    return gated_step(inputs, score, None, state, weights)


def recurrence(
    inputs: tf.Tensor,
    gate: tuple[tf.Tensor, tf.Tensor | None],
    initial_state: tf.Tensor,
    weights: RecurrentWeights,
    *,
    return_states: bool,
    jit_compile: bool | None = None,
) -> tuple[tf.Tensor | None, tf.Tensor]:
    """Runs the cell along time; differentiable once in every argument.

    Args:
      inputs: W i_t + b, [users, time, 3 units] (or 2 units) where the candidates of a user share
        them, else [users, candidates, time, 3 units]. float32 or float64.
      gate: `scale` and `floor` (or None), each [users, candidates, time].
      initial_state: h_0, [users, candidates, units].
      weights: recurrent weights, as tensors: a variable of another replica cannot be read here.
      return_states: whether all states are wanted, or the last alone (whose gradient is cheaper).
      jit_compile: whether XLA compiles the loops, which runs twice as fast but compiles for each
        new shape anew; None for the rule of `should_compile`, rows being users times candidates.

    Returns:
      States [users, candidates, time, units] (None unless `return_states`), and the last one,
      [users, candidates, units].
    """
    if inputs.shape.rank == 3:
        inputs = inputs[:, tf.newaxis]
    if jit_compile is None:
        jit_compile = should_compile(gate[0].shape[:2].num_elements())
    arguments = _Arguments(inputs, *gate, initial_state, weights.kernel, weights.bias)
    run = functools.partial(
        _differentiable, reset_after=weights.reset_after, states=return_states, jit=jit_compile
    )
    shards = shard_count(inputs.shape[0]) if jit_compile else 1
    if shards == 1:
        return run(arguments)
    split = [
        [value] * shards if name in _SHARED or value is None else tf.split(value, shards)
        for name, value in arguments._asdict().items()
    ]
    results = [run(_Arguments(*part)) for part in zip(*split, strict=True)]
    states, last = zip(*results, strict=True)
    return tf.concat(states, 0) if return_states else None, tf.concat(last, 0)


class _Arguments(NamedTuple):
    """The tensors that `recurrence` differentiates; users lead in the first four."""

    inputs: tf.Tensor
    scale: tf.Tensor
    floor: tf.Tensor | None
    initial_state: tf.Tensor
    kernel: tf.Tensor
    bias: tf.Tensor | None

    def weights(self, reset_after: bool) -> RecurrentWeights:
        return RecurrentWeights(self.kernel, self.bias, reset_after)


_SHARED = ("kernel", "bias")


def shard_count(users: int | None) -> int:
    """Number of pieces of a batch to run side by side: XLA uses one core for one small loop.

    The largest divisor of the batch that there are cores for and that leaves a core enough to do;
    one where a GPU works, which wants the whole batch at once.
    """
    if users is None or tf.config.list_physical_devices("GPU"):
        return 1
    most = min(os.cpu_count() or 1, users // MIN_SHARD_USERS)
    return max((n for n in range(1, most + 1) if users % n == 0), default=1)


def _differentiable(arguments: _Arguments, *, reset_after: bool, states: bool, jit: bool):
    """Forward and backward loop as one differentiable operation."""
    signature = tuple(None if value is None else tuple(value.shape) for value in arguments)
    settings = (reset_after, jit)  # only compiled loops fetch ahead
    forward = graph_function(_forward_loop, settings, jit, signature)
    backward = graph_function(_backward_loop, settings, jit, signature)
    present = [value is not None for value in arguments]

    @tf.custom_gradient
    def run(*tensors):
        # Without stop_gradient an outer tape looks into the jitted function and asks it for its
        # TensorLists, which cannot cross the border of XLA.
        constants = _restore([tf.stop_gradient(tensor) for tensor in tensors], present)
        history, last = forward(constants)
        outputs = (_batch_major(history), tf.identity(last)) if states else (last,)

        def gradient(*upstream):
            into_states = upstream[0] if states else None
            grads = backward(constants, history, into_states, upstream[-1])
            return [grad for grad in grads if grad is not None]

        return outputs, gradient

    outputs = run(*(value for value in arguments if value is not None))
    return (outputs[0] if states else None), outputs[-1]


def _restore(tensors: list[tf.Tensor], present: list[bool]) -> _Arguments:
    remaining = iter(tensors)
    return _Arguments(*(next(remaining) if there else None for there in present))


def _forward_loop(
    reset_after: bool, prefetch: bool, arguments: _Arguments
) -> tuple[tf.Tensor, tf.Tensor]:
    """All states [time, candidates, users, units] and the last one [users, candidates, units]."""
    weights = arguments.weights(reset_after)
    inputs, scale, floor = _sequences(arguments)

    def step(carried, values):
        (state,) = carried
        inputs_t, scale_t, *floor_t = values
        state = gated_step(inputs_t, scale_t, floor_t[0] if floor_t else None, state, weights)
        return (state,), (state,)

    state = tf.transpose(arguments.initial_state, [1, 0, 2])
    sequences = [inputs, scale] + ([] if floor is None else [floor])
    (state,), (states,) = _scan(step, (state,), sequences, [state.shape], prefetch=prefetch)
    return states, tf.transpose(state, [1, 0, 2])


def _backward_loop(
    reset_after: bool,
    prefetch: bool,
    arguments: _Arguments,
    states: tf.Tensor,
    states_gradient: tf.Tensor | None,
    last_gradient: tf.Tensor,
) -> _Arguments:
    """Gradients with respect to `_Arguments`, None where there is no such argument."""
    weights = arguments.weights(reset_after)
    inputs, scale, floor = _sequences(arguments)
    first = tf.transpose(arguments.initial_state, [1, 0, 2])
    sequences = [inputs, scale, tf.concat([first[tf.newaxis], states[:-1]], 0)]
    if floor is not None:
        sequences.append(floor)
    if states_gradient is not None:
        sequences.append(_time_major(states_gradient))
    shares_inputs = arguments.inputs.shape[1] == 1

    def step(carried, values):
        upstream, *weight_gradients = carried
        values = list(values)
        if states_gradient is not None:
            upstream += values.pop()
        inputs_t, scale_t, previous, *floor_t = values
        gate = (scale_t, floor_t[0] if floor_t else None)
        gradients = _step_gradient(upstream, inputs_t, gate, previous, weights)
        weight_gradients = [
            total + part for total, part in zip(weight_gradients, gradients.weights, strict=True)
        ]
        into_inputs = gradients.inputs
        if shares_inputs:
            into_inputs = tf.reduce_sum(into_inputs, 0, keepdims=True)
        written = [into_inputs, gradients.scale] + ([] if floor is None else [gradients.floor])
        return (gradients.state, *weight_gradients), written

    carried = [tf.transpose(last_gradient, [1, 0, 2]), tf.zeros_like(arguments.kernel)]
    if arguments.bias is not None:
        carried.append(tf.zeros_like(arguments.bias))
    written_shapes = [sequence.shape[1:] for sequence in sequences[:2]]
    if floor is not None:
        written_shapes.append(floor.shape[1:])
    carried, written = _scan(
        step, carried, sequences, written_shapes, reverse=True, prefetch=prefetch
    )
    scale_gradient, *floor_gradient = [_batch_major(value)[..., 0] for value in written[1:]]
    return _Arguments(
        inputs=_batch_major(written[0]),
        scale=scale_gradient,
        floor=floor_gradient[0] if floor_gradient else None,
        initial_state=tf.transpose(carried[0], [1, 0, 2]),
        kernel=carried[1],
        bias=carried[2] if arguments.bias is not None else None,
    )


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
    write = _write_gate(gates.update, *gate)
    into_write = upstream * (gates.candidate - state)
    into_candidate = upstream * write * (1.0 - tf.square(gates.candidate))  # before the tanh
    into_state = upstream * (1.0 - write)
    reset_slope = gates.recurrent * gates.reset * (1.0 - gates.reset)

    if weights.reset_after:
        into_gates = [into_candidate * reset_slope]
    else:
        into_product = _matmul(into_candidate, weights.kernel[:, -units:], transpose=True)
        into_gates = [into_product * reset_slope]
        into_state += into_product * gates.reset
    into_scale = into_write
    if gates.update is not None:
        into_scale *= gates.update
        update_slope = gates.update * (1.0 - gates.update)
        into_gates.insert(0, into_write * gate[0] * update_slope)

    into_inputs = tf.concat([*into_gates, into_candidate], -1)
    if weights.reset_after:
        into_product = tf.concat([*into_gates, into_candidate * gates.reset], -1)
        into_state += _matmul(into_product, weights.kernel, transpose=True)
        into_weights = [_weight_gradient(state, into_product)]
        if weights.bias is not None:
            into_weights.append(tf.reduce_sum(into_product, [0, 1]))
    else:
        into_product = tf.concat(into_gates, -1)
        into_state += _matmul(into_product, weights.kernel[:, :-units], transpose=True)
        into_weights = [
            tf.concat(
                [
                    _weight_gradient(state, into_product),
                    _weight_gradient(gates.reset * state, into_candidate),
                ],
                -1,
            )
        ]
    return _StepGradient(
        inputs=into_inputs,
        scale=tf.reduce_sum(into_scale, -1, keepdims=True),
        floor=tf.reduce_sum(into_write, -1, keepdims=True),
        state=into_state,
        weights=into_weights,
    )


def _write_gate(update: tf.Tensor | None, scale: tf.Tensor, floor: tf.Tensor | None) -> tf.Tensor:
    write = scale if update is None else scale * update
    return write if floor is None else write + floor


def _scan(step, carried, sequences, written_shapes, *, reverse=False, prefetch=False):
    """Loops `step(carried, values) -> (carried, written)` over the first axis of `sequences`.

    With `prefetch`, the values of the next step travel in the loop's variables. XLA otherwise fuses
    the slice of a sequence into the arithmetic on it, which then is not vectorised: measured, it
    halves the time of the forward loop under XLA. Without XLA it only adds operations.
    """
    steps = tf.shape(sequences[0])[0]
    prefetch = prefetch and sequences[0].shape[0] != 0  # of an empty sequence there is no first
    dtype = sequences[0].dtype
    arrays = [
        tf.TensorArray(dtype, steps, element_shape=value.shape[1:]).unstack(value)
        for value in sequences
    ]
    outputs = tuple(tf.TensorArray(dtype, steps, element_shape=shape) for shape in written_shapes)

    def read(step_index):
        index = steps - 1 - step_index if reverse else step_index
        return tuple(array.read(index) for array in arrays)

    def body(step_index, carried, values, outputs):
        shapes = [value.shape for value in carried]
        carried, written = step(carried, values if prefetch else read(step_index))
        carried = tuple(map(tf.ensure_shape, carried, shapes))
        index = steps - 1 - step_index if reverse else step_index
        outputs = tuple(
            array.write(index, value) for array, value in zip(outputs, written, strict=True)
        )
        values = read(tf.minimum(step_index + 1, steps - 1)) if prefetch else ()
        return step_index + 1, carried, values, outputs

    _, carried, _, outputs = tf.while_loop(
        lambda step_index, *_: step_index < steps,
        body,
        (0, tuple(carried), read(0) if prefetch else (), outputs),
        maximum_iterations=steps,
    )
    return carried, [array.stack() for array in outputs]


def _sequences(arguments: _Arguments) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Inputs, scale and floor as [time, candidates, users, ...]."""
    gates = [
        None if gate is None else _time_major(gate[..., tf.newaxis])
        for gate in (arguments.scale, arguments.floor)
    ]
    return _time_major(arguments.inputs), *gates


def _time_major(value: tf.Tensor) -> tf.Tensor:
    """[users, candidates, time, dim] -> [time, candidates, users, dim]."""
    return tf.transpose(value, [2, 1, 0, 3])


_batch_major = _time_major  # its own inverse


def _matmul(values: tf.Tensor, kernel: tf.Tensor, transpose: bool = False) -> tf.Tensor:
    """Product over the last axis: one flat matmul, also for the [candidates, users, units] state."""
    flat = tf.reshape(values, [-1, values.shape[-1]])
    product = tf.matmul(flat, kernel, transpose_b=transpose)
    width = kernel.shape[0 if transpose else 1]
    if values.shape.rank == 2:
        return product
    return tf.reshape(product, tf.concat([tf.shape(values)[:-1], [width]], 0))


def _weight_gradient(state: tf.Tensor, into_product: tf.Tensor) -> tf.Tensor:
    flat_state = tf.reshape(state, [-1, state.shape[-1]])
    return tf.matmul(
        flat_state, tf.reshape(into_product, [-1, into_product.shape[-1]]), transpose_a=True
    )
