"""Interests by parts of a history, whatever its order: the encoder of NINN (Zhao et al., 2021)."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.events import History, State, Target, embed_events_at
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.self_attention import SelfAttentionEncoder
from dgin_tf.layers.target_attention import ActivationUnit, TargetAttention
from dgin_tf.ops.partition import newest_of_each, partition, sum_in_parts

EVENTS, MASK, PART = "events", "mask", "part"
PART_NAMES, PART_MASK = "part_names", "part_mask"


@tf.keras.utils.register_keras_serializable("dgin_tf")
class PartitionedInterest(InterestEncoder):
    """Different items, weighed as DIN weighs events and summed in each category; the sums interact by
    self-attention, and the candidate reads them.

    State: `events` [users, time, dim]; `mask` bool, True for the newest event of every item, and
    `part` int32 [users, time]; `part_names` [users, parts + 1, width] and `part_mask` bool.

    Args:
      dim: width of an event.
      key: field of which every value counts once.
      field: field that parts share; one of those that are embedded.
      parts: P, how many parts are kept, the largest; all others are one more.
      units: hidden layers of DIN's activation unit.
      heads: of both attentions.
    """

    def __init__(
        self,
        dim: int,
        key: str = "item_id",
        field: str = "category_id",
        parts: int = 50,
        units: Sequence[int] = (36,),
        heads: int = 2,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.dim = dim
        self.key = key
        self.field = field
        self.parts = parts
        self.units = tuple(units)
        self.heads = heads
        unit = ActivationUnit(self.units, name="unit", dtype=policy)
        self.weighing = TargetAttention(unit, name="weighing", dtype=policy)
        self.naming = tf.keras.layers.Dense(dim, use_bias=False, name="naming", dtype=policy)
        self.encoder = SelfAttentionEncoder(heads, name="encoder", dtype=policy)
        self.attention = MultiHeadAttention(heads, name="attention", dtype=policy)

    def encode(self, history: History, training: bool = False) -> State:
        """Drops repetitions and cuts what is left into parts.

        Raises:
          ValueError: the history lacks one of the fields.
        """
        del training
        names = [self.key, self.field]
        if names[0] not in history.features or names[1] not in history.tables:
            raise ValueError(
                f"parts by {self.field!r} of different {self.key!r} need the features {names}; the "
                f"history has {sorted(history.features)}. Name other fields of the schema."
            )
        mask = newest_of_each(history.features[names[0]], history.mask)
        cut = partition(history.features[names[1]], mask, self.parts)
        fields = tf.split(
            embed_events_at(history, cut.places, cut.mask[:, :-1], self.compute_dtype),
            len(history.tables),
            axis=-1,
        )
        own = fields[list(history.tables).index(names[1])]
        return {
            EVENTS: history.events,
            MASK: mask,
            PART: cut.part,
            PART_NAMES: tf.pad(own, [[0, 0], [0, 1], [0, 0]]),  # all others have no name
            PART_MASK: cut.mask,
        }

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Weighs, sums and reads.

        Returns:
          `interest` [users, candidates, dim], `attention` [users, candidates, heads, parts + 1] and
          `weights` [users, candidates, time]; all zero for an empty history.
        """
        events = state[EVENTS]
        weights = self.weighing(
            target.embedding, events, state[MASK], query_mask=target.mask, training=training
        )
        sums = sum_in_parts(tf.cast(weights, events.dtype), events, state[PART], self.parts + 1)
        mask = tf.broadcast_to(state[PART_MASK][:, tf.newaxis], tf.shape(sums)[:-1])
        named = sums + self.naming(state[PART_NAMES])[:, tf.newaxis]
        interest, attention = self.attention(target.embedding, self.encoder(named, mask), mask)
        return {"interest": interest, "attention": attention, "weights": weights}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dim": self.dim,
            "key": self.key,
            "field": self.field,
            "parts": self.parts,
            "units": self.units,
            "heads": self.heads,
        }
