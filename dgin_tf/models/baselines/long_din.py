"""DIN with a long history beside its short one: averaged, or attended to as a whole.

Average pooling is SIM's first baseline (Pi et al., 2020, table 3). Attention over everything is what
no service can afford, and the bound that the searching models strive for; ENCODE calls it DIN-L and
SDIM "DIN (long)", a name that ETA gives to average pooling.
"""

import dataclasses

from dgin_tf.layers.pooling import Pooling
from dgin_tf.models.short_and_long import ShortAndLongModel, din_history


class AvgPoolingLongDIN(ShortAndLongModel, registry_name="avg_pooling_long_din"):
    """DIN on the newest events, and the mean of those before."""

    @dataclasses.dataclass(frozen=True)
    class Settings:
        """Settings of the blocks.

        Attributes:
          short_events: how many of the newest events DIN reads.
          softmax: whether its weights are normalized.
        """

        short_events: int = 10
        softmax: bool = False

    @classmethod
    def blocks(cls, schema, config, settings):
        """DIN and a mean."""
        short = din_history(settings.softmax, name="short")
        return {"short": short, "long": Pooling(mean=True, name="long")}


class DINLong(AvgPoolingLongDIN, registry_name="din_long"):
    """DIN on the newest events, and softmax target attention over all before; settings as above."""

    @classmethod
    def blocks(cls, schema, config, settings):
        """DIN twice."""
        short = din_history(settings.softmax, name="short")
        return {"short": short, "long": din_history(softmax=True, name="long")}
