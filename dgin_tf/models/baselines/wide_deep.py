"""Wide&Deep (Cheng et al., 2016) in the form in which DIN and DIEN compare with it."""

from collections.abc import Mapping

import tensorflow as tf

from dgin_tf.layers.crosses import HistoryCross
from dgin_tf.layers.events import Target
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.pooling import Pooling
from dgin_tf.layers.tower import Tower
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.released import (
    HISTORY_SUM,
    RELEASED,
    check_variant,
    history_sum,
    released_config,
)
from dgin_tf.schema import Schema

WIDE = "wide"


@tf.keras.utils.register_keras_serializable("dgin_tf")
class WideDeep(CTRModel):
    """BaseModel plus a linear model of crosses: logit = wide + deep.

    The crosses are those of DIN's comparison, past event x candidate, for every field that both have
    (see `HistoryCross`). `variant="released"` is `Model_WideDeep` of mouna99/dien, which has no
    crosses: its wide part is linear in [e_a, sum, e_a * sum], two outputs added to the deep ones.

    Args:
      schema: the data.
      config: embedding and head.
      variant: "paper" or "released".
      buckets: rows of the table of crosses.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        variant: str = "paper",
        buckets: int = 2**18,
    ):
        check_variant(variant)
        fields = [field.name for field in schema.paired_fields]
        encoders: dict[str, InterestEncoder]
        if variant == RELEASED:
            config = released_config(config, activation="prelu")
            encoders = dict(history_sum())
        else:
            cross = HistoryCross(fields, buckets, name=WIDE)
            encoders = {"pooled": Pooling(name="pooled"), WIDE: cross}
        super().__init__(schema, encoders, config, name="wide_deep")
        self.variant = variant
        if variant == RELEASED:
            self.wide = Tower((), normalization="none", two_way=True, name=WIDE)

    def head(
        self, parts: Mapping[str, tf.Tensor], target: Target, training: bool = False
    ) -> tf.Tensor:
        """Logits [users, candidates]: wide + deep."""
        deep = dict(parts)
        if self.variant == RELEASED:
            pooled, product = tf.split(deep.pop(f"{HISTORY_SUM}_interest"), 2, axis=-1)
            deep["pooled"] = pooled
            wide = self.wide(tf.concat([parts["target"], pooled, product], axis=-1))
        else:
            wide = deep.pop(WIDE)[..., 0]
        return wide + super().head(deep, target, training=training)

    @property
    def wide_variables(self) -> list[tf.Variable]:
        """The wide part's weights, for an optimizer of their own (the paper's is FTRL)."""
        if self.variant == RELEASED:
            return self.wide.trainable_variables
        return [self.encoders[WIDE].table]

    @property
    def embedding_variables(self) -> list[tf.Variable]:
        """The tables, the table of crosses among them."""
        crosses = [] if self.variant == RELEASED else self.wide_variables
        return [*super().embedding_variables, *crosses]
