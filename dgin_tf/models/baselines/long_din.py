"""DIN with a long history beside its short one: averaged, or attended to as a whole.

Average pooling is SIM's first baseline (Pi et al., 2020, table 3). Attention over everything is what
no service can afford, and the bound that the searching models strive for; ENCODE calls it DIN-L and
SDIM "DIN (long)", a name that ETA gives to average pooling.
"""

import tensorflow as tf

from dgin_tf.layers.pooling import Pooling
from dgin_tf.layers.short_and_long import ShortAndLong
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.sim import din_history
from dgin_tf.schema import Schema


@tf.keras.utils.register_keras_serializable("dgin_tf")
class AvgPoolingLongDIN(CTRModel):
    """DIN on the newest events, and the mean of those before.

    Args:
      schema: the data.
      config: embedding and head.
      short_events: how many of the newest events DIN reads.
      softmax: whether its weights are normalized.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        short_events: int = 10,
        softmax: bool = False,
    ):
        long = Pooling(mean=True, name="long")
        encoder = ShortAndLong(din_history(softmax), long, short_events, name="interest")
        super().__init__(schema, {"interest": encoder}, config)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class DINLong(CTRModel):
    """DIN on the newest events, and softmax target attention over all before; arguments as above."""

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        short_events: int = 10,
        softmax: bool = False,
    ):
        long = din_history(softmax=True)
        encoder = ShortAndLong(din_history(softmax), long, short_events, name="interest")
        super().__init__(schema, {"interest": encoder}, config)
