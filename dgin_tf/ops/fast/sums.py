"""Sums by row, as gradients of table reads need them: many values, few rows.

All here is `tf.math.unsorted_segment_sum`. On one core of an AMD EPYC that takes 38 to 76 CPU ms for
512,000 values of 16 columns, three times as long as a histogram of each column where rows are few, and
twice to five times as long as a product with a sparse matrix of ones (18 to 32 ms). On a graphics card
nothing is faster than the segment sum.
"""

import tensorflow as tf

from dgin_tf.ops.compiling import leaves_xla
from dgin_tf.ops.masking import accumulation_dtype

_FEW_COLUMNS = 4  # that are summed one by one; of more, as many together
_PRODUCT_COLUMNS = 31  # a sparse product of more is three times as slow a column


def sum_by_row(values: tf.Tensor, rows: tf.Tensor, count: int) -> tf.Tensor:
    """Adds up the values of each row, as `tf.math.unsorted_segment_sum` does; the door to what is faster.

    A few columns are histograms, each one thread's work, so that numbers are always added in one order.
    More are `sum_slices` where XLA need not compile it (`leaving_xla`). On a graphics card histograms
    know no weights.

    Args:
      values: [values, dim].
      rows: the row of each value, integers [values].
      count: number of rows.

    Returns:
      float32 (float64 for float64 values), [count, dim].
    """
    values = tf.cast(values, accumulation_dtype(values.dtype))
    if tf.config.get_visible_devices("GPU"):
        return tf.math.unsorted_segment_sum(values, rows, count)
    dim = values.shape[-1]
    if dim <= _FEW_COLUMNS:
        columns = tf.unstack(values, axis=1)
        return tf.stack([_histogram(rows, column, count) for column in columns], axis=1)
    if leaves_xla():
        return sum_slices(values, rows, tf.constant(count))
    # Places are looked up, which is faster than multiplied and added. They are as large as the columns
    # that they are for, so that these are few.
    width = next(width for width in (_FEW_COLUMNS, 2, 1) if dim % width == 0)
    places = tf.gather(tf.reshape(tf.range(count * width), [count, width]), rows)
    parts: list[tf.Tensor] = []
    for first in range(0, dim, width):
        with tf.control_dependencies(parts[-1:]):
            columns = values[:, first : first + width]
            parts.append(_histogram(places, columns, count * width))
    return tf.concat([tf.reshape(part, [count, width]) for part in parts], axis=1)


def sum_slices(values: tf.Tensor, rows: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Adds up the values of each row, of which there may be many; XLA cannot compile it.

    On a processor `tf.scatter_nd` and segment sums spend most of their time on beginning with a value.
    The product with a sparse matrix that has a one for every value does not.

    Args:
      values: [values, ...]; where more than the number of values is unknown, as of gradients that
        workers gathered, the sum is taken as on a graphics card.
      rows: the row of each value, integers [values].
      count: number of rows, a scalar.

    Returns:
      Of the values' type, [count, ...]; on a processor numbers are always added in one order.
    """
    inner = values.shape[1:]
    if tf.config.get_visible_devices("GPU") or not inner.is_fully_defined():
        return tf.math.unsorted_segment_sum(values, rows, count)
    flat = tf.reshape(values, [-1, inner.num_elements()])
    ones = tf.ones(tf.shape(rows), values.dtype)
    sums = sum_weighted_slices(flat, tf.range(tf.size(rows)), ones, rows, count)
    return tf.reshape(sums, [count, *inner])


def sum_weighted_slices(
    values: tf.Tensor, places: tf.Tensor, weights: tf.Tensor, rows: tf.Tensor, count: tf.Tensor
) -> tf.Tensor:
    """Adds up weights[t] * values[places[t]] in rows[t], term by term; XLA cannot compile it.

    No term is written: it is the product of a sparse matrix with the values. On a processor numbers are
    always added in one order.

    Args:
      values: [values, dim].
      places: which of them each term takes, int32 [terms].
      weights: of the type of the values, [terms].
      rows: where each term goes, int32 [terms].
      count: number of rows, a scalar.

    Returns:
      [count, dim], of the values' type.
    """
    shape = tf.stack([tf.cast(count, tf.int64), tf.shape(values, tf.int64)[0]])
    indices = tf.stack([tf.cast(rows, tf.int32), places], axis=1)
    dim = values.shape[1]
    width = -(-dim // -(-dim // _PRODUCT_COLUMNS))
    parts = [
        tf.raw_ops.SparseTensorDenseMatMul(
            a_indices=indices, a_values=weights, a_shape=shape, b=values[:, first : first + width]
        )
        for first in range(0, dim, width)
    ]
    return tf.concat(parts, axis=1)


def _histogram(places: tf.Tensor, values: tf.Tensor, count: int) -> tf.Tensor:
    """Sums of the values of each place, [count]. As one line of a matrix they are one thread's work."""
    places, values = tf.reshape(places, [1, -1]), tf.reshape(values, [1, -1])
    return tf.raw_ops.DenseBincount(input=places, size=count, weights=values)[0]
