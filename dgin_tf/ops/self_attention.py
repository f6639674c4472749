"""Multi-head self-attention over sets of events (DGIN, Liu et al., 2023, Eqs. 4 to 6).

The equations as the paper has them. `ops.fast.self_attention` gives the same numbers sooner.
"""

from typing import NamedTuple

import tensorflow as tf

from dgin_tf.ops.masking import accumulation_dtype, masked_mean, masked_softmax


class AttentionKernels(NamedTuple):
    """W_Q, W_K, W_V and, transposed, W_O of all heads, each [dim, heads, units]."""

    query: tf.Tensor
    key: tf.Tensor
    value: tf.Tensor
    output: tf.Tensor


def self_attention(events: tf.Tensor, mask: tf.Tensor, kernels: AttentionKernels) -> tf.Tensor:
    """Eqs. (4), (5): concat(head_1, ..., head_h) W_O, of every event over all of its set.

    Args:
      events: e_b, [..., events, dim].
      mask: True where the event is real, bool [..., events].
      kernels: of all heads.

    Returns:
      [..., events, dim]; zero in sets without events, and of no meaning for other padding.
    """
    queries, keys, values = (
        tf.einsum("...td,dhk->...htk", events, kernel) for kernel in kernels[:3]
    )
    scores = tf.matmul(queries, keys, transpose_b=True)  # [..., heads, events, events]
    scores = tf.cast(scores, accumulation_dtype(scores.dtype))
    scores /= tf.sqrt(tf.cast(kernels.query.shape[-1], scores.dtype))
    weights = masked_softmax(scores, mask[..., tf.newaxis, tf.newaxis, :])
    heads = tf.matmul(
        tf.cast(weights, values.dtype), values
    )  # Eq. (5), [..., heads, events, units]
    return tf.einsum("...htk,dhk->...td", heads, kernels.output)  # Eq. (4)


def mean_self_attention(events: tf.Tensor, mask: tf.Tensor, kernels: AttentionKernels) -> tf.Tensor:
    """Eq. (6): the mean over a set's real events of `self_attention`, [..., dim]; zero without events."""
    return masked_mean(self_attention(events, mask, kernels), mask)
