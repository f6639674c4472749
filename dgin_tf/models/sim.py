"""Search-based Interest Model (Pi et al., CIKM 2020) and the rows of its table 3 below it.

A general search unit chooses the k of a long history that are about the candidate, an exact search
unit reads them by multi-head attention, and DIN reads the newest events (figure 1, section 4.1).
Hard search goes by category, soft search by embeddings. "Only first stage" takes the mean of what
was found.

`variant="released"` is the authors' code (tttwwy/sim): soft search by plain inner products, hard
search without a limit, one head of inner products and a mean as reader, DIN with an 80-40 sigmoid
unit and a softmax, and a head with PReLU and only a scale and shift of its input. Its times, which it
has for a data set that was not published, are not reproduced.
"""

import dataclasses

import tensorflow as tf

from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.search.hard import HardSearch
from dgin_tf.layers.search.readers import ExactSearchUnit, MeanOfFound, ReleasedExactSearchUnit
from dgin_tf.layers.search.soft import ReleasedSoftSearch, SoftSearch
from dgin_tf.layers.search.unit import SearchedInterest, SearchUnit
from dgin_tf.layers.short_and_long import ShortAndLong
from dgin_tf.layers.target_attention import ActivationUnit, AttendedHistory, TargetAttention
from dgin_tf.layers.time_gap import GapEmbedding
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.released import RELEASED, check_variant, released_config
from dgin_tf.schema import CANDIDATE, HISTORY, TIMESTAMP, Schema


def din_history(softmax: bool = False, variant: str = "paper") -> AttendedHistory:
    """DIN's attention over a history, as a part of larger models.

    Args:
      softmax: whether weights are normalized over time; the release always does.
      variant: "paper" or "released".
    """
    released = variant == RELEASED
    unit = ActivationUnit(
        (80, 40) if released else (36,), "sigmoid" if released else "dice", name="unit"
    )
    return AttendedHistory(TargetAttention(unit, softmax=softmax or released, name="attention"))


class _SearchModel(CTRModel):
    """A short part read by DIN, a long one searched and read."""

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None,
        variant: str,
        unit: SearchUnit,
        reader: tf.keras.layers.Layer,
        short_events: int,
        softmax: bool,
        time: bool = False,
    ):
        if time:
            _check_times(schema)
        encoder = ShortAndLong(
            din_history(softmax, variant),
            SearchedInterest(unit, reader, times=time),
            short_events,
            name="interest",
        )
        if variant == RELEASED:
            config = _released_head(config)
        super().__init__(schema, {"interest": encoder}, config)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class SIMHard(_SearchModel):
    """SIM by hard search: the newest k events of the candidate's category.

    Args:
      schema: the data.
      config: embedding and head.
      variant: "paper" or "released".
      k: how many events are found at most. The paper serves 200 and trains on "hundreds"; the
        release has no limit here and ignores this.
      field: the attribute to search by.
      backfill: see `HardSearch`.
      short_events: how many of the newest events DIN reads; the others are searched.
      softmax: whether DIN's weights are normalized.
      heads: q, of the exact search unit.
      time: "with Timeinfo", whether the time since each found event is embedded.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        variant: str = "paper",
        k: int = 50,
        field: str = "category_id",
        backfill: bool = False,
        short_events: int = 10,
        softmax: bool = False,
        heads: int = 2,
        time: bool = False,
    ):
        unit = _hard_search(schema, variant, k, field, backfill)
        reader = _reader(variant, heads, time)
        super().__init__(schema, config, variant, unit, reader, short_events, softmax, time)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class SIMSoft(_SearchModel):
    """SIM by soft search: the k events of the highest inner product.

    Args:
      schema: the data.
      config: embedding and head; the auxiliary network has the head's form.
      variant: "paper" or "released".
      k: how many events are found at most; 50 in the release.
      dim: d_p, width of the comparison; None for that of an event. Not in the release.
      auxiliary_weight: alpha of Eq. (5); 1 in the release.
      sample: on how many random events the auxiliary network is trained; see `SoftSearch`.
      short_events: how many of the newest events DIN reads; the others are searched.
      softmax: whether DIN's weights are normalized.
      heads: q, of the exact search unit.
      time: "with Timeinfo", whether the time since each found event is embedded.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        variant: str = "paper",
        k: int = 50,
        dim: int | None = None,
        auxiliary_weight: float = 1.0,
        sample: int | None = None,
        short_events: int = 10,
        softmax: bool = False,
        heads: int = 2,
        time: bool = False,
    ):
        unit = _soft_search(config, variant, k, dim, auxiliary_weight, sample)
        reader = _reader(variant, heads, time)
        super().__init__(schema, config, variant, unit, reader, short_events, softmax, time)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class SIMHardFirstStage(_SearchModel):
    """ "Only first stage (hard)": the mean of the newest k events of the candidate's category.

    Arguments as for `SIMHard`.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        k: int = 50,
        field: str = "category_id",
        short_events: int = 10,
        softmax: bool = False,
    ):
        unit = _hard_search(schema, "paper", k, field, False)
        super().__init__(schema, config, "paper", unit, MeanOfFound(), short_events, softmax)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class SIMSoftFirstStage(_SearchModel):
    """ "Only first stage (soft)": the mean of the k events of the highest inner product.

    The paper computes these products once, from embeddings that were trained before; here they are
    trained along with the model, as in `SIMSoft`, whose arguments it has.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        k: int = 50,
        dim: int | None = None,
        auxiliary_weight: float = 1.0,
        sample: int | None = None,
        short_events: int = 10,
        softmax: bool = False,
    ):
        unit = _soft_search(config, "paper", k, dim, auxiliary_weight, sample)
        super().__init__(schema, config, "paper", unit, MeanOfFound(), short_events, softmax)


def _hard_search(schema: Schema, variant: str, k: int, field: str, backfill: bool) -> HardSearch:
    check_variant(variant)
    known = [paired.name for paired in schema.paired_fields]
    if field not in known:
        raise ValueError(
            f"hard search goes by a field that events and candidates share, one of {known}; got "
            f"{field!r}."
        )
    k = schema.max_history if variant == RELEASED else k
    return HardSearch(k, field, backfill, name="unit")


def _soft_search(
    config: ModelConfig | None,
    variant: str,
    k: int,
    dim: int | None,
    auxiliary_weight: float,
    sample: int | None,
) -> SearchUnit:
    check_variant(variant)
    if variant == RELEASED:
        return ReleasedSoftSearch(k, name="unit")
    network = (config or ModelConfig()).tower("network")
    return SoftSearch(k, dim, network, auxiliary_weight, sample, name="unit")


def _reader(variant: str, heads: int, time: bool) -> tf.keras.layers.Layer:
    if variant == RELEASED:
        if time:
            raise ValueError(
                "the released variant has no times here; use variant='paper' with time=True."
            )
        return ReleasedExactSearchUnit(name="reader")
    attention = MultiHeadAttention(heads, project=False, scale=False, name="attention")
    gaps = GapEmbedding(name="gap_embedding") if time else None
    return ExactSearchUnit(attention, gaps, name="reader")


def _check_times(schema: Schema) -> None:
    roles = next((field.roles for field in schema.fields if field.name == TIMESTAMP), ())
    if not {HISTORY, CANDIDATE} <= set(roles):
        raise ValueError(
            "time=True needs times of events and candidates; the schema has none. Prepare the data "
            "with timestamps, or leave time out."
        )


def _released_head(config: ModelConfig | None) -> ModelConfig:
    """The released head, which unlike DIEN's has no user id."""
    config = config or ModelConfig()
    fields = config.user_fields
    return dataclasses.replace(released_config(config, "prelu"), user_fields=fields)
