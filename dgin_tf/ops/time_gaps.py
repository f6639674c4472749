"""Time between an event and a candidate, as a bucket that an embedding or a bias can be looked up by."""

import tensorflow as tf

GAP_BUCKETS = 32


def gap_bucket(gap: tf.Tensor) -> tf.Tensor:
    """floor(log2(1 + gap)): one bucket for every doubling, bucket 0 for less than a second.

    Args:
      gap: seconds, int64; what is negative counts as 0.

    Returns:
      int32 in [0, GAP_BUCKETS), the last bucket holding all gaps from 68 years on.
    """
    # float64, because float32 rounds 2^n - 1 up to 2^n for n above 24.
    seconds = tf.cast(tf.maximum(gap, 0), tf.float64)
    doublings = tf.math.log(seconds + 1.0) / tf.math.log(tf.constant(2.0, tf.float64))
    # The quotient of two logarithms may fall just short of a whole number.
    bucket = tf.cast(tf.floor(doublings + 1e-9), tf.int32)
    return tf.minimum(bucket, GAP_BUCKETS - 1)
