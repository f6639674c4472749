"""Folds a sequence into a state of fixed size, with a gradient that any step can have.

`fold` runs a step function along time. Forward keeps the states alone; backward runs the step once
more at each of them and differentiates that, so that memory grows with time by one state and not by
all that a step computes. Forward and backward are graph functions of their own, each of which XLA
may compile: a compiled loop inside an ordinary tape does not work.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import tensorflow as tf

from dgin_tf.ops.recurrence import MIN_XLA_ROWS

Tensors: TypeAlias = dict[str, tf.Tensor]
Step: TypeAlias = Callable[[Tensors, tuple[tf.Tensor, ...], Tensors], Tensors]


def fold(
    step: Step,
    state: Tensors,
    sequences: Sequence[tf.Tensor],
    weights: Tensors,
    *,
    traced: Sequence[str] = (),
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
      jit_compile: whether XLA compiles the loops. None means: in graphs of static shapes with enough
        users to be worth it; a function exported with unknown sizes therefore holds plain loops.

    Returns:
      The state after the last step, and name -> [users, time, ...] of what is `traced`.
    """
    flat: list[tf.Tensor] = tf.nest.flatten((state, tuple(sequences), weights))
    if jit_compile is None:
        is_static = all(tensor.shape.is_fully_defined() for tensor in flat)
        jit_compile = is_static and is_worth_compiling(sequences[0])
    layout = _Layout(step, tuple(sorted(state)), len(sequences), tuple(sorted(weights)))
    signature = tuple(tuple(tensor.shape) for tensor in flat)
    forward = _traced(_forward, layout, jit_compile, signature)
    backward = _traced(_backward, layout, jit_compile, signature)
    names = tuple(sorted(traced))

    @tf.custom_gradient
    def run(*tensors):
        # Without stop_gradient an outer tape looks into the jitted function and asks it for its
        # TensorLists, which cannot cross the border of XLA.
        constants = [tf.stop_gradient(tensor) for tensor in tensors]
        last, before, after = forward(constants)
        outputs = [last[name] for name in layout.names]
        outputs += [_swap(after[name]) for name in names]

        def gradient(*upstream):
            into_last = dict(zip(layout.names, upstream, strict=False))
            into_traced = dict(zip(names, map(_swap, upstream[len(layout.names) :]), strict=True))
            return backward(constants, before, into_last, into_traced)

        return tuple(map(tf.identity, outputs)), gradient

    outputs = run(*flat)
    last = dict(zip(layout.names, outputs, strict=False))
    return last, dict(zip(names, outputs[len(layout.names) :], strict=True))


def is_worth_compiling(sequence: tf.Tensor) -> bool:
    """Whether XLA may pay: a graph is being built, and its users are not known to be few."""
    users = sequence.shape[0]
    return not tf.executing_eagerly() and (users is None or users >= MIN_XLA_ROWS)


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


@functools.cache
def _traced(loop, layout: _Layout, jit: bool, signature: tuple):
    """A loop as a graph function, one for each signature: shared, they would warn of retracing."""
    del signature
    return tf.function(functools.partial(loop, layout), jit_compile=jit or None, autograph=False)


def _forward(layout: _Layout, tensors: list[tf.Tensor]) -> tuple[Tensors, Tensors, Tensors]:
    """The last state, and the states before and after every step, [time, users, ...]."""
    state, sequences, weights = layout.unpack(tensors)
    steps = tf.shape(sequences[0])[0]
    reads = [_array(sequence, steps).unstack(sequence) for sequence in sequences]
    writes = {name: _array(value[tf.newaxis], steps) for name, value in state.items()}

    def body(index, state, writes):
        found = layout.step(state, tuple(array.read(index) for array in reads), weights)
        state = {name: tf.ensure_shape(found[name], old.shape) for name, old in state.items()}
        writes = {name: array.write(index, state[name]) for name, array in writes.items()}
        return index + 1, state, writes

    _, last, writes = tf.while_loop(
        lambda index, *_: index < steps, body, (0, state, writes), maximum_iterations=steps
    )
    after = {name: array.stack() for name, array in writes.items()}
    before = {
        name: tf.concat([state[name][tf.newaxis], values[:-1]], 0)[: tf.shape(values)[0]]
        for name, values in after.items()
    }
    return last, before, after


def _backward(
    layout: _Layout,
    tensors: list[tf.Tensor],
    before: Tensors,
    into_last: Tensors,
    into_traced: Tensors,
) -> list[tf.Tensor]:
    """Gradients with respect to all tensors, in their order."""
    _, sequences, weights = layout.unpack(tensors)
    steps = tf.shape(sequences[0])[0]
    reads = [_array(sequence, steps).unstack(sequence) for sequence in sequences]
    states = {name: _array(value, steps).unstack(value) for name, value in before.items()}
    arriving = {name: _array(value, steps).unstack(value) for name, value in into_traced.items()}
    writes = [_array(sequence, steps) for sequence in sequences]

    def body(index, upstream, into_weights, writes):
        upstream = dict(upstream)
        for name, array in arriving.items():
            upstream[name] += array.read(index)
        sources = (
            {name: array.read(index) for name, array in states.items()},
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
