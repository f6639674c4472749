"""TWIN (Chang et al., 2023): one attention searches the long history and reads what it retrieves."""

import dataclasses

from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.search.twin import ConsistentInterest
from dgin_tf.models.short_and_long import ShortAndLongModel, ShortSettings
from dgin_tf.schema import BEHAVIOR_TYPE, CANDIDATE, HISTORY, TIMESTAMP, Schema


class TWIN(ShortAndLongModel, registry_name="twin"):
    """Target attention over the newest events, the consistent two-stage search over the earlier ones.

    Cross features are what the schema has of them: time gaps where events and candidates have times,
    the behavior type where events have it and candidates have not.
    """

    @dataclasses.dataclass(frozen=True)
    class Settings(ShortSettings):
        """Settings of the blocks.

        Attributes:
          k: how many events are retrieved at most; 100 in the paper, whose histories have 10,000 and
            more.
        """

        k: int = 50
        heads: int = 4

    @classmethod
    def blocks(cls, schema, config, settings):
        """Multi-head attention, and the consistent search with the schema's cross features."""
        attention = MultiHeadAttention(settings.heads, name="attention")
        times, types = _has_times(schema), _count_behavior_types(schema)
        long = ConsistentInterest(attention, settings.k, times, types, name="long")
        return {"short": settings.short_encoder(), "long": long}


def _has_times(schema: Schema) -> bool:
    return any(
        field.name == TIMESTAMP and {HISTORY, CANDIDATE} <= set(field.roles)
        for field in schema.fields
    )


def _count_behavior_types(schema: Schema) -> int:
    """Ids of behavior types where they are an event's alone; otherwise they are embedded with it."""
    for field in schema.with_role(HISTORY):
        if field.name == BEHAVIOR_TYPE and field not in schema.paired_fields:
            return schema.vocabulary_sizes[field.vocabulary]
    return 0
