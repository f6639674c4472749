"""Readers of the events that a search unit retrieves (SIM, section 3.3 and table 3)."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import ConfiguredLayer, as_layer
from dgin_tf.layers.events import State
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.search.unit import RetrievedEvents
from dgin_tf.layers.time_gap import GapEmbedding
from dgin_tf.ops import masking


class ExactSearchUnit(ConfiguredLayer):
    """Eqs. (3), (4): multi-head target attention over z_j = [e_j, e^t_j].

    Example:

      >>> target, events = tf.random.normal([2, 3, 8]), tf.random.normal([2, 3, 5, 8])
      >>> outputs = ExactSearchUnit()(target, RetrievedEvents(events, tf.fill([2, 3, 5], True)))
      >>> outputs["interest"].shape, outputs["attention"].shape
      (TensorShape([2, 3, 16]), TensorShape([2, 3, 2, 5]))

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
        self.attention = as_layer(attention) or MultiHeadAttention(
            project=False, scale=False, name="attention", dtype=self.dtype_policy
        )
        self.gap_embedding = as_layer(gap_embedding)

    @property
    def times(self) -> bool:
        """True where it needs the times of events."""
        return self.gap_embedding is not None

    def call(self, target: tf.Tensor, retrieval: RetrievedEvents, training: bool = False) -> State:
        """Reads the retrieved events of every candidate.

        Args:
          target: e_a, [users, candidates, dim].
          retrieval: the events.
          training: not needed here.

        Returns:
          `interest` U_lt [users, candidates, heads * width of z] and `attention`
          [users, candidates, heads, k]; both zero where no event was retrieved.

        Raises:
          ValueError: there is a gap embedding and there are no gaps.
        """
        events = retrieval.events
        if self.gap_embedding is not None:
            if retrieval.gaps is None:
                raise ValueError(
                    "this unit embeds time gaps, but there are no times; set times=True where the "
                    "events are stored."
                )
            gaps = self.gap_embedding(retrieval.gaps)
            events = tf.concat([events, tf.cast(gaps, events.dtype)], axis=-1)  # z_j
        interest, weights = self.attention(target, events, retrieval.mask)
        return {"interest": interest, "attention": weights}


class MeanReader(ConfiguredLayer):
    """Only the first stage (table 3): the mean of the retrieved events, without attention.

    Example:

      >>> target, events = tf.random.normal([2, 3, 8]), tf.random.normal([2, 3, 5, 8])
      >>> MeanReader()(target, RetrievedEvents(events, tf.fill([2, 3, 5], True)))["interest"].shape
      TensorShape([2, 3, 8])
    """

    def call(self, target: tf.Tensor, retrieval: RetrievedEvents, training: bool = False) -> State:
        """`interest` [users, candidates, dim], zero where no event was retrieved."""
        return {"interest": masking.masked_mean(retrieval.events, retrieval.mask)}
