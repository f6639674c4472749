"""The engine of all loops over time: a forward and a backward loop as one differentiable operation.

An ordinary tape around a compiled loop does not work, since the tape asks the loop for tensors that
cannot leave XLA. Forward and backward are therefore graph functions of their own, each of which XLA may
compile, tied by `tf.custom_gradient`. XLA runs such a loop on one core, so that compiled batches are cut
into shards that run side by side.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import tensorflow as tf

from dgin_tf.ops.compiling import graph_function

MIN_SHARD_USERS = 32


class Loops(Protocol):
    """A loop over time and its gradient; hashable by value, since loops are traced once for equal ones.

    Arguments may hold None where an optional tensor is absent; its gradient is None too.
    """

    def __hash__(self) -> int: ...

    def forward(self, per_user: Any, weights: Any) -> tuple[Sequence[tf.Tensor], Any]:
        """Outputs, each [users, ...], and the tensors that `backward` needs besides its arguments."""

    def backward(
        self, per_user: Any, weights: Any, residuals: Any, upstream: Sequence[tf.Tensor]
    ) -> tuple[Any, Any]:
        """Gradients in the structures of `per_user` and `weights`."""


def run_loops(loops: Loops, per_user: Any, weights: Any, jit_compile: bool) -> list[tf.Tensor]:
    """Outputs of a forward loop, differentiable once in every argument.

    Args:
      loops: the two loops.
      per_user: nested tensors [users, ...] or None.
      weights: nested, as tensors: a variable of another replica cannot be read here.
      jit_compile: whether XLA compiles the loops.
    """
    tensors = tf.nest.flatten(per_user)
    shards = shard_count(tensors[0].shape[0]) if jit_compile else 1
    if shards == 1:
        return list(_differentiable(loops, per_user, weights, jit_compile))
    split = [[None] * shards if x is None else tf.split(x, shards) for x in tensors]
    results = [
        _differentiable(loops, tf.nest.pack_sequence_as(per_user, shard), weights, jit_compile)
        for shard in zip(*split, strict=True)
    ]
    return [tf.concat(parts, 0) for parts in zip(*results, strict=True)]


def shard_count(users: int | None) -> int:
    """Number of shards of a batch: the largest divisor that there are cores for.

    A shard has at least `MIN_SHARD_USERS` users. A GPU wants the whole batch at once.
    """
    if users is None or tf.config.get_visible_devices("GPU"):
        return 1
    most = min(os.cpu_count() or 1, users // MIN_SHARD_USERS)
    return max((n for n in range(1, most + 1) if users % n == 0), default=1)


def _differentiable(loops: Loops, per_user: Any, weights: Any, jit: bool) -> tuple[tf.Tensor, ...]:
    arguments = (per_user, weights)
    shapes = tuple(None if x is None else tuple(x.shape) for x in tf.nest.flatten(arguments))
    forward = graph_function(type(loops).forward, (loops,), jit, shapes)
    backward = graph_function(type(loops).backward, (loops,), jit, shapes)

    @tf.custom_gradient
    def run(*tensors):
        # Without stop_gradient an outer tape looks into the compiled function and asks it for its
        # TensorLists, which cannot cross the border of XLA.
        constants = fill(arguments, map(tf.stop_gradient, tensors))
        outputs, residuals = forward(*constants)

        def gradient(*upstream):
            return present(backward(*constants, residuals, upstream))

        return tuple(outputs), gradient

    return run(*present(arguments))


def present(nest: Any) -> list[tf.Tensor]:
    """The tensors of nested arguments, those that are None left out."""
    return [value for value in tf.nest.flatten(nest) if value is not None]


def fill(structure: Any, values: Iterable[Any]) -> Any:
    """Inverse of `present`: values in the places of a structure that are not None."""
    remaining = iter(values)
    return tf.nest.map_structure(lambda x: None if x is None else next(remaining), structure)


def loop(
    step: Callable[[Any, tuple[tf.Tensor, ...]], tuple[Any, Sequence[tf.Tensor]]],
    carry: Any,
    sequences: Sequence[tf.Tensor],
    output_shapes: Sequence[tf.TensorShape],
    *,
    reverse: bool = False,
    prefetch: bool = False,
) -> tuple[Any, list[tf.Tensor]]:
    """Runs `step(carry, values) -> (carry, outputs)` over the first axis of `sequences`.

    Args:
      step: reads one slice of each sequence.
      carry: nested tensors that go from step to step.
      sequences: each [time, ...].
      output_shapes: static shapes of a step's outputs.
      reverse: from the last step to the first.
      prefetch: whether the next step's values travel in the loop's variables. XLA otherwise fuses the
        slice of a sequence into the arithmetic on it, which then is not vectorized: measured on the
        GRU, it halves the time of the forward loop. Without XLA it only adds operations.

    Returns:
      The last `carry`, and the outputs of all steps, each [time, ...].
    """
    first, time = carry, tf.shape(sequences[0])[0]
    may_be_empty = not sequences[0].shape[0]
    if may_be_empty:  # a step of zeros in the place of none, whose results are left out below
        missing = tf.maximum(1 - time, 0)
        sequences = [tf.pad(x, [[0, missing]] + [[0, 0]] * (len(x.shape) - 1)) for x in sequences]
    steps = tf.shape(sequences[0])[0]
    arrays = [
        tf.TensorArray(value.dtype, steps, element_shape=value.shape[1:]).unstack(value)
        for value in sequences
    ]
    dtype = sequences[0].dtype
    outputs = tuple(tf.TensorArray(dtype, steps, element_shape=shape) for shape in output_shapes)

    def read(count):
        index = steps - 1 - count if reverse else count
        return tuple(array.read(index) for array in arrays)

    def body(count, carry, values, outputs):
        after, results = step(carry, values if prefetch else read(count))
        # A step of operations without static shapes must not open those of the loop's variables.
        carry = tf.nest.map_structure(lambda x, y: tf.ensure_shape(x, y.shape), after, carry)
        index = steps - 1 - count if reverse else count
        outputs = tuple(
            array.write(index, value) for array, value in zip(outputs, results, strict=True)
        )
        values = read(tf.minimum(count + 1, steps - 1)) if prefetch else ()
        return count + 1, carry, values, outputs

    _, carry, _, outputs = tf.while_loop(
        lambda count, *_: count < steps,
        body,
        (0, carry, read(0) if prefetch else (), outputs),
        maximum_iterations=steps,
    )
    results = [array.stack() for array in outputs]
    if may_be_empty:
        carry = tf.nest.map_structure(lambda x, y: tf.where(time > 0, x, y), carry, first)
        results = [result[:time] for result in results]
    return carry, results
