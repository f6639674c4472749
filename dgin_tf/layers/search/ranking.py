"""Several rankings of past events made into one."""

import tensorflow as tf

from dgin_tf.layers.search.unit import best


def take_turns(scores: tf.Tensor, mask: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Several rankings name events in turn, the best of each, then the second of each, and so on.

    An event that was named before is passed over, until k different ones are named (TWIN, section 4).

    Args:
      scores: one ranking a head, [users, candidates, heads, time].
      mask: True where the event is real, bool, broadcastable to `scores`.
      k: how many to name; all that are real where there are fewer.

    Returns:
      Places in time, int32 [users, candidates, k], first named first, and whether there is something.
    """
    users, candidates, heads, time = tf.unstack(tf.shape(scores))
    _, places, found = best(scores, mask, k)
    rank = tf.range(tf.shape(places)[-1])
    turn = rank * heads + tf.range(heads)[:, tf.newaxis]
    never = time * heads
    turn = tf.where(found, turn, never)
    row = tf.reshape(tf.range(users * candidates), [users, candidates, 1, 1])
    # Named by several heads: the earliest turn counts.
    earliest = tf.tensor_scatter_nd_min(
        tf.fill([users * candidates * time], never),
        tf.reshape(row * time + places, [-1, 1]),
        tf.reshape(turn, [-1]),
    )
    static = scores.shape[-1]
    earliest = tf.reshape(earliest, [users, candidates, time if static is None else static])
    _, places, found = best(-tf.cast(earliest, tf.float32), earliest < never, k)
    return places, found
