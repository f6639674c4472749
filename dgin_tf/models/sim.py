"""Search-based Interest Model (Pi et al., CIKM 2020) and the rows of its table 3 below it.

A general search unit retrieves the k events of a long history that are about the candidate, an exact
search unit reads them by multi-head attention, and DIN reads the newest events (figure 1, section 4.1).
Hard search goes by category, soft search by embeddings. "Only first stage" takes the mean of the
retrieved events. The authors' code is `dgin_tf.released.sim`.
"""

import dataclasses

import tensorflow as tf

from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.search.hard import HardSearch
from dgin_tf.layers.search.readers import ExactSearchUnit, MeanReader
from dgin_tf.layers.search.soft import SoftSearch
from dgin_tf.layers.search.unit import SearchedInterest, SearchUnit
from dgin_tf.layers.time_gap import GapEmbedding
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.short_and_long import DINSettings, ShortAndLongModel, din_history
from dgin_tf.schema import CANDIDATE, HISTORY, TIMESTAMP, Schema


class SIM(ShortAndLongModel):
    """Figure 1: the newest events read one by one, the earlier ones searched and read.

    Any search unit goes with any reader. Soft search by the paper's other option, an index for inner
    products, is `SIM(schema, config, ALSHSearch(k=50))`.

    Args:
      schema: the data.
      config: embedding and head.
      search: general search unit, a `SearchUnit`.
      reader: of the retrieved events, see `SearchedInterest`; None for the `ExactSearchUnit`.
      short: encoder of the newest events; None for DIN.
      short_events: how many events are the newest.

    Raises:
      ValueError: the reader needs times, and the schema has none of events and candidates.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None,
        search: SearchUnit,
        reader: tf.keras.layers.Layer | None = None,
        short: InterestEncoder | None = None,
        short_events: int = 10,
    ):
        reader = reader or ExactSearchUnit(name="reader")
        times = getattr(reader, "times", False)
        if times:
            _check_times(schema)
        long = SearchedInterest(search, reader, times=times, name="long")
        super().__init__(schema, config, short or din_history(name="short"), long, short_events)

    @property
    def search(self) -> SearchUnit:
        """The general search unit."""
        return self.long.unit

    @property
    def reader(self) -> tf.keras.layers.Layer:
        """The reader of the retrieved events."""
        return self.long.reader


@dataclasses.dataclass(frozen=True)
class HardSettings(DINSettings):
    """Settings of hard search and of what reads the newest events beside it.

    Attributes:
      k: how many events are retrieved at most. The paper serves 200 and trains on "hundreds".
      field: the attribute to search by.
    """

    k: int = 50
    field: str = "category_id"


@dataclasses.dataclass(frozen=True)
class SoftSettings(DINSettings):
    """Settings of soft search and of what reads the newest events beside it.

    Attributes:
      k: how many events are retrieved at most.
      dim: d_p, width of the comparison; None for that of an event.
      auxiliary_weight: alpha of Eq. (5).
      sample: number of random events that the auxiliary network is trained on; see `SoftSearch`.
    """

    k: int = 50
    dim: int | None = None
    auxiliary_weight: float = 1.0
    sample: int | None = None


class SIMHard(SIM, registry_name="sim_hard"):
    """SIM by hard search: the newest k events of the candidate's category."""

    @dataclasses.dataclass(frozen=True)
    class Settings(HardSettings):
        """Settings of the blocks.

        Attributes:
          backfill: see `HardSearch`.
          time: "with Timeinfo", whether the time since each retrieved event is embedded.
        """

        backfill: bool = False
        time: bool = False

    @classmethod
    def blocks(cls, schema, config, settings):
        """Hard search, the exact search unit, and DIN."""
        check_field(schema, settings.field)
        search = HardSearch(settings.k, settings.field, settings.backfill, name="search")
        return _beside_short(search, _exact_search_unit(settings), settings)


class SIMSoft(SIM, registry_name="sim_soft"):
    """SIM by soft search: the k events of the highest inner product.

    With `search` passed in another unit takes the place of brute force:
    `MODELS["sim_soft"](schema, config, ALSHSearch(k=50))`.
    """

    @dataclasses.dataclass(frozen=True)
    class Settings(SoftSettings):
        """Settings of the blocks.

        Attributes:
          time: "with Timeinfo", whether the time since each retrieved event is embedded.
        """

        time: bool = False

    @classmethod
    def blocks(cls, schema, config, settings):
        """Soft search, whose network has the head's form, the exact search unit, and DIN."""
        return _beside_short(_soft_search(config, settings), _exact_search_unit(settings), settings)


class SIMHardFirstStage(SIM, registry_name="sim_hard_first_stage"):
    """ "Only first stage (hard)": the mean of the newest k events of the candidate's category."""

    Settings = HardSettings

    @classmethod
    def blocks(cls, schema, config, settings):
        """Hard search, a mean, and DIN."""
        check_field(schema, settings.field)
        search = HardSearch(settings.k, settings.field, name="search")
        return _beside_short(search, MeanReader(name="reader"), settings)


class SIMSoftFirstStage(SIM, registry_name="sim_soft_first_stage"):
    """ "Only first stage (soft)": the mean of the k events of the highest inner product.

    The paper computes these products once, from embeddings that were trained before; here they are
    trained along with the model, as in `SIMSoft`.
    """

    Settings = SoftSettings

    @classmethod
    def blocks(cls, schema, config, settings):
        """Soft search, a mean, and DIN."""
        return _beside_short(_soft_search(config, settings), MeanReader(name="reader"), settings)


def check_field(schema: Schema, field: str) -> None:
    """Raises ValueError unless events and candidates share the field, as hard search needs."""
    names = [shared_field.name for shared_field in schema.paired_ids]
    if field not in names:
        raise ValueError(
            f"hard search goes by a field that events and candidates share, one of {names}; got "
            f"{field!r}."
        )


def _beside_short(search, reader, settings):
    return {"search": search, "reader": reader, "short": settings.short_encoder()}


def _soft_search(config, settings):
    network, weight = config.tower("network"), settings.auxiliary_weight
    return SoftSearch(settings.k, settings.dim, network, weight, settings.sample, name="search")


def _exact_search_unit(settings):
    attention = MultiHeadAttention(settings.heads, project=False, scale=False, name="attention")
    gap_embedding = GapEmbedding(name="gap_embedding") if settings.time else None
    return ExactSearchUnit(attention, gap_embedding, name="reader")


def _check_times(schema):
    roles = next((field.roles for field in schema.fields if field.name == TIMESTAMP), ())
    if not {HISTORY, CANDIDATE} <= set(roles):
        raise ValueError(
            "time=True needs times of events and candidates; the schema has none. Prepare the data "
            "with timestamps, or leave time out."
        )
