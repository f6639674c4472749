"""Multi-channel user Interest Memory Network (Pi et al., KDD 2019) and its ablations.

Embedding, memory, tower (figure 3); the summed history of Embedding&MLP stands beside the memory, as
in the released code of this model and of all that it is compared with. Table 4 takes MIMN apart:
without utilization regularization and induction unit, with the one, with both; table 3 varies the
slots of the first.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dgin_tf.layers.auxiliary_loss import AuxiliaryLoss
from dgin_tf.layers.interest_encoder import INTEREST, InterestEncoder
from dgin_tf.layers.memory.ntm import (
    MemoryInduction,
    MultiChannelMemory,
    TuringMemory,
    UtilizationRegularization,
)
from dgin_tf.layers.pooling import Pooling
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.dien import event_width
from dgin_tf.schema import Schema

HISTORY_SUM = "history_sum"


class MemoryFamilyModel(CTRModel):
    """The sum of the history beside one encoder: MIMN and all that its table 2 compares it with.

    Args:
      schema: the data.
      encoder: of the history.
      config: embedding and head.
    """

    def __init__(self, schema: Schema, encoder: InterestEncoder, config: ModelConfig | None = None):
        encoders = {HISTORY_SUM: Pooling(name=HISTORY_SUM), INTEREST: encoder}
        super().__init__(schema, encoders, config)

    @property
    def encoder(self) -> InterestEncoder:
        """The encoder beside the sum of the history."""
        return self.encoders[INTEREST]


class MIMN(MemoryFamilyModel, registry_name="mimn"):
    """A memory with balanced writing and an induction unit, Eqs. (1)-(9).

    Args:
      schema: the data.
      config: embedding and head.
      memory: the encoder; None for that of the default `Settings`.
    """

    @dataclasses.dataclass(frozen=True)
    class Settings:
        """Settings of the memory.

        Attributes:
          slots: m; the paper tries 4, 6 and 8.
          units: width of controller and channels; None for the width of an embedded event.
          utilization_weight: lambda of Eq. (8); 0 leaves the regularization out, and Eqs. (5), (6).
          top_k: channels that an event updates, 0 for no induction unit.
          auxiliary_weight: of DIEN's auxiliary loss, which the paper leaves out of its tables; 0 for
            none.
        """

        slots: int = 8
        units: int | None = None
        utilization_weight: float = 1e-3
        top_k: int = 1
        auxiliary_weight: float = 0.0

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        memory: InterestEncoder | None = None,
    ):
        memory = memory or self.blocks(schema, config, self.Settings())["memory"]
        super().__init__(schema, memory, config)

    @classmethod
    def blocks(cls, schema, config, settings):
        """The memory."""
        width = event_width(schema, config)
        units = settings.units or width
        utilization = induction = loss = None
        if settings.utilization_weight:
            utilization = UtilizationRegularization(settings.utilization_weight, name="utilization")
        if settings.top_k:
            induction = MemoryInduction(units, settings.top_k, name="induction")
        if settings.auxiliary_weight:
            loss = AuxiliaryLoss(settings.auxiliary_weight, name="auxiliary_loss")
        memory = TuringMemory(settings.slots, width, units, utilization, induction, name="memory")
        return {"memory": MultiChannelMemory(memory, auxiliary_loss=loss, name=INTEREST)}

    @property
    def memory(self) -> InterestEncoder:
        """The encoder of the history."""
        return self.encoder

    @classmethod
    def wants_negatives(cls, arguments: Mapping[str, Any]) -> bool:
        """True where there is an auxiliary loss."""
        return arguments["auxiliary_weight"] > 0
