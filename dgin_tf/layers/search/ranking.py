"""Several rankings of past events made into one."""

import tensorflow as tf

from dgin_tf.layers.search.unit import best
from dgin_tf.ops.event_order import at_most


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
    ranks = tf.shape(places)[-1]
    turns = ranks * heads

    def in_turn(values: tf.Tensor) -> tf.Tensor:
        values = tf.transpose(values, [0, 1, 3, 2])
        return tf.reshape(values, [users * candidates, turns])

    places, found = in_turn(places), in_turn(found)
    never = turns
    turn = tf.where(found, tf.range(turns), never)
    # Named by several heads: the earliest turn counts.
    cell = tf.range(users * candidates)[:, tf.newaxis] * time + places
    earliest = tf.tensor_scatter_nd_min(
        tf.fill([users * candidates * time], never), cell[..., tf.newaxis], turn
    )
    is_first = found & (tf.gather(earliest, cell) == turn)
    order = tf.where(is_first, -turn, -never)
    _, first = tf.math.top_k(order, ranks)
    shape = [users, candidates, at_most(k, scores)]
    places, found = (tf.gather(values, first, batch_dims=1) for values in (places, is_first))
    return tf.reshape(places, shape), tf.reshape(found, shape)
