"""BM25 (Robertson et al., 1995) where a document is one past event and its terms are its attributes.

A term occurs in an event once or not at all and all events are equally long, so that the saturation
tf (k_1 + 1) / (tf + k_1 (1 - b + b |D| / avgdl)) is 1 for every match: what is left is the sum of the
inverse document frequencies of the terms that agree.
"""

import tensorflow as tf


def inverse_document_frequency(matching: tf.Tensor, documents: tf.Tensor) -> tf.Tensor:
    """log(1 + (N - n + 1/2) / (n + 1/2)), positive for every n up to N.

    Args:
      matching: n, in how many documents the term occurs.
      documents: N, how many there are.

    Returns:
      float32, in the broadcast shape.
    """
    matching, documents = tf.cast(matching, tf.float32), tf.cast(documents, tf.float32)
    return tf.math.log1p((documents - matching + 0.5) / (matching + 0.5))


def scores(matches: tf.Tensor, query: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Scores every event of a user by the terms of a query.

    Args:
      matches: where event and candidate have the same real value, bool [users, candidates, fields, time].
      query: which fields are asked for, bool [users, candidates, fields].
      mask: True where the event is real, bool [users, time]; the user's own events are the collection.

    Returns:
      float32 [users, candidates, time]; zero where nothing asked for agrees, and where masked.
    """
    matches &= mask[:, tf.newaxis, tf.newaxis]
    count = tf.math.count_nonzero(matches, axis=-1, dtype=tf.int32)
    documents = tf.math.count_nonzero(mask, axis=-1, dtype=tf.int32)[:, tf.newaxis, tf.newaxis]
    weight = inverse_document_frequency(count, documents) * tf.cast(query, tf.float32)
    return tf.matmul(weight[:, :, tf.newaxis], tf.cast(matches, tf.float32))[:, :, 0]
