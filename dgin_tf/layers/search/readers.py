"""What is read from the events that a search unit found (SIM, section 3.3 and table 3)."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.events import State
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.search.unit import FoundEvents
from dgin_tf.layers.time_gap import GapEmbedding
from dgin_tf.ops import masking


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ExactSearchUnit(tf.keras.layers.Layer):
    """Eqs. (3), (4): multi-head target attention over z_j = [e_j, e^t_j].

    Args:
      attention: None for the paper's: heads that sum the events themselves, scores without a scale.
      gap_embedding: e^t_j, the embedded time from each event to the candidate; None for none.
    """

    def __init__(
        self,
        attention: MultiHeadAttention | None = None,
        gap_embedding: GapEmbedding | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        deserialize = tf.keras.layers.deserialize
        if attention is None:
            attention = MultiHeadAttention(
                project=False, scale=False, name="attention", dtype=self.dtype_policy
            )
        self.attention = deserialize(attention) if isinstance(attention, dict) else attention
        is_config = isinstance(gap_embedding, dict)
        self.gap_embedding = deserialize(gap_embedding) if is_config else gap_embedding

    def call(self, target: tf.Tensor, found: FoundEvents, training: bool = False) -> State:
        """Reads the found events of every candidate.

        Args:
          target: e_a, [users, candidates, dim].
          found: what was found.
          training: not needed here.

        Returns:
          `interest` U_lt [users, candidates, heads * width of z] and `attention`
          [users, candidates, heads, k]; both zero where nothing was found.

        Raises:
          ValueError: there is a gap embedding and there are no gaps.
        """
        del training
        events = found.events
        if self.gap_embedding is not None:
            if found.gaps is None:
                raise ValueError(
                    "this unit embeds time gaps, but no times are kept; set times=True where the "
                    "events are stored."
                )
            gaps = self.gap_embedding(found.gaps)
            events = tf.concat([events, tf.cast(gaps, events.dtype)], axis=-1)
        interest, weights = self.attention(target, events, found.mask)
        return {"interest": interest, "attention": weights}

    def get_config(self) -> dict[str, Any]:
        gaps, serialize = self.gap_embedding, tf.keras.layers.serialize
        return {
            **super().get_config(),
            "attention": serialize(self.attention),
            "gap_embedding": None if gaps is None else serialize(gaps),
        }


@tf.keras.utils.register_keras_serializable("dgin_tf")
class MeanOfFound(tf.keras.layers.Layer):
    """Only the first stage (table 3): the mean of the found events, without attention."""

    def call(self, target: tf.Tensor, found: FoundEvents, training: bool = False) -> State:
        """`interest` [users, candidates, dim], zero where nothing was found."""
        del target, training
        return {"interest": masking.masked_mean(found.events, found.mask)}


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ReleasedExactSearchUnit(tf.keras.layers.Layer):
    """The released reader: one head of plain inner products, and a mean that counts one too many.

    Its softmax over nothing is uniform over the whole history; here it is zero.
    """

    def call(self, target: tf.Tensor, found: FoundEvents, training: bool = False) -> State:
        """`interest` [users, candidates, 2 * dim] and `attention` [users, candidates, 1, k]."""
        del training
        asked = tf.cast(target[:, :, tf.newaxis], found.events.dtype)
        scores = tf.matmul(asked, found.events, transpose_b=True)
        weights = masking.masked_softmax(scores, found.mask[:, :, tf.newaxis])
        attended = tf.matmul(tf.cast(weights, found.events.dtype), found.events)[:, :, 0]
        count = tf.math.count_nonzero(found.mask, axis=-1, keepdims=True, dtype=tf.int32)
        mean = masking.masked_sum(found.events, found.mask) / tf.cast(count + 1, attended.dtype)
        return {"interest": tf.concat([attended, mean], axis=-1), "attention": weights}
