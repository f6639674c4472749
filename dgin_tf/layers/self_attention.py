"""Multi-head self-attention over sets of events, and the encoder made of it (DGIN, Eqs. 4-6, 8)."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.multi_head_attention import HeadKernels, mix_heads
from dgin_tf.layers.normalization import LayerNorm
from dgin_tf.ops import masking
from dgin_tf.ops.class_attention import mean_weights, weighted_sums


def self_attention_scores(
    asking: tf.Tensor, asked: tf.Tensor, query_kernel: tf.Tensor, key_kernel: tf.Tensor
) -> tf.Tensor:
    """Eq. (5) before its softmax: e W_Q (e W_K)^T / sqrt(d') of each head.

    Sets are small and many, so that W_Q W_K^T is multiplied first: one large product, and one small
    product a set without a transposition.

    Args:
      asking: events e, [..., queries, dim].
      asked: events that they attend to, [..., time, dim].
      query_kernel, key_kernel: [dim, heads, units].

    Returns:
      float32 [..., queries, heads, time].
    """
    dim, heads, units = query_kernel.shape
    both = tf.reshape(tf.einsum("dhk,ehk->dhe", query_kernel, key_kernel), [dim, heads * dim])
    shape = tf.shape(asking)
    rows = tf.matmul(tf.reshape(asking, [-1, dim]), both)
    rows = tf.reshape(rows, tf.concat([shape[:-2], [shape[-2] * heads, dim]], axis=0))
    scores = tf.matmul(rows, asked, transpose_b=True)
    scores = tf.cast(scores, masking.accumulation_dtype(scores.dtype)) / tf.sqrt(float(units))
    by_head = tf.concat([shape[:-1], [heads, tf.shape(asked)[-2]]], axis=0)
    return tf.reshape(scores, by_head)


def self_attention_weights(
    asking: tf.Tensor,
    asked: tf.Tensor,
    mask: tf.Tensor,
    query_kernel: tf.Tensor,
    key_kernel: tf.Tensor,
) -> tf.Tensor:
    """Eq. (5)'s softmax of `self_attention_scores`.

    Args:
      asking, asked, query_kernel, key_kernel: see there.
      mask: True where one may attend to the other, bool, broadcastable to [..., queries, time].

    Returns:
      What each event pays to the others, float32 [..., queries, heads, time]; zero where masked.
    """
    scores = self_attention_scores(asking, asked, query_kernel, key_kernel)
    return masking.masked_softmax(scores, mask[..., tf.newaxis, :])


def _by_head(weights: tf.Tensor) -> tf.Tensor:
    """[..., queries, heads, time] -> [..., queries * heads, time]."""
    shape = tf.shape(weights)
    return tf.reshape(weights, tf.concat([shape[:-3], [shape[-3] * shape[-2], shape[-1]]], axis=0))


@tf.keras.utils.register_keras_serializable("dgin_tf")
class MultiHeadSelfAttention(tf.keras.layers.Layer):
    """Eqs. (4), (5): concat(head_1, ..., head_h) W_O, without positions.

    Args:
      heads: h; the width d' of a head is that of an event over h, rounded up.

    Raises:
      ValueError: `heads` is below 1.
    """

    def __init__(self, heads: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        if heads < 1:
            raise ValueError(f"heads must be at least 1; got {heads}.")
        self.heads = heads

        def kernels(name: str) -> HeadKernels:
            return HeadKernels(heads, name=name, dtype=self.dtype_policy)

        self.query_kernels, self.key_kernels = kernels("query"), kernels("key")
        # The output's are kept transposed, [dim, heads * units], like the other three.
        self.value_kernels, self.output_kernels = kernels("value"), kernels("output")

    def call(self, events: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """What every event learns from all of its set.

        Args:
          events: [..., time, dim].
          mask: True where the event is real, bool [..., time].

        Returns:
          [..., time, dim]; zero in sets without events, and of no meaning for other padding.
        """
        rows = tf.cast(events, self.compute_dtype)
        kernels = self.query_kernels(rows), self.key_kernels(rows)
        weights = self_attention_weights(rows, rows, mask[..., tf.newaxis, :], *kernels)
        heads = tf.matmul(_by_head(tf.cast(weights, rows.dtype)), rows)
        by_event = tf.concat([tf.shape(rows)[:-1], [self.heads, rows.shape[-1]]], axis=0)
        return self._project(tf.reshape(heads, by_event), rows)

    def mean_of_sets(self, events: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Eq. (6): the mean of `call` over the real events of each of many small sets.

        mean_i sum_j a_ij W e_j = W sum_j (mean_i a_ij) e_j: the mean is taken of the weights, so that
        a set is one weighted sum a head, and W_V and W_O are applied to that alone.

        Args:
          events: [..., time, dim].
          mask: True where the event is real, bool [..., time].

        Returns:
          [..., dim]; zero for sets without events.
        """
        rows = tf.cast(events, self.compute_dtype)
        kernels = self.query_kernels(rows), self.key_kernels(rows)
        weights = self_attention_weights(rows, rows, mask[..., tf.newaxis, :], *kernels)
        asks = tf.cast(mask, weights.dtype)[..., tf.newaxis, tf.newaxis]
        count = tf.maximum(tf.reduce_sum(asks, axis=-3), 1.0)
        mean = tf.cast(tf.reduce_sum(weights * asks, axis=-3) / count, rows.dtype)
        return self._project(tf.matmul(mean, rows), rows)

    def mean_of_class_sets(
        self, table: tf.Tensor, classes: tf.Tensor, mask: tf.Tensor
    ) -> tf.Tensor:
        """`mean_of_sets` of events table[classes], of which one class is as another event of it.

        Args:
          table: what an event of each class is, [classes, dim].
          classes: int32 [sets, time]; of any class where masked.
          mask: bool [sets, time].

        Returns:
          [sets, dim]; zero for sets without events.
        """
        rows = tf.cast(table, self.compute_dtype)
        scores = self_attention_scores(rows, rows, self.query_kernels(rows), self.key_kernels(rows))
        weights = mean_weights(tf.transpose(scores, [2, 0, 1]), classes, mask)
        return self._project(weighted_sums(tf.cast(weights, rows.dtype), classes, rows), rows)

    def of_lone_events(self, events: tf.Tensor) -> tf.Tensor:
        """`mean_of_sets` of sets of one event each, which has all of its weight, whatever it asks.

        Args:
          events: [..., dim].

        Returns:
          [..., dim].
        """
        rows = tf.cast(events, self.compute_dtype)
        # Made here too, so that weights start alike whichever sets come first.
        self.query_kernels(rows), self.key_kernels(rows)
        heads = tf.repeat(rows[..., tf.newaxis, :], self.heads, axis=-2)
        return self._project(heads, rows)

    def _project(self, heads, rows):
        return mix_heads(heads, self.value_kernels(rows), self.output_kernels(rows))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ResidualFeedForward(tf.keras.layers.Layer):
    """LN(x + FFN(x)), the second half of each stage of Eq. (8).

    The paper does not say how wide FFN is: here two layers, four times as wide in between, ReLU.

    Args:
      expansion: width between the layers over that of the inputs.
    """

    def __init__(self, expansion: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        self.expansion = expansion
        self.norm = LayerNorm(name="norm", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        dim = tf.TensorShape(input_shape)[-1]
        policy = self.dtype_policy
        self.hidden = tf.keras.layers.Dense(
            self.expansion * dim, "relu", name="hidden", dtype=policy
        )
        self.output_layer = tf.keras.layers.Dense(dim, name="output", dtype=policy)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """[..., dim] -> [..., dim]."""
        return self.norm(inputs + self.output_layer(self.hidden(inputs)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "expansion": self.expansion}


@tf.keras.utils.register_keras_serializable("dgin_tf")
class SelfAttentionEncoder(tf.keras.layers.Layer):
    """Eq. (8), the first two lines: LN(e + MHSA(e)), then LN(a + FFN(a)).

    Args:
      heads: of the self-attention.
    """

    def __init__(self, heads: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = heads
        policy = self.dtype_policy
        self.attention = MultiHeadSelfAttention(heads, name="attention", dtype=policy)
        self.norm = LayerNorm(name="norm", dtype=policy)
        self.feed_forward = ResidualFeedForward(name="feed_forward", dtype=policy)

    def call(self, events: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Events [..., time, dim] and their mask [..., time] -> [..., time, dim]."""
        return self.feed_forward(self.norm(events + self.attention(events, mask)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}
