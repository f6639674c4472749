"""Draws without replacement from the events of a history, as functions of a seed and of the history.

Nothing here keeps a state: a history always gives the same draws, so that resumed runs repeat them,
replicas draw what one device would, and padding on either side changes nothing.
"""

from collections.abc import Sequence

import tensorflow as tf

from dgin_tf.ops import hashing

_RESOLUTION = 1 << 20


def ranks(mask: tf.Tensor) -> tf.Tensor:
    """The number of real events before each one, int32 [users, time], for a mask bool [users, time]."""
    return tf.cumsum(tf.cast(mask, tf.int32), axis=1, exclusive=True)


def counts(mask: tf.Tensor) -> tf.Tensor:
    """The number of real events of each user, int32 [users]."""
    return tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)


def places(mask: tf.Tensor, rank: tf.Tensor) -> tf.Tensor:
    """Places in time of the events of some ranks.

    Args:
      mask: bool [users, time]; the real events lie side by side.
      rank: int32 [users, ...], below the number of the user's events; others give places of no
        meaning, within time where that is not zero.

    Returns:
      int32, in the shape of `rank`.
    """
    time = tf.shape(mask)[1]
    first = tf.reduce_min(tf.where(mask, tf.range(time), time), axis=1)
    place = tf.reshape(first, [-1] + [1] * (len(rank.shape) - 1)) + rank
    return tf.clip_by_value(place, 0, tf.maximum(time - 1, 0))


def remainder(value: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """value % count of integers below 2^31, not negative; exact, and in vector registers.

    No processor divides several integers at a time. In float64 the quotient of two integers of 32 bits
    is never rounded up to the next whole number.
    """
    quotient = tf.cast(value, tf.float64) / tf.cast(count, tf.float64)
    return value - tf.cast(quotient, value.dtype) * count


def stratified(count: tf.Tensor, draws: int, keys: list[tf.Tensor], seed: int) -> tf.Tensor:
    """Different whole numbers below `count`, one from each of `draws` equal parts of the range.

    Args:
      count: int32 [...].
      draws: how many.
      keys: what the draws depend on beside the seed, integers that broadcast against `count`.
      seed: of the draws.

    Returns:
      int32 [..., draws], rising. Where `count` is not above `draws` they are 0, 1, 2, ..., of which
      only the first `count` are below it.
    """
    part = tf.range(draws)
    count = count[..., tf.newaxis]
    start = part * count // draws
    width = (part + 1) * count // draws - start
    parts = [*(key[..., tf.newaxis] for key in keys), part]
    random = hashing.cross_bucket(parts, _RESOLUTION, seed)
    draw = start + remainder(random, tf.maximum(width, 1))
    return tf.where(count > draws, draw, part)


def uniform(keys: Sequence[tf.Tensor], seed: int) -> tf.Tensor:
    """Numbers in [0, 1) that look uniform and independent, float32, in the broadcast shape of the keys.

    Args:
      keys: integers that the numbers are a function of.
      seed: of the draws.
    """
    # 24 bits are all that a float32 holds.
    return tf.cast(hashing.cross_bucket(keys, 1 << 24, seed), tf.float32) / (1 << 24)
