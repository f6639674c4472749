"""BaseModel, PNN and Wide&Deep of the authors' code (mouna99/dien): PReLU, and sums over padding."""

from collections.abc import Mapping

import tensorflow as tf

from dgin_tf.layers.events import Target
from dgin_tf.layers.tower import Tower
from dgin_tf.models.base import HISTORY_SUM, CTRModel, ModelConfig
from dgin_tf.released.head import history_sum, released_config
from dgin_tf.schema import Schema


class BaseModelReleased(CTRModel, registry_name="base_model_released"):
    """`Model_DNN`: the candidate beside the sum of the history.

    Attributes:
      product: whether target * sum joins the head's inputs.

    Args:
      schema: the data.
      config: embedding and head.
    """

    product = False

    def __init__(self, schema: Schema, config: ModelConfig | None = None):
        super().__init__(schema, history_sum(self.product), released_config(config, "prelu"))


class PNNReleased(BaseModelReleased, registry_name="pnn_released"):
    """`Model_PNN`, which has no product layer: BaseModel with target * sum as one more input."""

    product = True


class WideDeepReleased(PNNReleased, registry_name="wide_deep_released"):
    """`Model_WideDeep`, which has no crosses: its wide part is linear in [e_a, sum, e_a * sum].

    The wide part has two outputs, which are added to the deep ones; the deep part is BaseModel's.
    """

    def __init__(self, schema: Schema, config: ModelConfig | None = None):
        super().__init__(schema, config)
        self.wide = Tower((), normalization="none", two_way=True, name="wide")

    def head(
        self, parts: Mapping[str, tf.Tensor], target: Target, training: bool = False
    ) -> tf.Tensor:
        """Logits [users, candidates]: wide + deep."""
        wide = self.wide(tf.concat([parts["target"], parts[HISTORY_SUM]], axis=-1))
        # The deep part goes without target * sum, the second half of the encoder's interest.
        pooled, _ = tf.split(parts[HISTORY_SUM], 2, axis=-1)
        return wide + super().head({**parts, HISTORY_SUM: pooled}, target, training=training)

    @property
    def wide_variables(self) -> list[tf.Variable]:
        """The wide part's weights, for an optimizer of their own."""
        return self.wide.trainable_variables
