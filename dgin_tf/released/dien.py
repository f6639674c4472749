"""DIEN and its ablations as in the authors' code (mouna99/dien).

It differs from the paper in four places: the reset gate acts before the recurrent product; AUGRU's
attention scales the keep gate; attention is DIN's activation unit, not bilinear; and the auxiliary
loss scores by a network, not by an inner product.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.auxiliary_loss import SUM, AuxiliaryLoss, click_net
from dgin_tf.layers.state_attention import ProjectedAttention
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.dien import DIEN, AGRUModel, AIGRUModel, AUGRUModel, TwoLayerGRUAttentionModel
from dgin_tf.models.rocket_launching import RocketLaunching
from dgin_tf.released.head import ReleasedHead
from dgin_tf.released.recurrent import ReleasedAGRU, ReleasedAIGRU, ReleasedAUGRU, ReleasedGRU
from dgin_tf.schema import Schema


class ReleasedAuxiliaryLoss(AuxiliaryLoss):
    """Eq. (7) scored by `click_net` and averaged over users and all steps but the first.

    Padded steps count in the mean, so that the loss depends on how far a batch was padded. The released
    loss of the target is halved; beside it a weight of 1 has the effect of 2.

    Args:
      weight: alpha of Eq. (8).
      score: see `AuxiliaryLoss`; None for `click_net`.

    Example:

      >>> states, events, negatives = tf.random.normal([3, 2, 5, 4])
      >>> ReleasedAuxiliaryLoss()(states, events, negatives).shape
      TensorShape([2])
    """

    def __init__(
        self, weight: float = 1.0, score: tf.keras.layers.Layer | None = None, **kwargs: Any
    ):
        super().__init__(weight, score or click_net(name="click_net"), SUM, **kwargs)

    def _count(self, pairs, dtype):
        # All steps of the padded length but the last, which has no next event.
        return tf.maximum(tf.cast(tf.shape(pairs)[1] - 1, dtype), 1.0)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["reduce"]  # there is no choice
        return config


class AUGRUReleased(AUGRUModel, ReleasedHead, registry_name="augru_released"):
    """BaseModel + GRU + AUGRU; arguments as for `AUGRUModel`."""

    extractor_class, attention_class, cell_class = ReleasedGRU, ProjectedAttention, ReleasedAUGRU


class AGRUReleased(AGRUModel, ReleasedHead, registry_name="agru_released"):
    """BaseModel + GRU + AGRU; arguments as for `AUGRUModel`."""

    extractor_class, attention_class, cell_class = ReleasedGRU, ProjectedAttention, ReleasedAGRU


class AIGRUReleased(AIGRUModel, ReleasedHead, registry_name="aigru_released"):
    """BaseModel + GRU + AIGRU; arguments as for `AUGRUModel`."""

    extractor_class, attention_class, cell_class = ReleasedGRU, ProjectedAttention, ReleasedAIGRU


class DIENReleased(DIEN, ReleasedHead, registry_name="dien_released"):
    """GRU, AUGRU and the auxiliary loss; arguments as for `DIEN`."""

    extractor_class, attention_class, cell_class = ReleasedGRU, ProjectedAttention, ReleasedAUGRU

    @staticmethod
    def default_auxiliary_loss(weight: float = 1.0) -> AuxiliaryLoss:
        return ReleasedAuxiliaryLoss(weight, name="auxiliary_loss")


class TwoLayerGRUAttentionReleased(
    TwoLayerGRUAttentionModel, ReleasedHead, registry_name="two_layer_gru_attention_released"
):
    """Two-layer GRU attention; arguments as for `AUGRUModel`."""

    extractor_class = ReleasedGRU


class RocketLaunchingReleased(RocketLaunching, registry_name="rocket_launching_released"):
    """Rocket Launching of two released DIENs; arguments as for `RocketLaunching`."""

    @staticmethod
    def make_net(schema: Schema, config: ModelConfig | None, units: int) -> DIEN:
        return DIENReleased(schema, config, units)
