"""SDIM (Cao et al., 2022): the long history as sums of what collides with the candidate."""

import tensorflow as tf

from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.multi_head_history import MultiHeadHistory
from dgin_tf.layers.search.sdim import HashedInterest
from dgin_tf.layers.short_and_long import ShortAndLong
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.schema import Schema


@tf.keras.utils.register_keras_serializable("dgin_tf")
class SDIM(CTRModel):
    """Target attention over the newest events, hash collisions with the earlier ones.

    Args:
      schema: the data.
      config: embedding and head.
      bits: m, random hyperplanes of all hash tables.
      tau: of one hash table.
      norm: of a bucket's sum, see `HashedInterest`.
      heads: of the attention over the newest events.
      short_events: how many of the newest events are read one by one.
      seed: of the random hyperplanes.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        bits: int = 48,
        tau: int = 3,
        norm: str = "l2",
        heads: int = 2,
        short_events: int = 50,
        seed: int = 1,
    ):
        short = MultiHeadHistory(MultiHeadAttention(heads, name="attention"), name="short")
        long = HashedInterest(bits, tau, norm, seed, name="long")
        interest = ShortAndLong(short, long, short_events, name="interest")
        super().__init__(schema, {"interest": interest}, config, name="sdim")
