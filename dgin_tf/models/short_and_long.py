"""The frame of all models of long histories: one encoder reads the newest events, another the earlier."""

from typing import Any

from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.short_and_long import ShortAndLong
from dgin_tf.layers.target_attention import ActivationUnit, AttendedHistory, TargetAttention
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.schema import Schema


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
