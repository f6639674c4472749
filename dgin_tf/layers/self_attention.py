"""Multi-head self-attention over sets of events, and the encoder made of it (DGIN, Eqs. 4, 5, 8)."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import KernelLayer
from dgin_tf.layers.multi_head_attention import head_kernel
from dgin_tf.layers.normalization import LayerNorm
from dgin_tf.ops.fast.self_attention import self_attention
from dgin_tf.ops.self_attention import AttentionKernels


class MultiHeadSelfAttention(KernelLayer):
    """Eqs. (4), (5): concat(head_1, ..., head_h) W_O, without positions; see `ops.self_attention`.

    Args:
      heads: h; the width d' of a head is that of an event over h, rounded up.
      kernel_initializer, kernel_regularizer: of all four kernels.

    Raises:
      ValueError: `heads` is below 1.

    Example:

      >>> layer = MultiHeadSelfAttention(heads=2)
      >>> layer(tf.random.normal([2, 5, 8]), tf.ones([2, 5], tf.bool)).shape
      TensorShape([2, 5, 8])
    """

    def __init__(self, heads: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        if heads < 1:
            raise ValueError(f"heads must be at least 1; got {heads}.")
        self.heads = heads

    def build(self, input_shape: Any) -> None:
        dim = tf.TensorShape(input_shape)[-1]
        shape = [dim, self.heads * -(-dim // self.heads)]
        # All four lie alike, the output's transposed.
        self._kernels = [
            self.add_kernel(f"{name}_kernel", shape) for name in AttentionKernels._fields
        ]
        super().build(input_shape)

    @property
    def kernels(self) -> AttentionKernels:
        """The weights, one matrix a head."""
        return AttentionKernels(
            *(head_kernel(kernel, self.heads, self.compute_dtype) for kernel in self._kernels)
        )

    def call(self, events: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Refines every event by all of its set.

        Args:
          events: [..., time, dim].
          mask: True where the event is real, bool [..., time].

        Returns:
          [..., time, dim]; zero in sets without events, and of no meaning for other padding.
        """
        return self_attention(tf.cast(events, self.compute_dtype), mask, self.kernels)


class ResidualFeedForward(KernelLayer):
    """LN(x + FFN(x)), the second half of each stage of Eq. (8).

    The paper does not say how wide FFN is: here two layers, four times as wide in between, ReLU.

    Args:
      expansion: width between the layers over that of the inputs.
      kernel_initializer, kernel_regularizer: of all dense layers.

    Example:

      >>> ResidualFeedForward()(tf.random.normal([2, 5, 8])).shape
      TensorShape([2, 5, 8])
    """

    def __init__(self, expansion: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        self.expansion = expansion
        self.norm = LayerNorm(name="norm", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        dim = tf.TensorShape(input_shape)[-1]
        self.hidden = tf.keras.layers.Dense(
            self.expansion * dim,
            "relu",
            name="hidden",
            dtype=self.dtype_policy,
            **self.kernel_config,
        )
        self.output_layer = tf.keras.layers.Dense(
            dim, name="output", dtype=self.dtype_policy, **self.kernel_config
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """[..., dim] -> [..., dim]."""
        return self.norm(inputs + self.output_layer(self.hidden(inputs)))


class SelfAttentionEncoder(KernelLayer):
    """Eq. (8), the first two lines: LN(e + MHSA(e)), then LN(a + FFN(a)).

    Args:
      heads: of the self-attention.
      kernel_initializer, kernel_regularizer: of all kernels.

    Example:

      >>> layer = SelfAttentionEncoder(heads=2)
      >>> layer(tf.random.normal([2, 5, 8]), tf.ones([2, 5], tf.bool)).shape
      TensorShape([2, 5, 8])
    """

    def __init__(self, heads: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = heads
        policy = self.dtype_policy
        self.attention = MultiHeadSelfAttention(
            heads, name="attention", dtype=policy, **self.kernel_config
        )
        self.norm = LayerNorm(name="norm", dtype=policy)
        self.feed_forward = ResidualFeedForward(
            name="feed_forward", dtype=policy, **self.kernel_config
        )

    def call(self, events: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Events [..., time, dim] and their mask [..., time] -> [..., time, dim]."""
        return self.feed_forward(self.norm(events + self.attention(events, mask)))
