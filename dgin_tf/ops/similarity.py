"""Similarity of vectors (ENCODE, Zhou et al., 2024): Eqs. (9), (11), and the scaled dot product.

ENCODE compares by one metric from end to end: the distance of Eq. (11) in the loss of its dimension
reduction and in clustering, the similarity of Eq. (9), which is made of it, in both attentions.
"""

from typing import NamedTuple

import tensorflow as tf

COSINE, PRINTED, DOT = "cosine", "printed", "dot"
METRICS = (COSINE, PRINTED, DOT)
_TINY = 1e-24


def normalize(vectors: tf.Tensor) -> tf.Tensor:
    """v / ||v|| along the last axis, zero for zero, there with a gradient of zero too."""
    return vectors * inverse_length(vectors)[..., tf.newaxis]


def inverse_length(vectors: tf.Tensor) -> tf.Tensor:
    """1 / ||v|| along the last axis, zero for zero, there with a gradient of zero too."""
    squares = tf.reduce_sum(tf.square(vectors), -1)
    some = squares > _TINY
    return tf.where(some, tf.math.rsqrt(tf.where(some, squares, 1.0)), 0.0)


def cosine_distance(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Eq. (11): dis(x, y) = 1 - cos(x, y), and 1 where either is zero.

    Args:
      left, right: [..., dim]; they broadcast against each other.

    Returns:
      [...], in [0, 2].
    """
    return 1.0 - tf.reduce_sum(normalize(left) * normalize(right), -1)


class Relevance(NamedTuple):
    """The similarity of ENCODE's attentions.

    Attributes:
      metric: "cosine", the cosine times beta; "printed", the cosine divided by it, as Eq. (9) stands:
        with the paper's beta of 20 weights then differ by a tenth at most, which its own tables exclude
        (BUILD_NOTES.md); or "dot", x . y / sqrt(dim), which makes ENCODE- of ENCODE.
      beta: the scaling factor of Eq. (9), inverse temperature of the softmax; without a part in "dot".
    """

    metric: str = COSINE
    beta: float = 20.0

    def check(self) -> "Relevance":
        """Itself; raises ValueError where the metric is unknown or beta not above zero."""
        if self.metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}; got {self.metric!r}.")
        if self.beta <= 0:
            raise ValueError(f"beta must be above 0; got {self.beta}.")
        return self

    def between(self, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        """Similarities [...] of vectors [..., dim] side by side."""
        left, right = self._prepared(left), self._prepared(right)
        return self._scale(left) * tf.reduce_sum(left * right, -1)

    def pairwise(self, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        """Similarities [..., n, m] of all pairs of [..., n, dim] and [..., m, dim]."""
        left, right = self._prepared(left), self._prepared(right)
        return self._scale(left) * tf.matmul(left, right, transpose_b=True)

    def _prepared(self, vectors: tf.Tensor) -> tf.Tensor:
        return vectors if self.metric == DOT else normalize(vectors)

    def _scale(self, vectors: tf.Tensor) -> float:
        if self.metric == DOT:
            return vectors.shape[-1] ** -0.5
        return self.beta if self.metric == COSINE else 1.0 / self.beta
