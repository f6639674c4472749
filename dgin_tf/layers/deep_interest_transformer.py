"""One behavior type's transformer of DMT (Gu et al., CIKM 2020), section 3.2."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.event_attributes import events_of_types
from dgin_tf.layers.events import History, State, Target, embed_events_at, mask_padding
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.normalization import LayerNorm
from dgin_tf.layers.positions import LearnedPositions
from dgin_tf.layers.self_attention import ResidualFeedForward, SelfAttentionEncoder
from dgin_tf.ops.event_order import newest_events
from dgin_tf.schema import BEHAVIOR_TYPE, check_positive


class DeepInterestTransformer(InterestEncoder):
    """The events of one type refine each other, and the candidate reads them: encoder and decoder.

    Positions are counted back from the newest event. The candidate has none.

    State: `events` [users, events, dim], refined, newest first, and `mask` bool [users, events].

    Args:
      types: ids of the behavior types whose events are read; () for all.
      events: how many of the newest.
      heads: of both attentions.

    Raises:
      ValueError: `events` is below 1.

    Example:

      >>> layer = DeepInterestTransformer(events=4)
      >>> history = tf.random.normal([2, 6, 8]), tf.ones([2, 6], tf.bool)
      >>> layer(tf.random.normal([2, 3, 8]), history)["interest"].shape
      TensorShape([2, 3, 8])
    """

    def __init__(self, types: Sequence[int] = (), events: int = 50, heads: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive(events=events)
        self.types = tuple(types)
        self.events = events
        self.heads = heads
        self.event_features = (BEHAVIOR_TYPE,) if self.types else ()
        policy = self.dtype_policy
        self.positions = LearnedPositions(name="positions", dtype=policy)
        self.encoder = SelfAttentionEncoder(heads, name="encoder", dtype=policy)
        self.attention = MultiHeadAttention(heads, name="attention", dtype=policy)
        self.norm = LayerNorm(name="norm", dtype=policy)
        self.feed_forward = ResidualFeedForward(name="feed_forward", dtype=policy)

    def encode(self, history: History, training: bool = False) -> State:
        """The encoder: everything but the candidate."""
        own = events_of_types(history, self.types) if self.types else history
        places, mask = newest_events(own.mask, self.events)
        events = self.positions(embed_events_at(history, places, mask, self.compute_dtype))
        return {"events": mask_padding(self.encoder(events, mask), mask), "mask": mask}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """The decoder.

        Returns:
          `interest` [users, candidates, dim] and `attention` [users, candidates, heads, events]; both
          zero where there are no events, since the sum with the candidate would speak of it alone.
        """
        query, mask = target.embedding, state["mask"]
        sums, weights = self.attention(query, state["events"], mask)
        interest = self.feed_forward(self.norm(query + sums))
        some = tf.reduce_any(mask, axis=1)[:, tf.newaxis, tf.newaxis]
        interest = tf.where(some, interest, tf.zeros([], interest.dtype))
        return {"interest": interest, "attention": weights}
