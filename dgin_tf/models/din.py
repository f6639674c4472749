"""Deep Interest Network (Zhou et al., KDD 2018): target attention over the history of behaviors."""

from collections.abc import Sequence

from dgin_tf.layers.activations import ActivationSpec
from dgin_tf.layers.interest_encoder import INTEREST
from dgin_tf.layers.target_attention import ActivationUnit, AttendedHistory, TargetAttention
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.schema import Schema


class DIN(CTRModel, registry_name="din"):
    """Section 4: embedding, attention of the candidate over the history, tower.

    Args:
      schema: the data.
      config: embedding and head.
      units: hidden layers of the activation unit.
      activation: of those layers.
      softmax: whether weights are normalized over time, which the paper's are not.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        units: Sequence[int] = (36,),
        activation: ActivationSpec = "dice",
        softmax: bool = False,
    ):
        unit = ActivationUnit(units, activation, name="unit")
        attention = TargetAttention(unit, softmax, name="attention")
        encoder = AttendedHistory(attention, name=INTEREST)
        super().__init__(schema, {INTEREST: encoder}, config, name="din")
        self.units = tuple(units)
        self.activation = activation
        self.softmax = softmax
