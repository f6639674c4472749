"""SDIM (Cao et al., 2022): the long history as sums of what collides with the candidate."""

import dataclasses

from dgin_tf.layers.search.sdim import HashedInterest
from dgin_tf.models.eta import multi_head_history
from dgin_tf.models.short_and_long import ShortAndLongModel


class SDIM(ShortAndLongModel, registry_name="sdim"):
    """Target attention over the newest events, hash collisions with the earlier ones."""

    @dataclasses.dataclass(frozen=True)
    class Settings:
        """Settings of the blocks.

        Attributes:
          bits: m, random hyperplanes of all hash tables.
          tau: of one hash table.
          norm: of a bucket's sum, see `HashedInterest`.
          heads: of the attention over the newest events.
          short_events: how many of the newest events are read one by one.
          seed: of the random hyperplanes.
        """

        bits: int = 48
        tau: int = 3
        norm: str = "l2"
        heads: int = 2
        short_events: int = 50
        seed: int = 1

    @classmethod
    def blocks(cls, schema, config, settings):
        """Multi-head attention, and hash tables."""
        long = HashedInterest(
            settings.bits, settings.tau, settings.norm, settings.seed, name="long"
        )
        return {"short": multi_head_history(settings.heads), "long": long}
