"""Histories without repetitions, cut into parts by an attribute (NINN)."""

from typing import NamedTuple

import tensorflow as tf

from dgin_tf.ops.event_order import order_events


class Partition(NamedTuple):
    """The largest parts of every history and, last, one for all others.

    Attributes:
      part: which part each event is in, int32 [users, time]; `parts` is that of all others, and of no
        meaning under the mask.
      mask: True where there is a part, bool [users, parts + 1].
      places: where in time an event of each part is, int32 [users, parts]; zero where there is none.
    """

    part: tf.Tensor
    mask: tf.Tensor
    places: tf.Tensor


def newest_of_each(keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Which events are the newest with their key, bool [users, time].

    Args:
      keys: integers below the highest number of their type, [users, time].
      mask: True where the event is real, bool [users, time].
    """
    ordered = order_events(keys, mask)
    behind = tf.pad(ordered.keys[:, 1:], [[0, 0], [0, 1]], constant_values=keys.dtype.max)
    is_last = ordered.keys != behind
    back = tf.argsort(ordered.places, axis=1)
    return tf.gather(is_last, back, batch_dims=1) & mask


def partition(values: tf.Tensor, mask: tf.Tensor, parts: int) -> Partition:
    """Cuts histories into the parts whose events share a value.

    Args:
      values: integers below the highest number of their type, [users, time].
      mask: True where the event counts, bool [users, time].
      parts: P, how many parts to keep, the largest; of equal ones that of the lower value.

    Raises:
      ValueError: `parts` is below 1.
    """
    if parts < 1:
        raise ValueError(f"parts must be at least 1; got {parts}.")
    ordered = order_events(values, mask)
    sentinel = values.dtype.max
    key = tf.pad(ordered.keys, [[0, 0], [0, parts]], constant_values=sentinel)
    place = tf.pad(ordered.places, [[0, 0], [0, parts]])
    start = tf.searchsorted(key, key, side="left")
    size = tf.searchsorted(key, key, side="right") - start
    is_first = (start == tf.range(tf.shape(key)[1])) & (key < sentinel)
    found, first = tf.math.top_k(tf.where(is_first, size, 0), parts)
    real = found > 0
    value = tf.where(real, tf.gather(key, first, batch_dims=1), sentinel)
    # Parts in the order of their values, so that an event finds its own by binary search.
    order = tf.argsort(value, axis=1, stable=True)
    value, first, real = (tf.gather(v, order, batch_dims=1) for v in (value, first, real))
    near = tf.minimum(tf.searchsorted(value, values, side="left"), parts - 1)
    is_own = tf.gather(value, near, batch_dims=1) == values
    part = tf.where(is_own, near, parts)
    rest = tf.reduce_any(mask & ~is_own, axis=1, keepdims=True)
    places = tf.where(real, tf.gather(place, tf.where(real, first, 0), batch_dims=1), 0)
    return Partition(part, tf.concat([real, rest], axis=1), places)


def sum_in_parts(weights: tf.Tensor, values: tf.Tensor, part: tf.Tensor, parts: int) -> tf.Tensor:
    """Weighted sums of the events of each part, for every candidate.

    Args:
      weights: [users, candidates, time], zero where an event does not count.
      values: [users, time, dim].
      part: int32 [users, time].
      parts: how many there are.

    Returns:
      [users, candidates, parts, dim].
    """
    member = tf.one_hot(part, parts, dtype=weights.dtype, axis=1)  # [users, parts, time]
    users, candidates, time = tf.unstack(tf.shape(weights))
    rows = weights[:, :, tf.newaxis] * member[:, tf.newaxis]
    rows = tf.reshape(rows, [users, candidates * parts, time])
    return tf.reshape(tf.matmul(rows, values), [users, candidates, parts, values.shape[-1]])
