"""Folds a sequence into a state of fixed size, with a gradient that any step can have.

`fold` runs a step function along time. Forward keeps the states alone; backward runs the step once
more at each of them and differentiates that, so that memory grows with time by one state and not by
all that a step computes. Forward and backward are graph functions of their own, each of which XLA
may compile: a compiled loop inside an ordinary tape does not work. XLA runs such a loop on one core,
so that compiled batches are cut into pieces that run side by side.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import tensorflow as tf

from dgin_tf.ops.compiling import graph_function, should_compile
from dgin_tf.ops.recurrence import shard_count

Tensors: TypeAlias = dict[str, tf.Tensor]
Step: TypeAlias = Callable[[Tensors, tuple[tf.Tensor, ...], Tensors], Tensors]


def fold(
    step: Step,
    state: Tensors,
    sequences: Sequence[tf.Tensor],
    weights: Tensors,
    *,
    traced: Sequence[str] = (),
    keeps_states: bool = True,
    jit_compile: bool | None = None,
) -> tuple[Tensors, Tensors]:
    """Runs `step(state, values, weights) -> state` along time; differentiable once in every argument.

    Args:
      step: pure and hashable (loops are traced once for equal steps); it may return more than the
        names of `state`, which is dropped.
      state: the state before the first step, each [users, ...], of one floating type.
      sequences: what steps read, each [users, time, ...], of that type.
      weights: what all steps share, as tensors: a variable of another replica cannot be read here.
      traced: names of the state whose values after every step are wanted.
      keeps_states: whether the forward pass keeps all states for the gradient. Where it does not,
        which takes half the time, a gradient that is asked for after all runs it once more.
      jit_compile: whether XLA compiles the loops; None for the rule of `should_compile`.

    Returns:
      The state after the last step, and name -> [users, time, ...] of what is `traced`.
    """
    flat: list[tf.Tensor] = tf.nest.flatten((state, tuple(sequences), weights))
    if jit_compile is None:
        jit_compile = should_compile(sequences[0].shape[0])
    layout = _Layout(step, tuple(sorted(state)), len(sequences), tuple(sorted(weights)))
    names = tuple(sorted(traced))
    run = functools.partial(_differentiable, layout, names, keeps_states, jit_compile)
    shards = shard_count(sequences[0].shape[0]) if jit_compile else 1
    of_users = len(flat) - len(weights)
    split = [tf.split(tensor, shards) for tensor in flat[:of_users]]
    split += [[tensor] * shards for tensor in flat[of_users:]]
    results = zip(*(run(part) for part in zip(*split, strict=True)), strict=True)
    outputs = [tf.concat(parts, 0) if shards > 1 else parts[0] for parts in results]
    last = dict(zip(layout.names, outputs, strict=False))
    return last, dict(zip(names, outputs[len(layout.names) :], strict=True))


class _Layout(NamedTuple):
    """How flat tensors make up state, sequences and weights; hashable by value."""

    step: Step
    names: tuple[str, ...]
    sequences: int
    weights: tuple[str, ...]

    def unpack(self, tensors: Sequence[tf.Tensor]) -> tuple[Tensors, list[tf.Tensor], Tensors]:
        """State, sequences [time, users, ...] and weights."""
        count, sequences = len(self.names), self.sequences
        state = dict(zip(self.names, tensors, strict=False))
        steps = [_swap(tensor) for tensor in tensors[count : count + sequences]]
        return state, steps, dict(zip(self.weights, tensors[count + sequences :], strict=True))


def _differentiable(
    layout: _Layout,
    names: tuple[str, ...],
    keeps_states: bool,
    jit: bool,
    flat: Sequence[tf.Tensor],
) -> tuple[tf.Tensor, ...]:
    """The last state and the traces of `names`, both in that order, as one differentiable operation."""
    signature = tuple(tuple(tensor.shape) for tensor in flat)
    kept = layout.names if keeps_states else names
    forward = graph_function(_forward, (layout, kept), jit, signature)
    forward_again = graph_function(_forward, (layout, layout.names), jit, signature)
    backward = graph_function(_backward, (layout,), jit, signature)

    @tf.custom_gradient
    def run(*tensors):
        # Without stop_gradient an outer tape looks into the jitted function and asks it for its
        # TensorLists, which cannot cross the border of XLA.
        constants = [tf.stop_gradient(tensor) for tensor in tensors]
        last, states = forward(constants)
        outputs = [last[name] for name in layout.names]
        outputs += [_swap(states[name][1:]) for name in names]

        def gradient(*upstream):
            into_last = dict(zip(layout.names, upstream, strict=False))
            into_traced = dict(zip(names, map(_swap, upstream[len(layout.names) :]), strict=True))
            all_states = states if keeps_states else forward_again(constants)[1]
            return backward(constants, all_states, into_last, into_traced)

        return tuple(map(tf.identity, outputs)), gradient

    return run(*flat)


def _forward(
    layout: _Layout, names: tuple[str, ...], tensors: list[tf.Tensor]
) -> tuple[Tensors, Tensors]:
    """The last state, and of `names` the states from the first to the last, [time + 1, users, ...]."""
    state, sequences, weights = layout.unpack(tensors)
    steps = tf.shape(sequences[0])[0]
    reads = [_array(sequence, steps).unstack(sequence) for sequence in sequences]
    writes = {
        name: _array(state[name][tf.newaxis], steps + 1).write(0, state[name]) for name in names
    }

    def body(index, state, writes):
        found = layout.step(state, tuple(array.read(index) for array in reads), weights)
        state = {name: tf.ensure_shape(found[name], old.shape) for name, old in state.items()}
        writes = {name: array.write(index + 1, state[name]) for name, array in writes.items()}
        return index + 1, state, writes

    _, last, writes = tf.while_loop(
        lambda index, *_: index < steps, body, (0, state, writes), maximum_iterations=steps
    )
    return last, {name: array.stack() for name, array in writes.items()}


def _backward(
    layout: _Layout,
    tensors: list[tf.Tensor],
    states: Tensors,
    into_last: Tensors,
    into_traced: Tensors,
) -> list[tf.Tensor]:
    """Gradients with respect to all tensors, in their order; `states` of all names by `_forward`."""
    _, sequences, weights = layout.unpack(tensors)
    steps = tf.shape(sequences[0])[0]
    reads = [_array(sequence, steps).unstack(sequence) for sequence in sequences]
    before = {name: _array(value, steps + 1).unstack(value) for name, value in states.items()}
    arriving = {name: _array(value, steps).unstack(value) for name, value in into_traced.items()}
    writes = [_array(sequence, steps) for sequence in sequences]

    def body(index, upstream, into_weights, writes):
        upstream = dict(upstream)
        for name, array in arriving.items():
            upstream[name] += array.read(index)
        sources = (
            {name: array.read(index) for name, array in before.items()},
            tuple(array.read(index) for array in reads),
            weights,
        )
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tf.nest.flatten(sources))
            found = layout.step(*sources)
        into_state, into_values, parts = tape.gradient(
            [found[name] for name in layout.names],
            sources,
            [upstream[name] for name in layout.names],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        into_state = {n: tf.ensure_shape(g, upstream[n].shape) for n, g in into_state.items()}
        into_weights = {name: total + parts[name] for name, total in into_weights.items()}
        writes = [array.write(index, g) for array, g in zip(writes, into_values, strict=True)]
        return index - 1, into_state, into_weights, writes

    zeros = {name: tf.zeros_like(weight) for name, weight in weights.items()}
    _, into_state, into_weights, writes = tf.while_loop(
        lambda index, *_: index >= 0,
        body,
        (steps - 1, into_last, zeros, writes),
        maximum_iterations=steps,
    )
    into_sequences = [_swap(array.stack()) for array in writes]
    return tf.nest.flatten((into_state, into_sequences, into_weights))


def _array(values: tf.Tensor, steps: tf.Tensor) -> tf.TensorArray:
    """An array of as many elements as there are steps, each of the shape of `values[0]`."""
    return tf.TensorArray(values.dtype, steps, element_shape=values.shape[1:])


def _swap(values: tf.Tensor) -> tf.Tensor:
    """[users, time, ...] <-> [time, users, ...]."""
    return tf.transpose(values, [1, 0, *range(2, values.shape.rank)])
