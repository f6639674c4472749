"""The target module of DGIN (Liu et al., 2023), section 3.4: what a user did with the candidate itself."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.event_attributes import GAP, EventAttributes
from dgin_tf.layers.events import State
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.normalization import LayerNorm
from dgin_tf.layers.search.unit import RetrievedEvents
from dgin_tf.layers.self_attention import ResidualFeedForward, SelfAttentionEncoder


@tf.keras.utils.register_keras_serializable("dgin_tf")
class TargetModule(tf.keras.layers.Layer):
    """Eq. (8): the events that share the candidate's key refine each other, then it attends to them.

    An event is e_t in R^{md}, the fields that candidates have too and the attributes that they have
    not; the candidate is projected into that space, where the paper adds the two.

    Args:
      attributes: embeds the time from each event to the candidate, its behavior type and its labels;
        None for none of them.
      heads: of both attentions.
    """

    def __init__(self, attributes: EventAttributes | None = None, heads: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        if isinstance(attributes, dict):
            attributes = tf.keras.layers.deserialize(attributes)
        policy = self.dtype_policy
        self.attributes = attributes
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

    def call(self, target: tf.Tensor, found: RetrievedEvents, training: bool = False) -> State:
        """Reads the events that share each candidate's key.

        Args:
          target: e_i, [users, candidates, dim].
          found: the events, embedded as candidates are.
          training: not needed here.

        Returns:
          `interest` [users, candidates, dim of an event] and `attention`
          [users, candidates, heads, k]; both zero where nothing was found, since the sum with the
          candidate in Eq. (8) would speak of the candidate where there is no interest.
        """
        del training
        events = self._described(found)
        encoded = self.encoder(events, found.mask)
        asked = self.projection(target)
        attended, weights = self.attention(asked, encoded, found.mask)
        interest = self.feed_forward(self.norm(asked + attended))
        is_found = tf.reduce_any(found.mask, axis=-1, keepdims=True)
        interest = tf.where(is_found, interest, tf.zeros([], interest.dtype))
        return {"interest": interest, "attention": weights}

    def _described(self, found):
        """e_t, [users, candidates, k, width]."""
        events = tf.cast(found.events, self.compute_dtype)
        if self.attributes is None:
            return events
        raw = {}
        if self.attributes.times:
            if found.gaps is None:
                raise ValueError(
                    "this module embeds time gaps, but no times are kept; set times=True where the "
                    "events are stored."
                )
            raw[GAP] = found.gaps
        for name in self.attributes.event_features:
            raw[name] = (found.features or {})[name]
        described = tf.cast(self.attributes(raw), events.dtype)
        return tf.concat([events, described], axis=-1)

    def get_config(self) -> dict[str, Any]:
        attributes = self.attributes
        return {
            **super().get_config(),
            "attributes": None if attributes is None else tf.keras.layers.serialize(attributes),
            "heads": self.heads,
        }
