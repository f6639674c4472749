"""TEM4CTR (Zhang et al., CIKM 2023): exposures that were not clicked, aligned in time with the clicks.

Its abstract and the authors' code (zhy99426/TEM4CTR) are known to us, not the paper's text. The data
sets of the DGIN paper have no exposures; events of the other behavior types take their place.
"""

from collections.abc import Sequence

from dgin_tf.layers.aligned_events import AlignedEvents
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.behavior_types import clicks_first
from dgin_tf.schema import Schema


class TEM4CTR(CTRModel, registry_name="tem4ctr"):
    """Clicks read with the other events around them; DIN with a softmax where there is one type.

    The code's preprocessing replaces a candidate that was not clicked by a random item, which is not
    followed here; that nothing later than the candidate is seen holds for all histories.

    Args:
      schema: the data.
      config: embedding and head.
      click: name of the behavior type that is a click; None for the schema's first.
      clicks: T, how many of the newest clicks are read.
      nearest: R, how many other events on either side of a click.
      units: hidden layers of the attention networks.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        click: str | None = None,
        clicks: int = 30,
        nearest: int = 5,
        units: Sequence[int] = (80, 40),
    ):
        config = config or ModelConfig()
        own, *others = clicks_first(schema, click, config.behavior_types)
        encoder = AlignedEvents(
            own, [n for ids in others for n in ids], clicks, nearest, units, name="interest"
        )
        super().__init__(schema, {"interest": encoder}, config, name="tem4ctr")
        self.click = click
        self.clicks = clicks
        self.nearest = nearest
        self.units = tuple(units)
