"""ETA (Chen et al., 2021): end-to-end target attention over the events nearest by their signatures."""

import dataclasses

import tensorflow as tf

from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.multi_head_history import MultiHeadHistory
from dgin_tf.layers.search.eta import SimHashSearch
from dgin_tf.layers.search.readers import ExactSearchUnit
from dgin_tf.models.sim import SIM


class ETA(SIM, registry_name="eta"):
    """Figure 2: target attention over the newest events, and over the k nearest of the earlier ones."""

    @dataclasses.dataclass(frozen=True)
    class Settings:
        """Settings of the blocks.

        Attributes:
          k: how many events are retrieved at most.
          bits: m, length of a signature; None for twice the width of an event, where the gain ends.
          heads: of both attentions.
          short_events: how many of the newest events are read one by one.
          seed: of the random hyperplanes.
        """

        k: int = 50
        bits: int | None = None
        heads: int = 2
        short_events: int = 50
        seed: int = 1

    @classmethod
    def blocks(cls, schema, config, settings):
        """Search by signatures, and multi-head attention for both parts."""
        bits = settings.bits or 2 * config.embedding_dim * len(schema.paired_fields)
        search = SimHashSearch(settings.k, bits, settings.seed, name="search")
        return {"search": search, **multi_head_readers(settings.heads)}


def multi_head_history(heads: int) -> MultiHeadHistory:
    """Target attention over the newest events, projected and scaled."""
    return MultiHeadHistory(MultiHeadAttention(heads, name="attention"), name="short")


def multi_head_readers(heads: int) -> dict[str, tf.keras.layers.Layer]:
    """Target attention of one form over retrieved events and over the newest ones."""
    reader = ExactSearchUnit(MultiHeadAttention(heads, name="attention"), name="reader")
    return {"reader": reader, "short": multi_head_history(heads)}
