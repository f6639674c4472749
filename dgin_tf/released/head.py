"""The head that all models of the authors' TF1 code (mouna99/dien) share, apart from their encoder.

It reads [user, target, sum of the history, target * sum, interest], where the sum runs over padding
too; its batch normalization is only a scale and a shift; its Dice uses the current batch's statistics
at test time as well; it ends in two outputs and a softmax; and its loss averages over samples times
two classes, half of the paper's.
"""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from dgin_tf.layers.activations import dice
from dgin_tf.layers.configured import ConfiguredLayer
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.pooling import Pooling
from dgin_tf.losses import OFFICIAL_HALF
from dgin_tf.models.base import HISTORY_SUM, CTRModel, ModelConfig
from dgin_tf.ops import masking
from dgin_tf.schema import Schema

RELEASED_DICE = "dgin_tf>ReleasedDice"  # the name under which Keras knows the layer


class ReleasedDice(ConfiguredLayer):
    """The Dice of DIEN's and MIMN's code.

    It differs from `dgin_tf.layers.activations.Dice` in three ways: the current batch's statistics at
    test time too, so that a score depends on the other rows of its batch; statistics over padding;
    and eps = 1e-9 added inside the mean of squares and once more to the deviation.

    Example:

      >>> ReleasedDice()(tf.constant([[-1.0, 2.0], [1.0, 4.0]])).shape
      TensorShape([2, 2])
    """

    def build(self, input_shape):
        dim = tf.TensorShape(input_shape)[-1]
        self.alpha = self.add_float_weight("alpha", [dim], "zeros")
        super().build(input_shape)

    def call(self, inputs, mask=None, training=False):
        """Activates each channel of [..., dim]; `mask` and `training` are unused."""
        mean, variance, _ = masking.masked_moments(inputs, None)
        inverse_deviation = 1.0 / (tf.sqrt(variance + 1e-9) + 1e-9)
        return dice(inputs, tf.cast(self.alpha, mean.dtype), mean, inverse_deviation)


def released_config(
    config: ModelConfig | None = None,
    activation: str = RELEASED_DICE,
    user_fields: tuple[str, ...] = ("user_id",),
) -> ModelConfig:
    """The released head and loss, with the sizes of a config.

    Args:
      config: sizes and user fields.
      activation: `RELEASED_DICE` for DIN and DIEN, "prelu" for their baselines and for MIMN.
      user_fields: those of a config that has None in their place.
    """
    config = config or ModelConfig()
    return dataclasses.replace(
        config,
        user_fields=user_fields if config.user_fields is None else config.user_fields,
        activation=activation,
        normalization="affine_only",
        two_way=True,
        loss_scale=OFFICIAL_HALF,
    )


def history_sum(product: bool = True) -> dict[str, Pooling]:
    """An encoder of [sum, target * sum], which comes before the model's own encoders.

    Args:
      product: whether target * sum is part of it; the released "DNN" and the deep part of its Wide&Deep
        have the sum alone.
    """
    return {HISTORY_SUM: Pooling(product=product, count_padding=True, name=HISTORY_SUM)}


class ReleasedHead(CTRModel):
    """The released head around the encoders of a paper's model.

    The second base class of a released model, as in `class DINReleased(DIN, ReleasedHead)`: DIN's
    constructor passes its encoders to this one.
    """

    def __init__(
        self,
        schema: Schema,
        encoders: Mapping[str, InterestEncoder],
        config: ModelConfig | None = None,
        name: str | None = None,
    ):
        super().__init__(schema, {**history_sum(), **encoders}, released_config(config), name)
