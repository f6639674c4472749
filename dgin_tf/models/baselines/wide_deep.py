"""Wide&Deep (Cheng et al., 2016) in the form in which DIN and DIEN compare with it."""

from collections.abc import Mapping

import tensorflow as tf

from dgin_tf.layers.crosses import HistoryCross
from dgin_tf.layers.events import Target
from dgin_tf.layers.pooling import Pooling
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.schema import Schema

WIDE = "wide"


class WideDeep(CTRModel, registry_name="wide_deep"):
    """BaseModel plus a linear model of crosses: logit = wide + deep.

    The crosses are those of DIN's comparison, past event x candidate, for every field that both have
    (see `HistoryCross`).

    Args:
      schema: the data.
      config: embedding and head.
      buckets: rows of the table of crosses.
    """

    def __init__(self, schema: Schema, config: ModelConfig | None = None, buckets: int = 2**18):
        fields = [field.name for field in schema.paired_ids]
        cross = HistoryCross(fields, buckets, name=WIDE)
        encoders = {"pooled": Pooling(name="pooled"), WIDE: cross}
        super().__init__(schema, encoders, config, name="wide_deep")
        self.buckets = buckets

    def head(
        self, parts: Mapping[str, tf.Tensor], target: Target, training: bool = False
    ) -> tf.Tensor:
        """Logits [users, candidates]: wide + deep."""
        deep = dict(parts)
        wide = deep.pop(WIDE)[..., 0]  # a logit already, [users, candidates]
        return wide + super().head(deep, target, training=training)

    @property
    def wide_variables(self) -> list[tf.Variable]:
        """The wide part's weights, for an optimizer of their own (the paper's is FTRL)."""
        return [self.encoders[WIDE].table]

    @property
    def embedding_variables(self) -> list[tf.Variable]:
        """The tables, the table of crosses among them."""
        return [*super().embedding_variables, *self.wide_variables]
