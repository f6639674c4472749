"""The target module of DGIN (Liu et al., 2023), section 3.4: what a user did with the candidate itself."""

from typing import Any

import tensorflow as tf

from dgin_tf.group_spec import GAP
from dgin_tf.layers.configured import ConfiguredLayer, as_layer
from dgin_tf.layers.event_attributes import EventAttributes
from dgin_tf.layers.events import State
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.normalization import LayerNorm
from dgin_tf.layers.search.unit import RetrievedEvents
from dgin_tf.layers.self_attention import ResidualFeedForward, SelfAttentionEncoder


class TargetModule(ConfiguredLayer):
    """Eq. (8): the events that share the candidate's key refine each other, then it attends to them.

        a = LN(e_t + MHSA(e_t)),           enc = LN(a + FFN(a))
        b = LN(e_i + MHTA(e_i, enc)), interest = LN(b + FFN(b))

    An event is e_t in R^{md}, the fields that candidates have too and the attributes that they have
    not; the candidate is projected into that space, where the paper adds the two.

    Args:
      attributes: embeds the time from each event to the candidate, its behavior type and its side
        features; None for none of them.
      heads: of both attentions.

    Example:

      >>> events, mask = tf.random.normal([2, 3, 5, 8]), tf.ones([2, 3, 5], tf.bool)
      >>> TargetModule()(tf.random.normal([2, 3, 8]), events, mask)["interest"].shape
      TensorShape([2, 3, 8])
    """

    def __init__(self, attributes: EventAttributes | None = None, heads: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.attributes = attributes = as_layer(attributes)
        self.heads = heads
        self.encoder = SelfAttentionEncoder(heads, name="encoder", dtype=policy)
        self.attention = MultiHeadAttention(heads, name="attention", dtype=policy)
        self.norm = LayerNorm(name="norm", dtype=policy)
        self.feed_forward = ResidualFeedForward(name="feed_forward", dtype=policy)
        self.event_features = attributes.event_features if attributes is not None else ()

    def build(self, input_shape: Any) -> None:
        dim = tf.TensorShape(input_shape)[-1]
        width = dim + (self.attributes.width if self.attributes is not None else 0)
        self.projection = tf.keras.layers.Dense(width, name="projection", dtype=self.dtype_policy)
        super().build(input_shape)

    def call(
        self,
        target: tf.Tensor,
        events: RetrievedEvents | tf.Tensor,
        mask: tf.Tensor | None = None,
        training: bool = False,
    ) -> State:
        """Reads the events that share each candidate's key.

        Args:
          target: e_i, [users, candidates, dim].
          events: these events with their attributes; or e_t, [users, candidates, k, dim], embedded as
            candidates are.
          mask: of embeddings, True where the event is real, bool [users, candidates, k].
          training: not needed here.

        Returns:
          `interest` [users, candidates, dim of an event] and `attention`
          [users, candidates, heads, k]; both zero for candidates without events, since the sum with
          the candidate in Eq. (8) would speak of the candidate where there is no interest.

        Raises:
          ValueError: the module embeds attributes that the events lack, or embeddings lack a mask.
        """
        if isinstance(events, RetrievedEvents):
            mask = events.mask
        elif mask is None:
            raise ValueError("embedded events need their mask, bool [users, candidates, k].")
        described_events = self._describe(events)
        encoded_events = self.encoder(described_events, mask)
        query = self.projection(target)
        attended_events, weights = self.attention(query, encoded_events, mask)
        interest = self.feed_forward(self.norm(query + attended_events))
        has_events = tf.reduce_any(mask, axis=-1, keepdims=True)
        interest = tf.where(has_events, interest, tf.zeros([], interest.dtype))
        return {"interest": interest, "attention": weights}

    def _describe(self, events: RetrievedEvents | tf.Tensor) -> tf.Tensor:
        """e_t, [users, candidates, k, width]."""
        has_features = isinstance(events, RetrievedEvents)
        embeddings = tf.cast(events.events if has_features else events, self.compute_dtype)
        if self.attributes is None:
            return embeddings
        features = dict(events.features or {}) if has_features else {}
        if has_features and events.gaps is not None:
            features[GAP] = events.gaps
        if missing := [name for name in self.attributes.names if name not in features]:
            raise ValueError(
                f"this module embeds {', '.join(missing)} of events; no times are kept unless "
                "times=True where events are stored, and embeddings alone have no attributes."
            )
        attributes = tf.cast(self.attributes(features), embeddings.dtype)
        return tf.concat([embeddings, attributes], axis=-1)
