"""SDIM (Cao et al., 2022): the long history as sums of what collides with the candidate."""

import dataclasses

from dgin_tf.layers.search.sdim import HashedInterest
from dgin_tf.models.short_and_long import ShortAndLongModel, ShortSettings


class SDIM(ShortAndLongModel, registry_name="sdim"):
    """Target attention over the newest events, hash collisions with the earlier ones."""

    @dataclasses.dataclass(frozen=True)
    class Settings(ShortSettings):
        """Settings of the blocks.

        Attributes:
          bits: m, random hyperplanes of all hash tables.
          tau: of one hash table.
          norm: of a bucket's sum, see `HashedInterest`.
          seed: of the random hyperplanes.
        """

        bits: int = 48
        tau: int = 3
        norm: str = "l2"
        seed: int = 1

    @classmethod
    def blocks(cls, schema, config, settings):
        """Multi-head attention, and hash tables."""
        long = HashedInterest(
            settings.bits, settings.tau, settings.norm, settings.seed, name="long"
        )
        return {"short": settings.short_encoder(), "long": long}
