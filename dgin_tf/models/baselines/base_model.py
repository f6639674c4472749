"""BaseModel, or Embedding&MLP (DIN, section 4.2): pooled histories and a tower."""

import tensorflow as tf

from dgin_tf.layers.pooling import Pooling
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.released import RELEASED, check_variant, history_sum, released_config
from dgin_tf.schema import Schema


@tf.keras.utils.register_keras_serializable("dgin_tf")
class BaseModel(CTRModel):
    """The candidate beside the sum (or mean) of the history, the same for every candidate.

    `variant="released"` is `Model_DNN` of mouna99/dien: PReLU and the head of
    `dgin_tf.models.released`, without target * sum.

    Args:
      schema: the data.
      config: embedding and head.
      variant: "paper" or "released".
      mean: whether to average the history instead of summing it; the release sums.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        variant: str = "paper",
        mean: bool = False,
    ):
        check_variant(variant)
        encoders = {"pooled": Pooling(mean=mean, name="pooled")}
        if variant == RELEASED:
            config = released_config(config, activation="prelu")
            encoders = history_sum(product=False)
        super().__init__(schema, encoders, config, name="base_model")
