"""What a session was about: DSIN's session interest extractor (Feng et al., 2019), Eqs. (4)-(6).

Every head attends within its own slice of the channels. The authors' code differs; it is
`ReleasedSessionTransformer`.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.normalization import LayerNorm
from dgin_tf.layers.self_attention import ResidualFeedForward
from dgin_tf.ops import masking

_BLIND = -(2.0**32) + 1  # what the released code has for minus infinity


def by_head(rows: tf.Tensor, heads: int) -> tf.Tensor:
    """[sets, time, dim] -> [sets, heads, time, dim / heads]: every head has its slice of channels."""
    sets, time = tf.unstack(tf.shape(rows)[:2])
    split = tf.reshape(rows, [sets, time, heads, rows.shape[-1] // heads])
    return tf.transpose(split, [0, 2, 1, 3])


def side_by_side(rows: tf.Tensor) -> tf.Tensor:
    """[sets, heads, time, units] -> [sets, time, heads * units]."""
    heads, units = rows.shape[1], rows.shape[3]
    rows = tf.transpose(rows, [0, 2, 1, 3])
    return tf.reshape(rows, [*tf.unstack(tf.shape(rows)[:2]), heads * units])


def block_diagonal(kernels: tf.Tensor) -> tf.Tensor:
    """Kernels of slices [heads, units, units] as one, [heads * units, heads * units].

    One product with it is faster than one a head, and so is its gradient.
    """
    heads, units, _ = kernels.shape
    own = tf.eye(heads, dtype=kernels.dtype)[:, tf.newaxis, :, tf.newaxis]
    return tf.reshape(kernels[:, :, tf.newaxis] * own, [heads * units, heads * units])


@tf.keras.utils.register_keras_serializable("dgin_tf")
class SessionTransformer(tf.keras.layers.Layer):
    """Eqs. (4)-(6): self-attention within every session, feed-forward, and the mean over its events.

    The paper names residual connections and layer normalization without printing them: here, as in
    the transformer, LN(Q + attention) and then LN(x + FFN(x)). Its W^Q, W^K and W^V have no index of
    a head; here each head has its own.

    Args:
      heads: H; must divide the width of an event.
      scale_by_head: whether scores are divided by the root of a head's width, as in the released
        code, rather than by that of d_model.

    Raises:
      ValueError: `heads` is below 1 or does not divide the width.
    """

    reads_padding = False

    def __init__(self, heads: int = 2, scale_by_head: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        _check_heads(heads)
        self.heads = heads
        self.scale_by_head = scale_by_head
        policy = self.dtype_policy
        self.norm = LayerNorm(name="norm", dtype=policy)
        self.feed_forward = ResidualFeedForward(name="feed_forward", dtype=policy)

    def build(self, input_shape: Any) -> None:
        dim = tf.TensorShape(input_shape)[-1]
        units = _units(dim, self.heads)
        # The rows of a head are its kernel.
        self.kernels = [self.add_weight(name, [dim, units]) for name in ("query", "key", "value")]
        self.output_kernel = self.add_weight("output", [dim, dim])
        super().build(input_shape)

    def call(self, sessions: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Reads sessions.

        Args:
          sessions: Q_k, [users, sessions, time, dim].
          mask: True where the event is real, bool [users, sessions, time].

        Returns:
          I_k, [users, sessions, dim]; zero for a session without events.
        """
        time, dim = sessions.shape[-2:]
        units = dim // self.heads
        rows, real = tf.reshape(sessions, [-1, time, dim]), tf.reshape(mask, [-1, time])
        shape = [self.heads, units, units]
        joined = tf.concat(
            [block_diagonal(tf.reshape(kernel, shape)) for kernel in self.kernels], axis=1
        )
        projected = tf.split(tf.tensordot(rows, joined, 1), 3, axis=-1)
        query, key, value = (by_head(part, self.heads) for part in projected)
        scores = tf.matmul(query, key, transpose_b=True)
        scores = tf.cast(scores, masking.accumulation_dtype(scores.dtype))
        scores /= tf.sqrt(float(units if self.scale_by_head else dim))
        weights = masking.masked_softmax(scores, real[:, tf.newaxis, tf.newaxis])
        heads = side_by_side(tf.matmul(tf.cast(weights, value.dtype), value))
        attended = self.norm(rows + tf.tensordot(heads, self.output_kernel, 1))
        interest = masking.masked_mean(self.feed_forward(attended), real)  # Eq. (6)
        return tf.reshape(interest, [*tf.unstack(tf.shape(sessions)[:2]), dim])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "heads": self.heads,
            "scale_by_head": self.scale_by_head,
        }


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ReleasedSessionTransformer(tf.keras.layers.Layer):
    """The transformer of the authors' code (shenweichen/DSIN).

    Heads are slices of projections of all channels, without an output projection and biases; an event
    does not see itself, so that one alone attends to all padding alike; the mean is over padding too.

    Args:
      heads: how many; must divide the width of an event.
      blinding: whether an event does not see itself.
      positions: whether learned positions are added, in the place of the bias encoding; keys and
        queries have a table each.
      layer_norm: whether there is layer normalization, one for both places; not in the published
        model.

    Raises:
      ValueError: `heads` is below 1 or does not divide the width.
    """

    reads_padding = True

    def __init__(
        self,
        heads: int = 2,
        blinding: bool = True,
        positions: bool = False,
        layer_norm: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _check_heads(heads)
        self.heads = heads
        self.blinding = blinding
        self.positions = positions
        self.layer_norm = layer_norm
        self.norm = None
        if layer_norm:
            self.norm = LayerNorm(epsilon=1e-9, name="norm", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        time, dim = tf.TensorShape(input_shape)[-2:]
        _units(dim, self.heads)
        self.kernels = [self.add_weight(name, [dim, dim]) for name in ("query", "key", "value")]
        self.hidden = self.add_weight("hidden", [dim, 4 * dim])
        self.output_kernel = self.add_weight("output", [4 * dim, dim])
        if self.positions:
            self.tables = [
                self.add_weight(f"{name}_positions", [time, dim]) for name in ("query", "key")
            ]
        super().build(input_shape)

    def call(self, sessions: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Reads sessions.

        Args:
          sessions: [users, sessions, time, dim], with the embedding of padding where there is none.
          mask: True where the event is real, bool [users, sessions, time].

        Returns:
          [users, sessions, dim].
        """
        time, dim = sessions.shape[-2:]
        rows = tf.reshape(sessions, [-1, time, dim])
        refined = self.refine(rows, tf.reshape(mask, [-1, time]))
        mean = tf.reduce_mean(refined, axis=1)
        return tf.reshape(mean, [*tf.unstack(tf.shape(sessions)[:2]), dim])

    def refine(self, rows: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """The events [sets, time, dim] with the mask [sets, time] before the mean, of that shape."""
        asking = asked = rows
        if self.positions:
            scale = rows.shape[-1] ** 0.5
            asking, asked = (rows + scale * table for table in self.tables)
        query, key, value = (
            by_head(tf.tensordot(part, kernel, 1), self.heads)
            for part, kernel in zip((asking, asked, asked), self.kernels, strict=True)
        )
        scores = tf.matmul(query, key, transpose_b=True)
        scores = tf.cast(scores, masking.accumulation_dtype(scores.dtype))
        scores /= tf.sqrt(float(query.shape[-1]))
        seen = mask[:, tf.newaxis, tf.newaxis]
        if self.blinding:
            seen &= ~tf.eye(rows.shape[1], dtype=tf.bool)
        weights = tf.nn.softmax(tf.where(seen, scores, _BLIND))
        weights *= tf.cast(mask[:, tf.newaxis, :, tf.newaxis], weights.dtype)
        refined = asking + side_by_side(tf.matmul(tf.cast(weights, value.dtype), value))
        refined = self._normalized(refined)
        hidden = tf.nn.relu(tf.tensordot(refined, self.hidden, 1))
        return self._normalized(refined + tf.tensordot(hidden, self.output_kernel, 1))

    def _normalized(self, rows):
        return rows if self.norm is None else self.norm(rows)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "heads": self.heads,
            "blinding": self.blinding,
            "positions": self.positions,
            "layer_norm": self.layer_norm,
        }


def _check_heads(heads: int) -> None:
    if heads < 1:
        raise ValueError(f"heads must be at least 1; got {heads}.")


def _units(dim: int, heads: int) -> int:
    if dim % heads:
        raise ValueError(
            f"heads are slices of an event and must divide its width, {dim}; got {heads} heads."
        )
    return dim // heads
