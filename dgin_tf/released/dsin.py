"""DSIN as in the authors' code (shenweichen/DSIN): its own transformer, and padding read like events."""

import dataclasses
from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import KernelLayer
from dgin_tf.layers.events import MASK, History, State, embed_events_at, embed_padding
from dgin_tf.layers.interest_encoder import INTEREST
from dgin_tf.layers.normalization import LayerNorm
from dgin_tf.layers.sessions.bi_lstm import MEAN, BiLSTM
from dgin_tf.layers.sessions.bias_encoding import BiasEncoding
from dgin_tf.layers.sessions.session_interest import SessionInterest
from dgin_tf.layers.sessions.transformer import by_head, head_width, side_by_side
from dgin_tf.layers.target_attention import sigmoid_attention
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.baselines.dsin import DSIN
from dgin_tf.ops import masking
from dgin_tf.schema import Schema, check_positive

_BLIND = -(2.0**32) + 1  # the authors' minus infinity


class ReleasedSessionTransformer(KernelLayer):
    """The transformer of the authors' code.

    Heads are slices of projections of all channels, without an output projection and biases. An event
    does not attend to itself, so that a single one attends to all padding equally. The mean is over
    padding too.

    Args:
      heads: must divide the width of an event.
      blinding: whether an event does not attend to itself.
      positions: whether learned positions are added, in the place of the bias encoding; keys and
        queries have a table each.
      layer_norm: whether there is layer normalization, one for both places; not in the published
        model.
      kernel_initializer, kernel_regularizer: of all kernels.

    Raises:
      ValueError: `heads` is below 1 or does not divide the width.

    Example:

      >>> sessions, lengths = tf.random.normal([2, 3, 5, 4]), tf.constant([[5, 1, 2], [3, 0, 0]])
      >>> ReleasedSessionTransformer(heads=2)(sessions, tf.sequence_mask(lengths, 5)).shape
      TensorShape([2, 3, 4])
    """

    def __init__(
        self,
        heads: int = 2,
        blinding: bool = True,
        positions: bool = False,
        layer_norm: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_positive(heads=heads)
        self.heads = heads
        self.blinding = blinding
        self.positions = positions
        self.layer_norm = layer_norm
        self.norm = None
        if layer_norm:
            self.norm = LayerNorm(epsilon=1e-9, name="norm", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        time, dim = tf.TensorShape(input_shape)[-2:]
        head_width(dim, self.heads)
        self.kernels = [self.add_kernel(name, [dim, dim]) for name in ("query", "key", "value")]
        self.hidden = self.add_kernel("hidden", [dim, 4 * dim])
        self.output_kernel = self.add_kernel("output_kernel", [4 * dim, dim])
        if self.positions:
            self.tables = [
                self.add_weight(f"{name}_positions", [time, dim]) for name in ("query", "key")
            ]
        super().build(input_shape)

    def call(self, sessions: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Extracts the interest of every session.

        Args:
          sessions: [users, sessions, time, dim], with the embedding of padding where it is padded.
          mask: True where the event is real, bool [users, sessions, time].

        Returns:
          [users, sessions, dim].
        """
        time, dim = sessions.shape[-2:]
        rows = tf.reshape(sessions, [-1, time, dim])
        mean = tf.reduce_mean(self.refine(rows, tf.reshape(mask, [-1, time])), axis=1)
        return tf.reshape(mean, [*tf.unstack(tf.shape(sessions)[:2]), dim])

    def refine(self, rows: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """The transformer's outputs before the mean.

        Args:
          rows: events, [sets, time, dim].
          mask: True where the event is real, bool [sets, time].

        Returns:
          [sets, time, dim].
        """
        query_rows = key_rows = rows
        if self.positions:
            scale = rows.shape[-1] ** 0.5  # of the authors' positional encoding
            query_rows, key_rows = (rows + scale * table for table in self.tables)
        query, key, value = (
            by_head(tf.tensordot(part, kernel, 1), self.heads)
            for part, kernel in zip((query_rows, key_rows, key_rows), self.kernels, strict=True)
        )
        scores = tf.matmul(query, key, transpose_b=True)
        scores = tf.cast(scores, masking.accumulation_dtype(scores.dtype))
        scores /= query.shape[-1] ** 0.5
        visible = mask[:, tf.newaxis, tf.newaxis]  # [sets, heads, query time, key time]
        if self.blinding:
            visible &= ~tf.eye(rows.shape[1], dtype=tf.bool)
        # A finite minus infinity: a row without any visible event becomes uniform, not NaN.
        weights = tf.nn.softmax(tf.where(visible, scores, _BLIND))
        weights *= tf.cast(mask[:, tf.newaxis, :, tf.newaxis], weights.dtype)
        attention = side_by_side(tf.matmul(tf.cast(weights, value.dtype), value))
        outputs = self._normalize(query_rows + attention)
        hidden = tf.nn.relu(tf.tensordot(outputs, self.hidden, 1))
        return self._normalize(outputs + tf.tensordot(hidden, self.output_kernel, 1))

    def _normalize(self, rows):
        return rows if self.norm is None else self.norm(rows)


class ReleasedSessionInterest(SessionInterest):
    """Session interests whose extractor and interacting layer read padding like events.

    Example:

      >>> from dgin_tf.layers.state_attention import BilinearAttention
      >>> times, ids = tf.constant([[100, 200, 90_000]], tf.int64), tf.constant([[2, 3, 4]])
      >>> attentions = BilinearAttention(4), BilinearAttention(4)
      >>> encoder = ReleasedSessionInterest(
      ...     ReleasedSessionTransformer(heads=2), BiLSTM(layers=2, merge="mean"), attentions
      ... )
      >>> features, tables = {"timestamp": times, "item_id": ids}, {"item_id": tf.random.normal([9, 4])}
      >>> history = History(None, times > 0, features, tables=tables)
      >>> encoder(tf.random.normal([1, 2, 4]), history)["interest"].shape
      TensorShape([1, 2, 8])
    """

    def encode(self, history: History, training: bool = False) -> State:
        """Extracts the interests of all K sessions, those of padding among them."""
        sessions = self.divide(history)
        events = embed_events_at(history, sessions.places, sessions.event_mask, self.compute_dtype)
        padding = embed_padding(history.tables, events.dtype)
        events = tf.where(sessions.event_mask[..., tf.newaxis], events, padding)
        return {**self.read(events, sessions.event_mask, None), MASK: sessions.mask}


class DSINReleased(DSIN, registry_name="dsin_released"):
    """DSIN of the authors' code; arguments as for `DSIN`.

    Two layers of LSTMs without peepholes whose directions are averaged, 64-16 sigmoid activation
    units, and a head with ReLU, no normalization, and the user's id. Its dropout of .2 between the
    LSTMs and its rule that sessions of one or two events are dropped are left out. Its heads are eight
    of one channel; its positions are learned, `bias_encoding=False`, in the published script.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        encoder: SessionInterest | None = None,
    ):
        config = config or ModelConfig()
        user_fields = ("user_id",) if config.user_fields is None else config.user_fields
        config = dataclasses.replace(
            config, user_fields=user_fields, activation="relu", normalization="none"
        )
        super().__init__(schema, config, encoder)

    @classmethod
    def blocks(cls, schema, config, settings):
        """The session interests of the authors' code."""
        attention = sigmoid_attention((64, 16), "attention")
        state_attention = sigmoid_attention((64, 16), "state_attention")
        positions = not settings.bias_encoding  # which this transformer adds itself
        encoder = ReleasedSessionInterest(
            ReleasedSessionTransformer(settings.heads, positions=positions, name="extractor"),
            BiLSTM(layers=2, peepholes=False, merge=MEAN, name="interacting"),
            (attention, state_attention),
            BiasEncoding(name="encoding") if settings.bias_encoding else None,
            settings.sessions,
            settings.events,
            settings.gap,
            name=INTEREST,
        )
        return {"encoder": encoder}
