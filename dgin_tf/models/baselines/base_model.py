"""BaseModel, or Embedding&MLP (DIN, section 4.2): pooled histories and a tower."""

from dgin_tf.layers.pooling import Pooling
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.schema import Schema


class BaseModel(CTRModel, registry_name="base_model"):
    """The candidate beside the sum (or mean) of the history, the same for every candidate.

    Args:
      schema: the data.
      config: embedding and head.
      mean: whether to average the history instead of summing it.
    """

    def __init__(self, schema: Schema, config: ModelConfig | None = None, mean: bool = False):
        encoders = {"pooled": Pooling(mean, name="pooled")}
        super().__init__(schema, encoders, config, name="base_model")
        self.mean = mean
