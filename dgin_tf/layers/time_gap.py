"""Embeddings of the time between an event and a candidate (SIM, section 3.3)."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import ConfiguredLayer
from dgin_tf.ops.tables import read_few

MINUTE = 60
BUCKETS = 48
STEPS_AN_OCTAVE = 2


def gap_buckets(gaps: tf.Tensor) -> tf.Tensor:
    """Bucket of each gap, in [0, 48), int32.

    Two buckets for every doubling, from half a minute to 28 years: an hour matters where events are
    recent and means nothing after a year. The paper does not say how it cuts time. Boundaries are
    whole seconds, so that the same gap is in the same bucket everywhere.

    Args:
      gaps: seconds, integers of any shape; what is negative counts as zero.
    """
    flat = tf.reshape(gaps, [-1])
    buckets = tf.searchsorted(tf.constant(gap_starts()[1:], gaps.dtype), flat, side="right")
    return tf.reshape(buckets, tf.shape(gaps))


def gap_starts() -> list[int]:
    """The shortest gap of each bucket, whole seconds, rising from 0."""
    return [round(MINUTE * (2 ** (i / STEPS_AN_OCTAVE) - 1)) for i in range(BUCKETS)]


class GapEmbedding(ConfiguredLayer):
    """e^t_j: embeds the time between event and candidate, in a table of its own.

    Args:
      dim: width of the embedding.

    Example:

      >>> GapEmbedding(dim=4)(tf.constant([[60, 3600, 86400]])).shape
      TensorShape([1, 3, 4])
    """

    def __init__(self, dim: int = 8, **kwargs: Any):
        super().__init__(**kwargs)
        self.dim = dim

    def build(self, input_shape: Any) -> None:
        self.table = self.add_weight("table", [BUCKETS, self.dim], initializer="glorot_uniform")
        super().build(input_shape)

    def call(self, gaps: tf.Tensor) -> tf.Tensor:
        """Seconds, integers [...] -> [..., dim]."""
        return read_few(tf.convert_to_tensor(self.table), gap_buckets(gaps))
