"""MIMN's interest (Pi et al., KDD 2019, figure 3): a memory kept for every user, read by a candidate.

The paper does not print what the right half reads of the memory. Here the candidate addresses the
slots as an event does (Eqs. 1-3), and attends to the channels; both are a request's work, and cost the
same however long the history was.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.auxiliary_loss import AuxiliaryLoss
from dgin_tf.layers.events import History, State, Target
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.memory.turing import TuringMemory
from dgin_tf.layers.state_attention import ProjectedAttention
from dgin_tf.layers.target_attention import attend
from dgin_tf.ops import memory as ops
from dgin_tf.ops.turing import CHANNELS, MEMORY, READ, USAGE


@tf.keras.utils.register_keras_serializable("dgin_tf")
class MultiChannelMemory(InterestEncoder):
    """A memory of a few slots and, with an induction unit, their channels.

    State: as of `TuringMemory`; its size does not depend on the history.

    Args:
      memory: reads the events.
      attention: of a candidate over the channels, a layer called like `TargetAttention`; None for
        `ProjectedAttention`. Without an induction unit there is none.
      auxiliary_loss: supervision of what every event reads by the event that comes next, or None.
        The paper leaves it out of its tables. It runs the events through the memory once more.
    """

    def __init__(
        self,
        memory: TuringMemory,
        attention: tf.keras.layers.Layer | None = None,
        auxiliary_loss: AuxiliaryLoss | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        memory, attention, auxiliary_loss = map(_restored, (memory, attention, auxiliary_loss))
        policy = self.dtype_policy
        self.memory = memory
        self.query = tf.keras.layers.Dense(memory.dim, "tanh", name="query", dtype=policy)
        if memory.induction is None:
            attention = None
        elif attention is None:
            attention = ProjectedAttention(memory.induction.units, name="attention", dtype=policy)
        self.attention = attention
        self.auxiliary_loss = auxiliary_loss
        self.auxiliary_loss_names = (
            *([] if memory.utilization is None else ["utilization"]),
            *([] if auxiliary_loss is None else ["auxiliary"]),
        )

    def encode(self, history: History, training: bool = False) -> State:
        """Reads the events into the memory as it is before any."""
        return self.memory(history.events, history.mask, training=training)[0]

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """What the candidate reads of memory and channels.

        Returns:
          `interest` [users, candidates, dim], or [users, candidates, dim + channel units], exactly
          zero for a user without events; `target_weights`, the slots' weights [users, candidates,
          slots], and with channels `attention` of that shape.
        """
        embedding, memory = target.embedding, state[MEMORY]
        query = tf.cast(self.query(embedding), memory.dtype)
        weights = ops.address(ops.cosine(query, memory))
        parts, found = [ops.read(weights, memory)], {"target_weights": weights}
        if self.attention is not None:
            channels = tf.cast(state[CHANNELS], embedding.dtype)
            slots = tf.ones(tf.shape(channels)[:2], tf.bool)
            found["attention"] = self.attention(
                embedding, channels, slots, query_mask=target.mask, training=training
            )
            parts.append(attend(found["attention"], channels))
        interest = tf.concat([tf.cast(part, embedding.dtype) for part in parts], -1)
        has_events = tf.reduce_sum(state[USAGE], -1)[:, tf.newaxis, tf.newaxis] > 0
        return {"interest": tf.where(has_events, interest, tf.zeros([], interest.dtype)), **found}

    def update(self, state: State, history: History) -> State:
        """Reads newer events into a stored memory."""
        return self.memory(history.events, history.mask, state)[0]

    def auxiliary_losses(self, state: State, history: History) -> dict[str, tf.Tensor]:
        """`utilization`, Eq. (8), and `auxiliary`, [users], weighted, where there are such losses."""
        losses = {}
        if self.memory.utilization is not None:
            losses["utilization"] = self.memory.utilization.loss(state[USAGE])
        if self.auxiliary_loss is not None and history.negatives is not None:
            _, traces = self.memory(history.events, history.mask, traced=[READ])
            losses["auxiliary"] = self.auxiliary_loss(
                traces[READ], history.events, history.negatives, history.mask
            )
        return losses

    def get_config(self) -> dict[str, Any]:
        serialize = tf.keras.layers.serialize
        parts = {"attention": self.attention, "auxiliary_loss": self.auxiliary_loss}
        return {
            **super().get_config(),
            "memory": serialize(self.memory),
            **{name: None if part is None else serialize(part) for name, part in parts.items()},
        }


def _restored(layer: Any) -> Any:
    """A layer from its config, or what is none."""
    return tf.keras.layers.deserialize(layer) if isinstance(layer, dict) else layer
