"""ETA (Chen et al., 2021): end-to-end target attention over the events nearest by their signatures."""

import dataclasses

import tensorflow as tf

from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.search.eta import SimHashSearch
from dgin_tf.layers.search.readers import ExactSearchUnit
from dgin_tf.models.short_and_long import ShortSettings
from dgin_tf.models.sim import SIM


class ETA(SIM, registry_name="eta"):
    """Figure 2: target attention over the newest events, and over the k nearest of the earlier ones."""

    @dataclasses.dataclass(frozen=True)
    class Settings(ShortSettings):
        """Settings of the blocks.

        Attributes:
          k: how many events are retrieved at most.
          bits: m, length of a signature; None for twice the width of an event, where the gain ends.
          seed: of the random hyperplanes.
        """

        k: int = 50
        bits: int | None = None
        seed: int = 1

    @classmethod
    def blocks(cls, schema, config, settings):
        """Search by signatures, and multi-head attention for both parts."""
        bits = settings.bits or 2 * config.embedding_dim * len(schema.paired_fields)
        search = SimHashSearch(settings.k, bits, settings.seed, name="search")
        return {"search": search, **multi_head_readers(settings)}


def multi_head_readers(settings: ShortSettings) -> dict[str, tf.keras.layers.Layer]:
    """Target attention over retrieved events, by default of the form that reads the newest ones."""
    reader = ExactSearchUnit(MultiHeadAttention(settings.heads, name="attention"), name="reader")
    return {"reader": reader, "short": settings.short_encoder()}
