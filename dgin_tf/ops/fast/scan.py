"""A fast `ops.ntm.scan`: any step function along time, with a gradient by running each step again."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from dgin_tf.ops.compiling import should_compile
from dgin_tf.ops.fast.loops import fill, loop, present, run_loops
from dgin_tf.ops.ntm import Step, Tensors


# Forward keeps the states alone, backward runs a step once more at each of them: memory grows with time
# by one state, not by all that a step computes, and MIMN's cell trains four (all parts) to six times (the
# memory alone) as fast as the authors' under TensorFlow 1. A forward pass over 100 events takes 37 ms of
# CPU; hoisting projections out of the loop, users as the last dimension and unrolling gave 39 to 46.
def fast_scan(
    step: Step,
    state: Tensors,
    sequences: Sequence[tf.Tensor],
    weights: Any,
    traces: Sequence[str] = (),
    *,
    keep_states: bool = True,
    jit_compile: bool | None = None,
) -> tuple[Tensors, Tensors]:
    """Values and gradients of `ops.ntm.scan`; differentiable once, the number of steps may be unknown.

    Args:
      step: pure and hashable by value.
      state: each [users, ...], of one floating type.
      sequences: each [users, time, ...], of that type.
      weights: nested tensors or None.
      traces: names of the state whose values after every step are returned.
      keep_states: whether forward keeps all states for the gradient. Without, forward takes half the
        time, and a gradient that is asked for after all runs it once more.
      jit_compile: whether XLA compiles the loops; None for the rule of `should_compile`.

    Returns:
      The state after the last step, and name -> [users, time, ...] of `traces`.
    """
    if jit_compile is None:
        jit_compile = should_compile(sequences[0].shape[0])
    loops = _Scan(step, tuple(sorted(state)), tuple(sorted(traces)), keep_states)
    outputs = run_loops(loops, (dict(state), tuple(sequences)), weights, jit_compile)
    last = dict(zip(loops.names, outputs, strict=False))
    return last, dict(zip(loops.traces, outputs[len(loops.names) :], strict=True))


class _Scan(NamedTuple):
    """Forward and backward loop, see `Loops`; outputs are the last state and the traces, by name."""

    step: Step
    names: tuple[str, ...]
    traces: tuple[str, ...]
    keep_states: bool

    def forward(self, per_user, weights):
        names = self.names if self.keep_states else self.traces
        last, states = self._run(names, per_user, weights)
        outputs = [last[name] for name in self.names]
        outputs += [_swap(states[name]) for name in self.traces]
        return outputs, states if self.keep_states else {}

    def backward(self, per_user, weights, residuals, upstream):
        first, sequences = per_user
        states = residuals or self._run(self.names, per_user, weights)[1]
        # The state before every step.
        before = [tf.concat([first[n][tf.newaxis], states[n][:-1]], 0) for n in self.names]
        into_last = dict(zip(self.names, upstream, strict=False))
        into_traces = [_swap(value) for value in upstream[len(self.names) :]]
        sequences = [_swap(sequence) for sequence in sequences]
        ends = len(sequences), len(sequences) + len(before)

        def step(carry, values):
            upstream, into_weights = carry
            upstream = dict(upstream)
            for name, value in zip(self.traces, values[ends[1] :], strict=True):
                upstream[name] += value
            state = dict(zip(self.names, values[ends[0] : ends[1]], strict=True))
            # A tape takes no None, so that absent weights are left out and filled in again.
            sources = state, values[: ends[0]], present(weights)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(tf.nest.flatten(sources))
                after = self.step(*sources[:2], fill(weights, sources[2]))
            into_state, into_values, parts = tape.gradient(
                [after[name] for name in self.names],
                sources,
                [upstream[name] for name in self.names],
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            into_weights = [total + part for total, part in zip(into_weights, parts, strict=True)]
            return (into_state, into_weights), into_values

        (into_state, into_weights), into_sequences = loop(
            step,
            (into_last, [tf.zeros_like(weight) for weight in present(weights)]),
            [*sequences, *before, *into_traces],
            [sequence.shape[1:] for sequence in sequences],
            reverse=True,
        )
        into_user = into_state, tuple(_swap(value) for value in into_sequences)
        return into_user, fill(weights, into_weights)

    def _run(self, names, per_user, weights):
        """The last state, and of `names` the states after every step, [time, users, ...]."""
        state, sequences = per_user

        def step(state, values):
            after = self.step(state, values, weights)
            return {name: after[name] for name in state}, [after[name] for name in names]

        shapes = [state[name].shape for name in names]
        last, states = loop(step, state, [_swap(sequence) for sequence in sequences], shapes)
        return last, dict(zip(names, states, strict=True))


def _swap(values: tf.Tensor) -> tf.Tensor:
    """[users, time, ...] <-> [time, users, ...]."""
    return tf.transpose(values, [1, 0, *range(2, values.shape.rank)])
