"""Self-attention over many small sets: `ops.self_attention` in fewer and larger products.

Most groups of events have one to three of them. Products are therefore reordered so that what is done
for an event of a set is small: W_Q W_K^T and W_V W_O are multiplied first, and Eq. (6) takes the mean
of the weights before events are summed, mean_i sum_j a_ij W e_j = W sum_j (mean_i a_ij) e_j. Where
events are of few classes, such as ages in buckets, `ops.fast.class_attention` looks pairs up.

Together with sets by size (`ops.fast.sets`) this took attr_a of a training step over lifelong histories
from 456 to 141 CPU ms, and classes the step from 2,592 to 1,325 (AMD EPYC; BUILD_NOTES.md).
"""

import tensorflow as tf

from dgin_tf.ops.fast.class_attention import mean_weights, weighted_sums
from dgin_tf.ops.masking import accumulation_dtype, masked_softmax
from dgin_tf.ops.multi_head import mix_heads
from dgin_tf.ops.self_attention import AttentionKernels
from dgin_tf.ops.tables import read_few


def self_attention(events: tf.Tensor, mask: tf.Tensor, kernels: AttentionKernels) -> tf.Tensor:
    """Eqs. (4), (5), see `ops.self_attention.self_attention`."""
    weights = masked_softmax(_scores(events, kernels), mask[..., tf.newaxis, tf.newaxis, :])
    shape = tf.shape(weights)
    # The sums of all heads are one product a set: [..., events * heads, events] times the events.
    rows = tf.concat([shape[:-3], [shape[-3] * shape[-2], shape[-1]]], axis=0)
    sums = tf.matmul(tf.reshape(tf.cast(weights, events.dtype), rows), events)
    heads = tf.concat([tf.shape(events)[:-1], [shape[-2], events.shape[-1]]], axis=0)
    return mix_heads(tf.reshape(sums, heads), kernels.value, kernels.output)


def mean_self_attention(events: tf.Tensor, mask: tf.Tensor, kernels: AttentionKernels) -> tf.Tensor:
    """Eq. (6), see `ops.self_attention.mean_self_attention`."""
    if events.shape[-2] == 1:
        mean = _lone_weights(kernels) * tf.cast(mask, events.dtype)[..., tf.newaxis, :]
    else:
        weights = masked_softmax(_scores(events, kernels), mask[..., tf.newaxis, tf.newaxis, :])
        is_event = tf.cast(mask, weights.dtype)[..., tf.newaxis, tf.newaxis]
        count = tf.maximum(tf.reduce_sum(is_event, axis=-3), 1.0)
        mean = tf.reduce_sum(weights * is_event, axis=-3) / count  # [..., heads, events]
    heads = tf.matmul(tf.cast(mean, events.dtype), events)
    return mix_heads(heads, kernels.value, kernels.output)


def mean_self_attention_of_classes(
    table: tf.Tensor, classes: tf.Tensor, mask: tf.Tensor, kernels: AttentionKernels
) -> tf.Tensor:
    """`mean_self_attention` of the events table[classes], one event of a class being as any other.

    Args:
      table: e_b of each class, [classes, dim].
      classes: int32 [sets, events]; of any class where masked.
      mask: bool [sets, events].
      kernels: of all heads.

    Returns:
      [sets, dim].
    """
    if classes.shape[-1] == 1:
        heads = _lone_weights(kernels) * table[:, tf.newaxis]  # [classes, heads, dim]
        rows = mix_heads(heads, kernels.value, kernels.output)
        # A row of zeros behind the classes: ids are cheaper to mask than what they stand for.
        classes = tf.where(mask[:, 0], classes[:, 0], table.shape[0])
        return read_few(tf.pad(rows, [[0, 1], [0, 0]]), classes)
    scores = tf.transpose(_scores(table, kernels), [2, 0, 1])  # [classes j, classes i, heads]
    weights = mean_weights(scores, classes, mask)
    heads = weighted_sums(tf.cast(weights, table.dtype), classes, table)
    return mix_heads(heads, kernels.value, kernels.output)


def _scores(events: tf.Tensor, kernels: AttentionKernels) -> tf.Tensor:
    """e W_Q (e W_K)^T / sqrt(d') of each head, [..., queries, heads, events]."""
    dim, heads, units = kernels.query.shape
    # One large product, and then one small product a set without a transposition.
    both = tf.reshape(tf.einsum("dhk,ehk->dhe", kernels.query, kernels.key), [dim, heads * dim])
    shape = tf.shape(events)
    rows = tf.matmul(tf.reshape(events, [-1, dim]), both)
    rows = tf.reshape(rows, tf.concat([shape[:-2], [shape[-2] * heads, dim]], axis=0))
    scores = tf.matmul(rows, events, transpose_b=True)
    scores = tf.cast(scores, accumulation_dtype(scores.dtype)) / units**0.5
    return tf.reshape(scores, tf.concat([shape[:-1], [heads, shape[-2]]], axis=0))


def _lone_weights(kernels: AttentionKernels) -> tf.Tensor:
    """Weights [heads, 1] of an event that is alone in its set: all of it, whatever it is compared with."""
    # Adding nothing of W_Q and W_K gives these a gradient, of zero, where all sets are of one event.
    nothing = 0.0 * (tf.reduce_sum(kernels.query) + tf.reduce_sum(kernels.key))
    return nothing + tf.ones([kernels.query.shape[1], 1], kernels.query.dtype)
