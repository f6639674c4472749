"""Past events ordered by a key, so that a candidate finds those of its own key without a scan.

Ordering costs O(time log time) once a user; finding the k newest events of a key then costs two
binary searches and k reads, however long the history is.
"""

from typing import NamedTuple

import tensorflow as tf


class EventOrder(NamedTuple):
    """Events by key and, within a key, by time.

    Attributes:
      places: where in time each of them is, int32 [users, time].
      keys: their keys, ascending, [users, time]; the highest number of the type where masked.
    """

    places: tf.Tensor
    keys: tf.Tensor


def order_events(keys: tf.Tensor, mask: tf.Tensor) -> EventOrder:
    """Orders events by their keys.

    Args:
      keys: integers [users, time], below the highest number of their type.
      mask: True where the event is real, bool [users, time].
    """
    keys = tf.where(mask, keys, keys.dtype.max)
    places = tf.argsort(keys, axis=1, stable=True)
    return EventOrder(places, tf.gather(keys, places, batch_dims=1))


def newest_of_key(order: EventOrder, target_keys: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The newest events that have the keys of candidates.

    Args:
      order: the users' events.
      target_keys: keys [users, candidates].
      k: how many at most.

    Returns:
      Places in time, newest first, int32 [users, candidates, k], with k at most `time`; and whether
      there is something, bool.
    """
    # One more key behind all others: binary search takes no empty arrays.
    keys = tf.pad(order.keys, [[0, 0], [0, 1]], constant_values=order.keys.dtype.max)
    start = tf.searchsorted(keys, target_keys, side="left")[..., tf.newaxis]
    end = tf.searchsorted(keys, target_keys, side="right")[..., tf.newaxis]
    rank = end - 1 - tf.range(at_most(k, order.places))
    mask = (rank >= start) & (target_keys < order.keys.dtype.max)[..., tf.newaxis]
    return tf.gather(order.places, tf.where(mask, rank, 0), batch_dims=1), mask


def newest_events(mask: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The newest of the events that a mask leaves, wherever they lie.

    Args:
      mask: bool [users, time].
      k: how many.

    Returns:
      Places in time, newest first, int32 [users, k], zero where there are fewer; and whether there
      is an event, bool.
    """
    place = tf.where(mask, tf.range(tf.shape(mask)[1]), -1)
    newest, _ = tf.math.top_k(tf.pad(place, [[0, 0], [0, k]], constant_values=-1), k)
    return tf.maximum(newest, 0), newest >= 0


def at_most(k: int, values: tf.Tensor) -> int | tf.Tensor:
    """The smaller one of k and the size of the last axis, a Python number where that is known."""
    size = values.shape[-1]
    return tf.minimum(k, tf.shape(values)[-1]) if size is None else min(k, size)


def padding_first(values: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Moves padding to the left, for code that reads histories to the end.

    Args:
      values: [users, time, ...].
      mask: True where the event is real, bool [users, time]; padding may be on either side.

    Returns:
      Values and mask, real events last and in their order.
    """
    places = tf.argsort(tf.cast(mask, tf.int32), axis=1, stable=True)
    return tf.gather(values, places, batch_dims=1), tf.gather(mask, places, batch_dims=1)


def newest_of_keys(
    order: EventOrder, target_keys: tf.Tensor, k: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The newest events of every candidate's key, each once: all that a search by them can retrieve.

    Args:
      order: the users' events.
      target_keys: keys [users, candidates], as often as one likes.
      k: how many of a key at most.

    Returns:
      Places in time, rising, int32 [users, events], and whether there is something, bool, real ones
      first. `events` is the power of two that holds the longest row, or candidates * k where that is
      less, so that a program meets few lengths.
    """
    places, mask = newest_of_key(order, target_keys, k)
    time = tf.shape(order.places)[1]
    width = tf.maximum(tf.shape(mask)[1] * tf.shape(mask)[2], 1)
    rows = tf.reshape(tf.where(mask, places, time), [tf.shape(places)[0], -1])
    rows = tf.sort(tf.pad(rows, [[0, 0], [0, 1]], constant_values=time), axis=1)
    is_repeat = tf.pad(rows[:, 1:] == rows[:, :-1], [[0, 0], [1, 0]])
    rows = tf.sort(tf.where(is_repeat, time, rows), axis=1)
    counts = tf.math.count_nonzero(rows < time, axis=1, dtype=tf.int32)
    powers = tf.constant([2**power for power in range(31)])
    longest = tf.reduce_max(tf.concat([counts, [1]], axis=0))
    length = tf.minimum(powers[tf.searchsorted(powers, longest[tf.newaxis])[0]], width)
    mask = tf.sequence_mask(counts, length)
    return tf.where(mask, rows[:, :length], 0), mask
