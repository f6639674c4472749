"""NINN, reference [33] of the DGIN paper: interests from records without an order.

We take it for Zhao et al. (2021), "A Non-sequential Approach to Deep User Interest Model for CTR
Prediction", arXiv 2104.06312, which the reference's place and DGIN's sentence on it fit.
"""

from collections.abc import Sequence

from dgin_tf.layers.partitioned_interest import PartitionedInterest
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.dien import event_width
from dgin_tf.schema import Schema


class NINN(CTRModel, registry_name="ninn"):
    """Different items, DIN's weights, sums by category, and self-attention between the sums.

    Only the paper's abstract is known to us: that behaviors are records by key, that an attention
    network weighs them, that they are partitioned by category, and that the partitions interact. The
    architecture is our reading of it. Records hold neither counts nor times here, as DGIN says of
    NINN that it does not supplement such information. All behavior types are one history.

    Args:
      schema: the data.
      config: embedding and head.
      field: what partitions share, a field that events and candidates have.
      parts: P, how many partitions are kept, the largest; all others are one more.
      units: hidden layers of DIN's activation unit.
      heads: of the self-attention and of the candidate's attention to partitions.

    Raises:
      ValueError: events do not have the field, or no items.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        field: str = "category_id",
        parts: int = 50,
        units: Sequence[int] = (36,),
        heads: int = 2,
    ):
        names = [paired.name for paired in schema.paired_ids]
        if field not in names or "item_id" not in names:
            raise ValueError(
                f"partitions of items need item_id and a field that events and candidates share, one "
                f"of {names}; got {field!r}."
            )
        dim = event_width(schema, config)
        encoder = PartitionedInterest(
            dim, field=field, parts=parts, units=units, heads=heads, name="interest"
        )
        super().__init__(schema, {"interest": encoder}, config, name="ninn")
        self.field = field
        self.parts = parts
        self.units = tuple(units)
        self.heads = heads
