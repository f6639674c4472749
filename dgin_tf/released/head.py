"""The head that all models of the authors' TF1 code (mouna99/dien) share, apart from their encoder.

It reads [user, target, sum of the history, target * sum, interest], where the sum runs over padding
too; its batch normalization is only a scale and a shift; its Dice uses the current batch's statistics
at test time as well; it ends in two outputs and a softmax; and its loss averages over samples times
two classes, half of the paper's.
"""

import dataclasses

from dgin_tf.layers.pooling import Pooling
from dgin_tf.losses import OFFICIAL_HALF
from dgin_tf.models.base import ModelConfig

HISTORY_SUM = "history_sum"


def released_config(
    config: ModelConfig | None = None, activation: str = "dice_released"
) -> ModelConfig:
    """The released head and loss, with the sizes of a config.

    Args:
      config: sizes and user fields; None in the place of fields is the user's id, () is none.
      activation: "dice_released" for DIN and DIEN, "prelu" for their baselines.
    """
    config = config or ModelConfig()
    return dataclasses.replace(
        config,
        user_fields=("user_id",) if config.user_fields is None else config.user_fields,
        activation=activation,
        normalization="affine_only",
        two_way=True,
        loss_scale=OFFICIAL_HALF,
    )


def history_sum(product: bool = True) -> dict[str, Pooling]:
    """The encoder of [sum, target * sum], to stand in front of the model's own encoder.

    Args:
      product: whether target * sum is there; the released "DNN" and the deep part of its Wide&Deep
        go without.
    """
    return {HISTORY_SUM: Pooling(product=product, count_padding=True, name=HISTORY_SUM)}
