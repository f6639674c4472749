"""GRU4Rec and ARNN as click-through-rate models, baselines of MIMN (Pi et al., KDD 2019, table 2)."""

import tensorflow as tf

from dgin_tf.layers.hidden_states import AttendedHiddenStates, LastHiddenState
from dgin_tf.layers.recurrent import GRU
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.dien import cell_of, event_width
from dgin_tf.models.mimn import MemoryFamilyModel
from dgin_tf.models.released import check_variant
from dgin_tf.schema import Schema


@tf.keras.utils.register_keras_serializable("dgin_tf")
class GRU4Rec(MemoryFamilyModel):
    """The last state of a GRU beside the summed history (after Hidasi et al., 2016).

    `variant="released"` has the GRU of TensorFlow 1, which reads padding too, and the released head.

    Args:
      schema: the data.
      config: embedding and head.
      variant: "paper" or "released".
      units: width of the GRU; None for the width of an embedded event.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        variant: str = "paper",
        units: int | None = None,
    ):
        check_variant(variant)
        gru = cell_of(GRU, variant)(units or event_width(schema, config), name="gru")
        super().__init__(schema, LastHiddenState(gru, name="interest"), config, variant)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ARNN(MemoryFamilyModel):
    """GRU4Rec that also attends to all states, which are as wide as an embedded event.

    Args:
      schema: the data.
      config: embedding and head.
      variant: "paper" or "released", as for `GRU4Rec`.
    """

    def __init__(self, schema: Schema, config: ModelConfig | None = None, variant: str = "paper"):
        check_variant(variant)
        gru = cell_of(GRU, variant)(event_width(schema, config), name="gru")
        super().__init__(schema, AttendedHiddenStates(gru, name="interest"), config, variant)
