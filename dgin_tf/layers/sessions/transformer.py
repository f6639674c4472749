"""Session interest extractor of DSIN (Feng et al., 2019), Eqs. (4)-(6).

Every head attends within its own slice of the channels.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import KernelLayer
from dgin_tf.layers.normalization import LayerNorm
from dgin_tf.layers.self_attention import ResidualFeedForward
from dgin_tf.ops import masking


def by_head(rows: tf.Tensor, heads: int) -> tf.Tensor:
    """Splits the channels into heads, [sets, time, dim] -> [sets, heads, time, dim / heads]."""
    sets, time = tf.unstack(tf.shape(rows)[:2])
    split = tf.reshape(rows, [sets, time, heads, rows.shape[-1] // heads])
    return tf.transpose(split, [0, 2, 1, 3])


def side_by_side(rows: tf.Tensor) -> tf.Tensor:
    """Concatenates the heads, [sets, heads, time, units] -> [sets, time, heads * units]."""
    heads, units = rows.shape[1], rows.shape[3]
    rows = tf.transpose(rows, [0, 2, 1, 3])
    return tf.reshape(rows, [*tf.unstack(tf.shape(rows)[:2]), heads * units])


def block_diagonal(kernels: tf.Tensor) -> tf.Tensor:
    """Block-diagonal matrix of the heads' kernels, [heads, units, units] -> [dim, dim].

    One product with it is faster than one per head, and so is its gradient.
    """
    heads, units, _ = kernels.shape
    # [heads, 1, heads, 1]: one where row block and column block belong to the same head.
    own = tf.eye(heads, dtype=kernels.dtype)[:, tf.newaxis, :, tf.newaxis]
    return tf.reshape(kernels[:, :, tf.newaxis] * own, [heads * units, heads * units])


class SessionTransformer(KernelLayer):
    """Eqs. (4)-(6): self-attention within every session, feed-forward, and the mean over its events.

    The paper names residual connections and layer normalization without printing them: here, as in
    the transformer, LN(Q + attention) and then LN(x + FFN(x)). Its W^Q, W^K and W^V have no index of
    a head; here each head has its own.

    Args:
      heads: H; must divide the width of an event.
      scale_by_head: whether scores are divided by the root of a head's width, as in the authors'
        code, rather than by that of d_model.
      kernel_initializer, kernel_regularizer: of all kernels.

    Raises:
      ValueError: `heads` is below 1 or does not divide the width.

    Example:

      >>> sessions, lengths = tf.random.normal([2, 3, 5, 4]), tf.constant([[5, 1, 2], [3, 0, 0]])
      >>> SessionTransformer(heads=2)(sessions, tf.sequence_mask(lengths, 5)).shape
      TensorShape([2, 3, 4])
    """

    def __init__(self, heads: int = 2, scale_by_head: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        if heads < 1:
            raise ValueError(f"heads must be at least 1; got {heads}.")
        self.heads = heads
        self.scale_by_head = scale_by_head
        policy = self.dtype_policy
        self.norm = LayerNorm(name="norm", dtype=policy)
        self.feed_forward = ResidualFeedForward(
            name="feed_forward", dtype=policy, **self.kernel_config
        )

    def build(self, input_shape: Any) -> None:
        dim = tf.TensorShape(input_shape)[-1]
        units = head_width(dim, self.heads)
        # A kernel's row blocks are the heads' own [units, units] kernels, one below the other. Scores
        # do not start as a similarity: within a session, beside the residual, that gains nothing.
        self.kernels = [self.add_kernel(name, [dim, units]) for name in ("query", "key", "value")]
        self.output_kernel = self.add_kernel("output_kernel", [dim, dim])
        super().build(input_shape)

    def call(self, sessions: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Extracts the interest of every session.

        Args:
          sessions: Q_k, [users, sessions, time, dim].
          mask: True where the event is real, bool [users, sessions, time]; None where all are.

        Returns:
          I_k, [users, sessions, dim]; zero for a session without events.
        """
        time, dim = sessions.shape[-2:]
        units = dim // self.heads
        if mask is None:
            mask = tf.ones(tf.shape(sessions)[:3], tf.bool)
        # Sessions of all users in one batch: [users * sessions, time, dim].
        rows, mask = tf.reshape(sessions, [-1, time, dim]), tf.reshape(mask, [-1, time])
        shape = [self.heads, units, units]
        kernels = tf.concat(
            [block_diagonal(tf.reshape(kernel, shape)) for kernel in self.kernels], axis=1
        )
        projections = tf.split(tf.tensordot(rows, kernels, 1), 3, axis=-1)
        query, key, value = (by_head(part, self.heads) for part in projections)
        # [users * sessions, heads, time, time]
        scores = tf.matmul(query, key, transpose_b=True)
        scores = tf.cast(scores, masking.accumulation_dtype(scores.dtype))
        scores /= (units if self.scale_by_head else dim) ** 0.5
        weights = masking.masked_softmax(scores, mask[:, tf.newaxis, tf.newaxis])  # Eq. (4)
        heads = side_by_side(tf.matmul(tf.cast(weights, value.dtype), value))
        hidden = self.norm(rows + tf.tensordot(heads, self.output_kernel, 1))
        interest = masking.masked_mean(self.feed_forward(hidden), mask)  # Eqs. (5), (6)
        return tf.reshape(interest, [*tf.unstack(tf.shape(sessions)[:2]), dim])


def head_width(dim: int, heads: int) -> int:
    """Channels of one head; raises ValueError where they cannot be split evenly."""
    if dim % heads:
        raise ValueError(
            f"heads are slices of an event and must divide its width, {dim}; got {heads} heads."
        )
    return dim // heads
