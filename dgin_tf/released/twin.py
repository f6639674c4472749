"""LongCTR's TWIN: no cross features, every head searches alone, and kernels start independently."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.events import EVENTS, MASK, State, Target, embed_ids
from dgin_tf.layers.interest_encoder import INTEREST
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.search.twin import ConsistentInterest
from dgin_tf.layers.search.unit import TOPK_INDICES, TOPK_MASK, top_events
from dgin_tf.models.twin import TWIN
from dgin_tf.ops import masking


class ReleasedConsistentInterest(ConsistentInterest):
    """Each head attends to its own k best events.

    Example:

      >>> target, events = tf.random.normal([2, 3, 8]), tf.random.normal([2, 100, 8])
      >>> outputs = ReleasedConsistentInterest(k=5)(target, (events, tf.fill([2, 100], True)))
      >>> outputs["interest"].shape, outputs["topk_indices"].shape
      (TensorShape([2, 3, 8]), TensorShape([2, 3, 4, 5]))

    Args:
      attention, k: see `ConsistentInterest`.

    Raises:
      ValueError: it is to have cross features.
    """

    def __init__(self, attention: MultiHeadAttention | None = None, k: int = 100, **kwargs: Any):
        super().__init__(attention, k, **kwargs)
        if self.cross_features:
            raise ValueError("the released search has no cross features; leave them out.")

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Reads the events of the highest scores, head by head.

        Returns:
          `interest` [users, candidates, dim], `attention` over all events
          [users, candidates, heads, time], `topk_indices` int32 and `topk_mask` bool
          [users, candidates, heads, k].
        """
        events = embed_ids(target.tables, state[EVENTS], self.compute_dtype, state[MASK])
        scores = self.attention.scores(target.embedding, events)
        result = top_events(scores, state[MASK][:, tf.newaxis, tf.newaxis], self.k)
        # Places of all heads as masks over time; what is not real is in no place.
        places = tf.where(result.mask, result.topk_indices, -1)
        mask = tf.reduce_any(tf.one_hot(places, tf.shape(events)[1], True, False), axis=-2)
        weights = masking.masked_softmax(scores, mask)
        return {
            INTEREST: self.attention.read(weights, events),
            "attention": weights,
            TOPK_INDICES: result.topk_indices,
            TOPK_MASK: result.mask,
        }


class TWINReleased(TWIN, registry_name="twin_released"):
    """TWIN with LongCTR's long part."""

    @classmethod
    def blocks(cls, schema, config, settings):
        """Multi-head attention, and the search of every head."""
        attention = MultiHeadAttention(settings.heads, similar_start=False, name="attention")
        long = ReleasedConsistentInterest(attention, settings.k, name="long")
        return {"short": settings.short_encoder(), "long": long}
