"""Deep Interest Evolution Network (Zhou et al., AAAI 2019) and the rows of its tables below it.

Embedding, interest extractor, interest evolution towards the candidate, tower (figure 1). Table 4
takes DIEN apart: two-layer GRU attention, then GRU + AIGRU, AGRU or AUGRU without the auxiliary loss,
then DIEN, which is the AUGRU with it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dgin_tf.layers.auxiliary_loss import AuxiliaryLoss
from dgin_tf.layers.configured import as_layer
from dgin_tf.layers.interest_encoder import INTEREST, InterestEncoder
from dgin_tf.layers.interest_evolution import InterestEvolution, TwoLayerGRUAttention
from dgin_tf.layers.recurrent import AGRU, AIGRU, AUGRU, GRU
from dgin_tf.layers.state_attention import BilinearAttention
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.schema import Schema


def event_width(schema: Schema, config: ModelConfig | None) -> int:
    """Width of an embedded event, which n_H must equal for the inner product of Eq. (7)."""
    return (config or ModelConfig()).embedding_dim * len(schema.paired_fields)


class _SequenceModel(CTRModel):
    """Models of one recurrent encoder.

    Attributes:
      extractor_class, attention_class, cell_class: layers of the encoder.
    """

    extractor_class: type = GRU
    attention_class: type = BilinearAttention
    cell_class: type = AUGRU

    @classmethod
    def make_encoder(
        cls, units: int, auxiliary_loss: AuxiliaryLoss | None = None
    ) -> InterestEvolution:
        """Interest extractor, attention and interest evolving layer of one width.

        Args:
          units: n_H.
          auxiliary_loss: supervision of the interest states, or None.
        """
        extractor = cls.extractor_class(units, name="extractor")
        attention = cls.attention_class(units, name="attention")
        cell = cls.cell_class(units, name="evolution")
        return InterestEvolution(extractor, attention, cell, auxiliary_loss, name=INTEREST)

    @property
    def interest_encoder(self) -> InterestEncoder:
        """The encoder; for all but the two-layer GRU an `InterestEvolution`."""
        return self.encoders[INTEREST]


class AUGRUModel(_SequenceModel, registry_name="augru"):
    """BaseModel + GRU + AUGRU: DIEN without its auxiliary loss.

    Args:
      schema: the data.
      config: embedding and head.
      units: n_H, width of both recurrences; None for the width of an embedded event.
    """

    def __init__(self, schema: Schema, config: ModelConfig | None = None, units: int | None = None):
        encoder = self.make_encoder(units or event_width(schema, config))
        super().__init__(schema, {INTEREST: encoder}, config)
        self.units = units


class AGRUModel(AUGRUModel, registry_name="agru"):
    """BaseModel + GRU + AGRU, Eq. (11); arguments as for `AUGRUModel`."""

    cell_class: type = AGRU


class AIGRUModel(AUGRUModel, registry_name="aigru"):
    """BaseModel + GRU + AIGRU, Eq. (10); arguments as for `AUGRUModel`."""

    cell_class: type = AIGRU


class DIEN(_SequenceModel, registry_name="dien"):
    """GRU, AUGRU and the auxiliary loss, Eqs. (3)-(9), (12), (13).

    Args:
      schema: the data.
      config: embedding and head.
      units: n_H, width of both recurrences; None for the width of an embedded event.
      auxiliary_loss: supervision of the interest states; None for the paper's.

    Raises:
      ValueError: the auxiliary loss scores by the inner product of Eq. (7), and `units` is not the
        width of an embedded event.
    """

    @dataclasses.dataclass(frozen=True)
    class Settings:
        """Settings of the blocks of DIEN.

        Attributes:
          units: n_H, width of both recurrences; None for the width of an embedded event.
          auxiliary_weight: alpha of Eq. (8).
        """

        units: int | None = None
        auxiliary_weight: float = 1.0

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        units: int | None = None,
        auxiliary_loss: AuxiliaryLoss | None = None,
    ):
        width = event_width(schema, config)
        auxiliary_loss = as_layer(auxiliary_loss, AuxiliaryLoss) or self.default_auxiliary_loss()
        if auxiliary_loss.score is None and units not in (None, width):
            raise ValueError(
                "the inner product of the auxiliary loss (Eq. 7) needs units equal to the width of "
                f"an embedded event, {width}; got {units}. Leave units out, or score by a network: "
                "auxiliary_loss=AuxiliaryLoss(score=click_net())."
            )
        encoder = self.make_encoder(units or width, auxiliary_loss)
        super().__init__(schema, {INTEREST: encoder}, config)
        self.units = units

    @property
    def auxiliary_loss(self) -> AuxiliaryLoss:
        """The encoder's supervision."""
        return self.interest_encoder.auxiliary_loss

    @classmethod
    def blocks(cls, schema, config, settings):
        """The auxiliary loss."""
        return {"auxiliary_loss": cls.default_auxiliary_loss(settings.auxiliary_weight)}

    @staticmethod
    def default_auxiliary_loss(weight: float = 1.0) -> AuxiliaryLoss:
        """Eq. (7) with its weight of Eq. (8)."""
        return AuxiliaryLoss(weight, name="auxiliary_loss")

    @classmethod
    def wants_negatives(cls, arguments: Mapping[str, Any]) -> bool:
        """Always, for the auxiliary loss."""
        return True


class TwoLayerGRUAttentionModel(_SequenceModel, registry_name="two_layer_gru_attention"):
    """Two-layer GRU attention, after Parsana et al. (2018); arguments as for `AUGRUModel`."""

    def __init__(self, schema: Schema, config: ModelConfig | None = None, units: int | None = None):
        width = units or event_width(schema, config)
        first, second = (self.extractor_class(width, name=name) for name in ("first", "second"))
        encoder = TwoLayerGRUAttention(first, second, name=INTEREST)
        super().__init__(schema, {INTEREST: encoder}, config)
        self.units = units
