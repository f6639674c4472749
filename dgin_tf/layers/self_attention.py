"""Multi-head self-attention over sets of events, and the encoder made of it (DGIN, Eqs. 4-6, 8)."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.multi_head_attention import HeadKernels
from dgin_tf.ops import masking


def self_attention_weights(queries: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Eq. (5): softmax(Q K^T / sqrt(d')) of each head.

    Args:
      queries: e W_Q, [sets, time, heads, units].
      keys: e W_K, [sets, time, heads, units].
      mask: True where the event is real, bool [sets, time].

    Returns:
      What each event pays to the others, float32 [sets, heads, time, time]; zero towards padding.
    """
    scores = tf.einsum("sqhk,sthk->shqt", queries, keys)
    scores = tf.cast(scores, masking.accumulation_dtype(scores.dtype))
    scores /= tf.sqrt(float(queries.shape[-1]))
    return masking.masked_softmax(scores, mask[:, tf.newaxis, tf.newaxis])


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
        rows = _as_sets(tf.cast(events, self.compute_dtype))
        weights = tf.cast(self._weights(rows, mask), rows.dtype)
        heads = tf.einsum("shqt,std->sqhd", weights, rows)
        return tf.reshape(self._project(heads, rows), tf.shape(events))

    def mean(self, events: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Eq. (6): the mean of `call` over the real events, [..., dim], zero where there are none.

        W_V and W_O are linear, so that they are applied to the mean and never to an event.
        """
        rows = _as_sets(tf.cast(events, self.compute_dtype))
        weights = self._weights(rows, mask)
        real = tf.reshape(mask, [-1, 1, tf.shape(mask)[-1]])
        paid = tf.cast(masking.masked_mean(weights, real), rows.dtype)
        heads = tf.matmul(paid, rows)[:, tf.newaxis]
        shape = tf.concat([tf.shape(events)[:-2], [events.shape[-1]]], axis=0)
        return tf.ensure_shape(
            tf.reshape(self._project(heads, rows), shape), events.shape[:-2] + events.shape[-1:]
        )

    def _weights(self, rows, mask):
        mask = tf.reshape(mask, [-1, tf.shape(mask)[-1]])
        queries = tf.einsum("std,dhk->sthk", rows, self.query_kernels(rows))
        keys = tf.einsum("std,dhk->sthk", rows, self.key_kernels(rows))
        return self_attention_weights(queries, keys, mask)

    def _project(self, heads, rows):
        """W_V and W_O of sums of events by head, [sets, queries, heads, dim]."""
        values = tf.einsum("sqhd,dhk->sqhk", heads, self.value_kernels(rows))
        return tf.einsum("sqhk,dhk->sqd", values, self.output_kernels(rows))

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
        self.norm = tf.keras.layers.LayerNormalization(name="norm", dtype=self.dtype_policy)

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
        self.norm = tf.keras.layers.LayerNormalization(name="norm", dtype=policy)
        self.feed_forward = ResidualFeedForward(name="feed_forward", dtype=policy)

    def call(self, events: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Events [..., time, dim] and their mask [..., time] -> [..., time, dim]."""
        return self.feed_forward(self.norm(events + self.attention(events, mask)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


def _as_sets(events: tf.Tensor) -> tf.Tensor:
    """[..., time, dim] -> [sets, time, dim]."""
    return tf.reshape(events, [-1, tf.shape(events)[-2], events.shape[-1]])
