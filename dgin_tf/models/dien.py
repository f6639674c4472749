"""Deep Interest Evolution Network (Zhou et al., AAAI 2019) and the rows of its tables below it.

Embedding, interest extractor, interest evolution towards the candidate, tower (figure 1). Table 4
takes DIEN apart: two-layer GRU attention, then GRU + AIGRU, AGRU or AUGRU without the auxiliary loss,
then DIEN, which is the AUGRU with it.

`variant="released"` is the authors' code (mouna99/dien): the reset gate before the recurrent product,
attention on the keep gate, DIN's activation unit as attention, a network in the place of the inner
product in the auxiliary loss, and the head of `dgin_tf.models.released`.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from dgin_tf.layers.auxiliary_loss import RELEASED as RELEASED_MEAN
from dgin_tf.layers.auxiliary_loss import SUM, AuxiliaryLoss, click_net
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.interest_evolution import InterestEvolution, TwoLayerGRUAttention
from dgin_tf.layers.recurrent import AGRU, AIGRU, AUGRU, GRU
from dgin_tf.layers.state_attention import BilinearAttention, ProjectedAttention
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.released import RELEASED, check_variant, history_sum, released_config
from dgin_tf.released import recurrent as released
from dgin_tf.schema import Schema

INNER_PRODUCT, CLICK_NET = "inner_product", "click_net"
CELLS: dict[type, type] = {
    GRU: released.ReleasedGRU,
    AIGRU: released.ReleasedAIGRU,
    AGRU: released.ReleasedAGRU,
    AUGRU: released.ReleasedAUGRU,
}


def cell_of(cell_class: type, variant: str) -> type:
    """The cell of a variant."""
    return CELLS[cell_class] if variant == RELEASED else cell_class


def interest_evolution(
    units: int,
    variant: str = "paper",
    cell_class: type = AUGRU,
    auxiliary_loss: AuxiliaryLoss | None = None,
) -> InterestEvolution:
    """The encoder of a variant; see the module.

    Args:
      units: n_H, width of both recurrences.
      variant: "paper" or "released".
      cell_class: `AIGRU`, `AGRU` or `AUGRU`.
      auxiliary_loss: supervision of the interest states, or None.
    """
    check_variant(variant)
    attention = ProjectedAttention if variant == RELEASED else BilinearAttention
    return InterestEvolution(
        cell_of(GRU, variant)(units, name="extractor"),
        attention(units, name="attention"),
        cell_of(cell_class, variant)(units, name="evolution"),
        auxiliary_loss,
        name="interest",
    )


def auxiliary_loss(
    weight: float = 1.0,
    variant: str = "paper",
    score: str | None = None,
    reduce: str | None = None,
) -> AuxiliaryLoss:
    """The auxiliary loss of a variant.

    Args:
      weight: alpha of Eq. (8).
      variant: "paper" or "released".
      score: "inner_product" or "click_net"; None for the variant's.
      reduce: over time, see `AuxiliaryLoss`; None for the variant's.

    Raises:
      ValueError: for another score or reduction.
    """
    check_variant(variant)
    released = variant == RELEASED
    score = score or (CLICK_NET if released else INNER_PRODUCT)
    if score not in (INNER_PRODUCT, CLICK_NET):
        raise ValueError(f"score must be {INNER_PRODUCT!r} or {CLICK_NET!r}; got {score!r}.")
    return AuxiliaryLoss(
        weight,
        click_net(name="click_net") if score == CLICK_NET else None,
        reduce or (RELEASED_MEAN if released else SUM),
        name="auxiliary_loss",
    )


def event_width(schema: Schema, config: ModelConfig | None) -> int:
    """Width of an embedded event, which n_H must equal for the inner product of Eq. (7)."""
    return (config or ModelConfig()).embedding_dim * len(schema.paired_fields)


class _SequenceModel(CTRModel):
    """One encoder of the history and the head of a variant."""

    def __init__(
        self, schema: Schema, encoder: InterestEncoder, config: ModelConfig | None, variant: str
    ):
        encoders = {"interest": encoder}
        if variant == RELEASED:
            config = released_config(config)
            encoders = {**history_sum(), **encoders}
        super().__init__(schema, encoders, config)

    @property
    def interest_encoder(self) -> InterestEncoder:
        """The encoder; for all but the two-layer GRU an `InterestEvolution`."""
        return self.encoders["interest"]


@tf.keras.utils.register_keras_serializable("dgin_tf")
class AUGRUModel(_SequenceModel):
    """BaseModel + GRU + AUGRU: DIEN without its auxiliary loss.

    Args:
      schema: the data.
      config: embedding and head.
      variant: "paper" or "released".
      units: n_H, width of both recurrences; None for the width of an embedded event.
    """

    cell_class: type = AUGRU

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        variant: str = "paper",
        units: int | None = None,
    ):
        units = units or event_width(schema, config)
        encoder = interest_evolution(units, variant, self.cell_class)
        super().__init__(schema, encoder, config, variant)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class AGRUModel(AUGRUModel):
    """BaseModel + GRU + AGRU, Eq. (11); arguments as for `AUGRUModel`."""

    cell_class = AGRU


@tf.keras.utils.register_keras_serializable("dgin_tf")
class AIGRUModel(AUGRUModel):
    """BaseModel + GRU + AIGRU, Eq. (10); arguments as for `AUGRUModel`."""

    cell_class = AIGRU


@tf.keras.utils.register_keras_serializable("dgin_tf")
class DIEN(_SequenceModel):
    """GRU, AUGRU and the auxiliary loss, Eqs. (3)-(9), (12), (13).

    Args:
      schema: the data.
      config: embedding and head.
      variant: "paper" or "released".
      units: n_H, width of both recurrences; None for the width of an embedded event.
      auxiliary_weight: alpha of Eq. (8). The released target loss is halved, so that there a weight
        of 1 counts twice.
      auxiliary_score: "inner_product" or "click_net"; None for the variant's.
      auxiliary_reduce: over time, "sum", "mean_valid" or "released"; None for the variant's.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        variant: str = "paper",
        units: int | None = None,
        auxiliary_weight: float = 1.0,
        auxiliary_score: str | None = None,
        auxiliary_reduce: str | None = None,
    ):
        width = event_width(schema, config)
        loss = auxiliary_loss(auxiliary_weight, variant, auxiliary_score, auxiliary_reduce)
        if loss.score is None and units not in (None, width):
            raise ValueError(
                "the inner product of the auxiliary loss (Eq. 7) needs units equal to the width of "
                f"an embedded event, {width}; got {units}. Leave units out, or set auxiliary_score "
                f"to {CLICK_NET!r}."
            )
        encoder = interest_evolution(units or width, variant, auxiliary_loss=loss)
        super().__init__(schema, encoder, config, variant)

    @classmethod
    def wants_negatives(cls, arguments: Mapping[str, Any]) -> bool:
        """Always, for the auxiliary loss."""
        return True


@tf.keras.utils.register_keras_serializable("dgin_tf")
class TwoLayerGRUAttentionModel(_SequenceModel):
    """Two-layer GRU attention, after Parsana et al. (2018); arguments as for `AUGRUModel`.

    The paper does not say which attention; the released activation unit is taken in both variants.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        variant: str = "paper",
        units: int | None = None,
    ):
        check_variant(variant)
        units = units or event_width(schema, config)
        encoder = TwoLayerGRUAttention(
            cell_of(GRU, variant)(units, name="first"),
            cell_of(GRU, variant)(units, name="second"),
            name="interest",
        )
        super().__init__(schema, encoder, config, variant)
