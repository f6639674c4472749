"""Everything that a mask does to numbers: softmax, sum, mean and batch statistics over what is real.

Masks are boolean and True is real. Whatever is masked contributes exactly nothing, to the value and
to the gradient, and where nothing is real the answer is exactly zero, never a mean over padding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf


class Moments(NamedTuple):
    """Statistics per channel over the real rows of the global batch.

    Attributes:
      mean: E[x], [dim]; zero where no row is real.
      variance: biased Var[x], [dim]; zero where no row is real.
      count: number of real rows, scalar.
    """

    mean: tf.Tensor
    variance: tf.Tensor
    count: tf.Tensor


def accumulation_dtype(dtype: tf.DType) -> tf.DType:
    """Type in which sums and softmaxes are taken: float32, or float64 for float64 inputs."""
    return tf.float64 if tf.as_dtype(dtype) == tf.float64 else tf.float32


def masked_softmax(scores: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Softmax over the real entries of the last axis.

    Args:
      scores: any real numbers, [..., time].
      mask: True where the entry takes part, bool, broadcastable to `scores`.

    Returns:
      Weights [..., time], float32 (float64 for float64 scores): exactly zero where masked, and all
      zero where a row has no real entry.
    """
    scores = tf.cast(scores, accumulation_dtype(scores.dtype))
    # Half of the lowest number, not the lowest: the softmax subtracts the row's maximum, which must
    # not overflow to -inf. A row without real entries becomes uniform here and zero below.
    scores = tf.where(mask, scores, scores.dtype.min / 2)
    return tf.nn.softmax(scores) * tf.cast(mask, scores.dtype)


def masked_sum(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Sum over time of what is real.

    Args:
      values: [..., time, dim].
      mask: bool [..., time].

    Returns:
      [..., dim]; zero where nothing is real.
    """
    return tf.reduce_sum(tf.where(mask[..., tf.newaxis], values, tf.zeros([], values.dtype)), -2)


def masked_mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mean over time of what is real; arguments and result as for `masked_sum`."""
    count = tf.math.count_nonzero(mask, axis=-1, keepdims=True, dtype=tf.int32)
    return masked_sum(values, mask) / tf.cast(tf.maximum(count, 1), values.dtype)


def masked_moments(values: tf.Tensor, mask: tf.Tensor | None) -> Moments:
    """Mean and biased variance per channel, over the real rows of all replicas together.

    Inside a `tf.distribute` replica the sums are all-reduced, gradients included, so that a step of
    several replicas equals the step of one device on the whole batch. The variance is taken around
    the global mean (two passes): the one-pass form loses all digits where |mean| >> deviation.

    Args:
      values: [..., dim].
      mask: True where a row is real, bool, broadcastable to [...]; None where all rows are.

    Returns:
      `Moments` in float32 (float64 for float64 values).
    """
    values = tf.cast(values, accumulation_dtype(values.dtype))
    rows_shape = tf.shape(values)[:-1]
    rows = tf.reshape(values, [-1, values.shape[-1]])
    if mask is None:
        weights = tf.ones([1, tf.shape(rows)[0]], rows.dtype)
    else:
        weights = tf.reshape(tf.cast(tf.broadcast_to(mask, rows_shape), rows.dtype), [1, -1])
    # Sums as products with a row of ones and zeros: one pass over `rows` whatever the mask, and the
    # backward pass is an outer product. Padding holds finite numbers, so 0 * padding is 0.
    local = tf.concat([tf.matmul(weights, rows)[0], tf.reduce_sum(weights, 1)], axis=0)
    total = sum_over_replicas(local)
    count = total[-1]
    mean = tf.math.divide_no_nan(total[:-1], count)
    # The variance does not change with the point it is taken around when that is the mean, so that
    # no gradient needs to pass through it here.
    centerd = rows - tf.stop_gradient(mean)
    squares = sum_over_replicas(tf.matmul(weights, tf.square(centerd))[0])
    return Moments(mean, tf.math.divide_no_nan(squares, count), count)


def sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """Sum of a tensor over the replicas in sync; itself outside of a strategy. Differentiable."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return value
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, value)


def is_among(values: tf.Tensor, ids: Sequence[int]) -> tf.Tensor:
    """True where a value is one of some ids, bool in the shape of the values."""
    return tf.reduce_any(values[..., tf.newaxis] == tf.constant(list(ids), values.dtype), axis=-1)
