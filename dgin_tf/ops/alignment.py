"""What else happened around an event, and which part of it points the event's own way (TEM4CTR)."""

import tensorflow as tf

_TINY = 1e-12  # of the released code; the projection onto nothing is nothing


def nearest_events(places: tf.Tensor, others: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The other events right before and right after some events.

    Args:
      places: where in time the events are, int32 [users, events].
      others: which events are others, bool [users, time]; none of the former is among them.
      count: R, how many to take on either side.

    Returns:
      Places, oldest first, int32 [users, events, 2 * count], zero where there is nothing; and whether
      there is something, bool.
    """
    # One event more, so that a time axis of no length can be read.
    number = tf.pad(tf.cumsum(tf.cast(others, tf.int32), axis=1), [[0, 0], [1, 0]])
    before = tf.gather(number, places, batch_dims=1)
    wanted = before[..., tf.newaxis] + tf.range(1 - count, count + 1)
    found = (wanted >= 1) & (wanted <= number[:, -1, tf.newaxis, tf.newaxis])
    # The n-th of the others is where their number reaches n.
    flat = tf.reshape(wanted, [tf.shape(wanted)[0], -1])
    near = tf.searchsorted(number, flat, side="left") - 1
    return tf.where(found, tf.reshape(near, tf.shape(wanted)), 0), found


def project_onto(vectors: tf.Tensor, onto: tf.Tensor) -> tf.Tensor:
    """The components of vectors [..., dim] along others [..., dim]; zero along zero."""
    product = tf.reduce_sum(vectors * onto, axis=-1, keepdims=True)
    square = tf.reduce_sum(tf.square(onto), axis=-1, keepdims=True)
    return product / (square + _TINY) * onto
