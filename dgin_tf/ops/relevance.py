"""Relevance of past events to a candidate and the sum that it weighs (SIM, section 3.2)."""

import tensorflow as tf


def relevance(query: tf.Tensor, events: tf.Tensor) -> tf.Tensor:
    """Eq. (1), soft: inner products r_i, [users, candidates, time].

    Args:
      query: W_b^T W_a e_a, [users, candidates, dim]: the projection of all events, moved to the
        candidate.
      events: e_i, [users, time, dim].
    """
    return tf.matmul(query, tf.cast(events, query.dtype), transpose_b=True)


def pool_by_relevance(query: tf.Tensor, events: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Eq. (2): U_r = sum_i r_i e_i, [users, candidates, dim].

    Args:
      query, events: see `relevance`; of one type.
      mask: True where the event is real, bool [users, time].
    """
    scores = relevance(query, events)
    # Padding is left out by its scores: they are a small part of what the events take.
    scores = tf.where(mask[:, tf.newaxis], scores, tf.zeros([], scores.dtype))
    return tf.matmul(scores, events)
