"""Deep Interest Network (Zhou et al., KDD 2018): interest is what a history says about a candidate."""

from collections.abc import Sequence

import tensorflow as tf

from dgin_tf.layers.activations import ActivationSpec
from dgin_tf.layers.target_attention import ActivationUnit, AttendedHistory, TargetAttention
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.released import RELEASED, check_variant, history_sum, released_config
from dgin_tf.schema import Schema


@tf.keras.utils.register_keras_serializable("dgin_tf")
class DIN(CTRModel):
    """Section 4: embedding, attention of the candidate over the history, tower.

    `variant="released"` is `Model_DIN` of mouna99/dien: an 80-40 sigmoid activation unit with a
    softmax over time, and the head of `dgin_tf.models.released`.

    Args:
      schema: the data.
      config: embedding and head.
      variant: "paper" or "released".
      units: hidden layers of the activation unit; (36,) in the paper, (80, 40) in the release.
      activation: of those layers; "dice" in the paper, "sigmoid" in the release.
      softmax: whether weights are normalized over time; not in the paper, but in the release.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        variant: str = "paper",
        units: Sequence[int] | None = None,
        activation: ActivationSpec | None = None,
        softmax: bool | None = None,
    ):
        check_variant(variant)
        released = variant == RELEASED
        unit = ActivationUnit(
            units or ((80, 40) if released else (36,)),
            activation or ("sigmoid" if released else "dice"),
            name="unit",
        )
        attention = TargetAttention(
            unit, softmax=released if softmax is None else softmax, name="attention"
        )
        encoders = {"interest": AttendedHistory(attention, name="interest")}
        if released:
            config = released_config(config)
            encoders = {**history_sum(), **encoders}
        super().__init__(schema, encoders, config, name="din")
