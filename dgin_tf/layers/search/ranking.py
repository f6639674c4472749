"""Several rankings of past events made into one."""

import tensorflow as tf

from dgin_tf.layers.search.unit import SearchResult, top_events
from dgin_tf.ops.event_order import at_most


def take_turns(scores: tf.Tensor, mask: tf.Tensor, k: int) -> SearchResult:
    """Several rankings name events in turn, the best of each, then the second of each, and so on.

    An event that was named before is passed over, until k different ones are named (TWIN, section 4).

    Args:
      scores: one ranking a head, [users, candidates, heads, time].
      mask: True where the event is real, bool, broadcastable to `scores`.
      k: how many to name; all that are real where there are fewer.

    Returns:
      Places in time, int32 [users, candidates, k], first named first, and their mask.
    """
    users, candidates, heads, time = tf.unstack(tf.shape(scores))
    ranking = top_events(scores, mask, k)
    ranks = tf.shape(ranking.topk_indices)[-1]
    turns = ranks * heads

    def in_turn(values: tf.Tensor) -> tf.Tensor:
        # [users, candidates, heads, k] -> [users * candidates, k * heads]
        values = tf.transpose(values, [0, 1, 3, 2])
        return tf.reshape(values, [users * candidates, turns])

    places, real = in_turn(ranking.topk_indices), in_turn(ranking.mask)
    never = turns
    turn = tf.where(real, tf.range(turns), never)
    # Of an event that several heads name the earliest turn counts.
    cell = tf.range(users * candidates)[:, tf.newaxis] * time + places
    earliest = tf.tensor_scatter_nd_min(
        tf.fill([users * candidates * time], never), cell[..., tf.newaxis], turn
    )
    is_first = real & (tf.gather(earliest, cell) == turn)
    _, first = tf.math.top_k(tf.where(is_first, -turn, -never), ranks)
    shape = [users, candidates, at_most(k, scores)]
    return SearchResult(
        *(tf.reshape(tf.gather(x, first, batch_dims=1), shape) for x in (places, is_first))
    )
