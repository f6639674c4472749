"""GRU4Rec and ARNN as click-through-rate models, baselines of MIMN (Pi et al., KDD 2019, table 2)."""

from dgin_tf.layers.hidden_states import AttendedHiddenStates, LastHiddenState
from dgin_tf.layers.interest_encoder import INTEREST
from dgin_tf.layers.recurrent import GRU
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.dien import event_width
from dgin_tf.models.mimn import MemoryFamilyModel
from dgin_tf.schema import Schema


class GRU4Rec(MemoryFamilyModel, registry_name="gru4rec"):
    """The last state of a GRU beside the summed history (after Hidasi et al., 2016).

    Attributes:
      gru_class, encoder_class: layers of the encoder.

    Args:
      schema: the data.
      config: embedding and head.
      units: width of the GRU; None for the width of an embedded event.
    """

    gru_class: type = GRU
    encoder_class: type = LastHiddenState

    def __init__(self, schema: Schema, config: ModelConfig | None = None, units: int | None = None):
        gru = self.gru_class(units or event_width(schema, config), name="gru")
        super().__init__(schema, self.encoder_class(gru, name=INTEREST), config)
        self.units = units


class ARNN(GRU4Rec, registry_name="arnn"):
    """GRU4Rec that also attends to all states, which are as wide as an embedded event.

    Args:
      schema: the data.
      config: embedding and head.
    """

    encoder_class = AttendedHiddenStates

    def __init__(self, schema: Schema, config: ModelConfig | None = None):
        super().__init__(schema, config)
