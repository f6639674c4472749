"""DIN with a long history beside its short one: averaged, or attended to as a whole.

Average pooling is SIM's first baseline (Pi et al., 2020, table 3). Attention over everything is what
no service can afford, and the bound that the searching models strive for; ENCODE calls it DIN-L and
SDIM "DIN (long)", a name that ETA gives to average pooling.
"""

from dgin_tf.layers.pooling import Pooling
from dgin_tf.models.short_and_long import DINSettings, ShortAndLongModel, din_history


class AvgPoolingLongDIN(ShortAndLongModel, registry_name="avg_pooling_long_din"):
    """DIN on the newest events, and the mean of those before."""

    Settings = DINSettings

    @classmethod
    def blocks(cls, schema, config, settings):
        """DIN and a mean."""
        return {"short": settings.short_encoder(), "long": Pooling(mean=True, name="long")}


class DINLong(AvgPoolingLongDIN, registry_name="din_long"):
    """DIN on the newest events, and softmax target attention over all before; settings as above."""

    @classmethod
    def blocks(cls, schema, config, settings):
        """DIN twice."""
        return {"short": settings.short_encoder(), "long": din_history(softmax=True, name="long")}
