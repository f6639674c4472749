"""Attention over events that all candidates of a user share, `ops.multi_head` as one operation.

Its gradient writes the events' part once: dS^T [queries] and A^T [d heads] are one product of twice
the depth, where those of the formulas are written one by one and then added. With hundreds of events
and few candidates, writing is what these products cost: a training step of DGIN over 300 groups and
five candidates takes 471 CPU ms where it took 587 (one core of an AMD EPYC, with other changes of the
same day; BUILD_NOTES.md).
"""

import tensorflow as tf

from dgin_tf.ops import masking

_FEW_ROWS = 32


def read_shared_events(
    queries: tf.Tensor, events: tf.Tensor, mask: tf.Tensor, scale: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """`head_scores`, their softmax and `attend_heads` of `ops.multi_head`.

    Args:
      queries: [users, candidates, heads, dim].
      events: [users, time, dim], of the same type.
      mask: True where the event is real, bool [users, time].
      scale: factor of the inner products.

    Returns:
      Each head's sum, [users, candidates, heads, dim], and the weights, float32
      [users, candidates, heads, time].
    """

    @tf.custom_gradient
    def read(rows, events):
        scores = score_shared_events(rows, events)
        dtype = masking.accumulation_dtype(scores.dtype)
        weights = masking.masked_softmax(tf.cast(scores, dtype) * scale, mask[:, tf.newaxis])
        weights_of_events = tf.cast(weights, events.dtype)

        def gradient(into_sums, into_weights):
            into_weights += tf.cast(score_shared_events(into_sums, events), dtype)
            mean = tf.reduce_sum(weights * into_weights, axis=-1, keepdims=True)
            into_scores = tf.cast(weights * (into_weights - mean) * scale, events.dtype)
            left = tf.concat([into_scores, weights_of_events], axis=1)
            right = tf.concat([rows, into_sums], axis=1)
            return tf.matmul(into_scores, events), tf.matmul(left, right, transpose_a=True)

        return (tf.matmul(weights_of_events, events), weights), gradient

    users, candidates, heads, dim = tf.unstack(tf.shape(queries))
    rows = tf.reshape(queries, [users, candidates * heads, queries.shape[-1]])
    sums, weights = read(rows, events)
    sums = tf.reshape(sums, [users, candidates, heads, dim])
    weights = tf.reshape(weights, [users, candidates, heads, tf.shape(events)[1]])
    shape = queries.shape[:-1]
    return (
        tf.ensure_shape(sums, shape.concatenate([queries.shape[-1]])),
        tf.ensure_shape(weights, shape.concatenate([events.shape[1]])),
    )


def score_shared_events(rows: tf.Tensor, events: tf.Tensor) -> tf.Tensor:
    """Inner products of [users, rows, dim] and [users, time, dim], [users, rows, time]."""
    count = rows.shape[1]
    if count is None or count > _FEW_ROWS:
        return tf.matmul(rows, events, transpose_b=True)
    # Many events times a few rows, turned, takes half as long as a few rows times many events.
    return tf.transpose(tf.matmul(events, rows, transpose_b=True), [0, 2, 1])
