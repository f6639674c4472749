"""TWIN (Chang et al., 2023): one attention searches the long history and reads what it found."""

import tensorflow as tf

from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.multi_head_history import MultiHeadHistory
from dgin_tf.layers.search.twin import PAPER, ConsistentInterest
from dgin_tf.layers.short_and_long import ShortAndLong
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.schema import CANDIDATE, HISTORY, Schema


@tf.keras.utils.register_keras_serializable("dgin_tf")
class TWIN(CTRModel):
    """Target attention over the newest events, the consistent two-stage search over the earlier ones.

    Cross features are what the schema has of them: time gaps where events and candidates have times,
    the behavior type where events have it and candidates have not.

    Args:
      schema: the data.
      config: embedding and head.
      variant: "paper" or "released", LongCTR's: no cross features, every head finds its own k.
      k: how many events the search finds; 100 in the paper, whose histories have 10,000 and more.
      heads: of both attentions.
      short_events: how many of the newest events are read one by one.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        variant: str = PAPER,
        k: int = 50,
        heads: int = 4,
        short_events: int = 50,
    ):
        paper = variant == PAPER
        long = ConsistentInterest(
            MultiHeadAttention(heads, name="attention"),
            k,
            times=paper and _has_times(schema),
            behavior_types=_behavior_types(schema) if paper else 0,
            variant=variant,
            name="long",
        )
        short = MultiHeadHistory(MultiHeadAttention(heads, name="attention"), name="short")
        interest = ShortAndLong(short, long, short_events, name="interest")
        super().__init__(schema, {"interest": interest}, config, name="twin")


def _has_times(schema: Schema) -> bool:
    return any(
        field.name == "timestamp" and {HISTORY, CANDIDATE} <= set(field.roles)
        for field in schema.fields
    )


def _behavior_types(schema: Schema) -> int:
    """Ids of behavior types where they are an event's alone; otherwise they are embedded with it."""
    for field in schema.with_role(HISTORY):
        if field.name == "behavior_type" and field not in schema.paired_fields:
            return schema.vocabulary_sizes[field.vocabulary]
    return 0
