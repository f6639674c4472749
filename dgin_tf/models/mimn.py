"""Multi-channel user Interest Memory Network (Pi et al., KDD 2019) and its ablations.

Embedding, memory, tower (figure 3); the summed history of Embedding&MLP stands beside the memory. The
authors' code gives it to every model of their tables, DIN and DIEN too, which here is
`ModelConfig.history_sum`: the rows of one table have it all or none. Table 4 takes MIMN apart:
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
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.dien import event_width
from dgin_tf.schema import Schema


class MemoryFamilyModel(CTRModel):
    """The sum of the history beside one encoder: MIMN and all that its table 2 compares it with.

    Args:
      schema: the data.
      encoder: of the history.
      config: embedding and head.
    """

    def __init__(self, schema: Schema, encoder: InterestEncoder, config: ModelConfig | None = None):
        config = dataclasses.replace(config or ModelConfig(), history_sum=True)
        super().__init__(schema, {INTEREST: encoder}, config)

    @property
    def encoder(self) -> InterestEncoder:
        """The encoder beside the sum of the history."""
        return self.encoders[INTEREST]


@dataclasses.dataclass(frozen=True)
class MemorySettings:
    """Settings of MIMN's memory that the paper and the released code have.

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


@dataclasses.dataclass(frozen=True)
class PaperMemorySettings(MemorySettings):
    """Settings of the memory by the paper's equations.

    Attributes:
      normalize_usage, stop_gradient: of the regularization, see `UtilizationRegularization`.
      sharpness: beta of the addresses, see `TuringMemory`; 0 for learned ones.
    """

    normalize_usage: bool = False
    stop_gradient: bool = False
    sharpness: float = 1.0


class MIMN(MemoryFamilyModel, registry_name="mimn"):
    """A memory with balanced writing and an induction unit, Eqs. (1)-(9).

    Args:
      schema: the data.
      config: embedding and head.
      memory: the encoder; None for that of the default `Settings`.
    """

    Settings: type = PaperMemorySettings

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
            utilization = UtilizationRegularization(
                settings.utilization_weight,
                settings.normalize_usage,
                settings.stop_gradient,
                name="utilization",
            )
        if settings.top_k:
            induction = MemoryInduction(units, settings.top_k, name="induction")
        if settings.auxiliary_weight:
            loss = AuxiliaryLoss(settings.auxiliary_weight, name="auxiliary_loss")
        memory = TuringMemory(
            settings.slots,
            width,
            units,
            utilization,
            induction,
            sharpness=settings.sharpness or None,
            name="memory",
        )
        return {"memory": MultiChannelMemory(memory, auxiliary_loss=loss, name=INTEREST)}

    @property
    def memory(self) -> InterestEncoder:
        """The encoder of the history."""
        return self.encoder

    @classmethod
    def wants_negatives(cls, arguments: Mapping[str, Any]) -> bool:
        """True where there is an auxiliary loss."""
        return arguments["auxiliary_weight"] > 0
