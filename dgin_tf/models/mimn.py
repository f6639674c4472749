"""Multi-channel user Interest Memory Network (Pi et al., KDD 2019) and its ablations.

Embedding, memory, tower (figure 3); the summed history of Embedding&MLP stands beside the memory, as
in the released code of this model and of all that it is compared with. Table 4 takes MIMN apart:
without utilization regularization and induction unit, with the one, with both; table 3 varies the
slots of the first.

`variant="released"` is the authors' code (UIC-Paper/MIMN), see `dgin_tf.ops.released_memory`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from dgin_tf.layers.auxiliary_loss import AuxiliaryLoss
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.memory.induction import MemoryInduction
from dgin_tf.layers.memory.multi_channel import MultiChannelMemory
from dgin_tf.layers.memory.released import ReleasedMemoryInterest, ReleasedTuringMemory
from dgin_tf.layers.memory.turing import TuringMemory
from dgin_tf.layers.memory.utilization import UtilizationRegularization
from dgin_tf.layers.pooling import Pooling
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.dien import event_width
from dgin_tf.models.released import HISTORY_SUM, RELEASED, check_variant, released_config
from dgin_tf.ops.released_memory import ReleasedStep
from dgin_tf.released.dien import ReleasedAuxiliaryLoss
from dgin_tf.schema import Schema


@tf.keras.utils.register_keras_serializable("dgin_tf")
class MemoryFamilyModel(CTRModel):
    """The sum of the history, one encoder, and the head of a variant.

    The released head has PReLU, no user's id, and otherwise what `released_config` says.
    """

    def __init__(
        self,
        schema: Schema,
        encoder: InterestEncoder,
        config: ModelConfig | None,
        variant: str = "paper",
    ):
        if variant == RELEASED:
            config = config or ModelConfig()
            without_id = dataclasses.replace(config, user_fields=config.user_fields or ())
            config = released_config(without_id, activation="prelu")
        encoders = {HISTORY_SUM: Pooling(name=HISTORY_SUM), "": encoder}
        super().__init__(schema, encoders, config)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class MIMN(MemoryFamilyModel):
    """A memory with balanced writing and an induction unit, Eqs. (1)-(9).

    Args:
      schema: the data.
      config: embedding and head.
      variant: "paper" or "released".
      slots: m; the paper tries 4, 6 and 8.
      units: width of controller and channels; None for the width of an embedded event.
      utilization_weight: lambda of Eq. (8); 0 leaves the regularization out, and Eqs. (5), (6).
      top_k: channels that an event updates, 0 for no induction unit; the released unit has one.
      auxiliary_weight: of DIEN's auxiliary loss, which the paper leaves out of its tables; 0 for
        none.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        variant: str = "paper",
        slots: int = 8,
        units: int | None = None,
        utilization_weight: float = 1e-3,
        top_k: int = 1,
        auxiliary_weight: float = 0.0,
    ):
        check_variant(variant)
        width = event_width(schema, config)
        units = units or width
        loss_class = ReleasedAuxiliaryLoss if variant == RELEASED else AuxiliaryLoss
        loss = loss_class(auxiliary_weight, name="auxiliary_loss") if auxiliary_weight else None
        encoder: InterestEncoder
        if variant == RELEASED:
            if top_k > 1:
                raise ValueError(
                    f"the released induction unit updates one channel; got top_k={top_k}."
                )
            step = ReleasedStep(
                width, balances=utilization_weight > 0, induces=top_k > 0, clears=True
            )
            memory = ReleasedTuringMemory(step, slots, units, name="memory")
            encoder = ReleasedMemoryInterest(memory, utilization_weight, loss, name="interest")
        else:
            utilization = UtilizationRegularization(utilization_weight, name="utilization")
            induction = MemoryInduction(units, top_k, name="induction") if top_k else None
            memory = TuringMemory(
                slots,
                width,
                units,
                utilization if utilization_weight else None,
                induction,
                name="memory",
            )
            encoder = MultiChannelMemory(memory, auxiliary_loss=loss, name="interest")
        super().__init__(schema, encoder, config, variant)

    @classmethod
    def wants_negatives(cls, arguments: Mapping[str, Any]) -> bool:
        """Where there is an auxiliary loss."""
        return arguments["auxiliary_weight"] > 0
