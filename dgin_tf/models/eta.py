"""ETA (Chen et al., 2021): end-to-end target attention over the events nearest by their signatures."""

import tensorflow as tf

from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.multi_head_history import MultiHeadHistory
from dgin_tf.layers.search.eta import SimHashSearch
from dgin_tf.layers.search.readers import ExactSearchUnit
from dgin_tf.layers.search.unit import SearchedInterest, SearchUnit
from dgin_tf.layers.short_and_long import ShortAndLong
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.schema import Schema


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ETA(CTRModel):
    """Figure 2: target attention over the newest events, and over the k nearest of the earlier ones.

    Args:
      schema: the data.
      config: embedding and head.
      k: how many events the search finds.
      bits: m, length of a signature; None for twice the width of an event, where the paper's gain ends.
      heads: of both attentions.
      short_events: how many of the newest events are read one by one.
      seed: of the random hyperplanes.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        k: int = 50,
        bits: int | None = None,
        heads: int = 2,
        short_events: int = 50,
        seed: int = 1,
    ):
        width = (config or ModelConfig()).embedding_dim * len(schema.paired_fields)
        unit = SimHashSearch(k, bits or 2 * width, seed, name="search")
        interest = searched_history(unit, heads, short_events)
        super().__init__(schema, {"interest": interest}, config, name="eta")


def searched_history(unit: SearchUnit, heads: int, short_events: int) -> ShortAndLong:
    """ETA's two parts, whatever unit searches the long one.

    Args:
      unit: finds events for a candidate.
      heads: of both attentions.
      short_events: how many of the newest events are read one by one.
    """
    reader = ExactSearchUnit(MultiHeadAttention(heads, name="attention"), name="reader")
    short = MultiHeadHistory(MultiHeadAttention(heads, name="attention"), name="short")
    long = SearchedInterest(unit, reader, name="long")
    return ShortAndLong(short, long, short_events, name="interest")
