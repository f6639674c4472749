"""The frame of all models of long histories: one encoder reads the newest events, another the earlier."""

import dataclasses
from typing import Any

from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.multi_head_history import MultiHeadHistory
from dgin_tf.layers.short_and_long import ShortAndLong
from dgin_tf.layers.target_attention import ActivationUnit, AttendedHistory, TargetAttention
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.schema import Schema


@dataclasses.dataclass(frozen=True)
class ShortSettings:
    """Settings of the newest events and of what reads them.

    Attributes:
      short_events: how many of the newest events are read one by one.
      short_reader: "din" for DIN's unit, "heads" for multi-head attention, projected and scaled. Each
        paper's own is its model's default; a comparison of searches has one for all of its rows.
      softmax: whether the weights of DIN's unit are normalized.
      heads: of all multi-head attentions.
    """

    short_events: int = 50
    short_reader: str = "heads"
    softmax: bool = False
    heads: int = 2

    def short_encoder(self) -> InterestEncoder:
        """The encoder of the newest events; raises ValueError for an unknown `short_reader`."""
        if self.short_reader not in ("din", "heads"):
            raise ValueError(f"short_reader must be 'din' or 'heads'; got {self.short_reader!r}.")
        if self.short_reader == "din":
            return din_history(self.softmax, name="short")
        return MultiHeadHistory(MultiHeadAttention(self.heads, name="attention"), name="short")


@dataclasses.dataclass(frozen=True)
class DINSettings(ShortSettings):
    """Settings of models in which DIN reads the newest events, of which SIM has ten on Amazon."""

    short_events: int = 10
    short_reader: str = "din"


class ShortAndLongModel(CTRModel):
    """Two encoders of the two parts of a history, whose interests stand side by side in the head.

    Subclasses of a paper have `Settings` and `blocks`.

    Args:
      schema: the data.
      config: embedding and head.
      short: encoder of the newest events.
      long: encoder of the events before them.
      short_events: how many events are the newest.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None,
        short: InterestEncoder,
        long: InterestEncoder,
        short_events: int = 50,
    ):
        interest = ShortAndLong(short, long, short_events, name="interest")
        super().__init__(schema, {"interest": interest}, config)

    @property
    def short(self) -> InterestEncoder:
        """The encoder of the newest events."""
        return self.encoders["interest"].short

    @property
    def long(self) -> InterestEncoder:
        """The encoder of the events before them."""
        return self.encoders["interest"].long

    @property
    def short_events(self) -> int:
        """Number of events in the short part."""
        return self.encoders["interest"].short_events


def din_history(softmax: bool = False, **kwargs: Any) -> AttendedHistory:
    """DIN's attention over a history, as a part of larger models.

    Args:
      softmax: whether weights are normalized over time.
      **kwargs: of the layer, such as its name.
    """
    unit = ActivationUnit((36,), "dice", name="unit")
    return AttendedHistory(TargetAttention(unit, softmax=softmax, name="attention"), **kwargs)
