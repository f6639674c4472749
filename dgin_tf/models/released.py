"""What all models of the authors' released TF1 code (mouna99/dien) share, apart from their encoder.

Their head reads [user, target, sum of the history, target * sum, interest], where the sum runs over
padding too; its batch normalization is only a scale and a shift; its Dice uses the current batch's
statistics at test time as well; it ends in two outputs and a softmax; and its loss averages over
samples times two classes, half of the paper's. A model offers this assembly as `variant="released"`.
"""

import dataclasses

from dgin_tf.losses import OFFICIAL_HALF
from dgin_tf.models.base import ModelConfig

PAPER, RELEASED = "paper", "released"

HISTORY_SUM = "history_sum"


def check_variant(variant: str) -> None:
    """Raises ValueError unless `variant` is "paper" or "released"."""
    if variant not in (PAPER, RELEASED):
        raise ValueError(f"variant must be {PAPER!r} or {RELEASED!r}; got {variant!r}.")


def released_config(config: ModelConfig | None, activation: str) -> ModelConfig:
    """The released head and loss, with a config's sizes.

    Args:
      config: sizes and user fields; the user's id is taken where they are None, but not where
        they are ().
      activation: of the head.
    """
    config = config or ModelConfig()
    user_fields = config.user_fields
    return dataclasses.replace(
        config,
        user_fields=("user_id",) if user_fields is None else user_fields,
        activation=activation,
        normalization="affine_only",
        two_way=True,
        loss_scale=OFFICIAL_HALF,
    )
