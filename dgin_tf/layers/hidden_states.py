"""A GRU's hidden states as interests: GRU4Rec (Hidasi et al., 2016) and ARNN, as MIMN compares them.

GRU4Rec keeps the last state alone; ARNN, which the MIMN paper (section 5.2) defines in one sentence,
also sums all states under the candidate's attention. Their released code lets the GRU run over the
padding, which it has on the left.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.events import History, State, Target
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.recurrent import GRU
from dgin_tf.layers.target_attention import ActivationUnit, TargetAttention, attend
from dgin_tf.ops.event_order import padding_first

LAST = "last"
STATES = "states"
MASK = "mask"


@tf.keras.utils.register_keras_serializable("dgin_tf")
class LastHiddenState(InterestEncoder):
    """h_T, the same for every candidate.

    State: `last` [users, units].

    Args:
      gru: the recurrence; a released one reads padding, on the left, like events of zeros.
    """

    def __init__(self, gru: GRU, **kwargs: Any):
        super().__init__(**kwargs)
        self.gru = tf.keras.layers.deserialize(gru) if isinstance(gru, dict) else gru

    def encode(self, history: History, training: bool = False) -> State:
        """Runs the GRU over the history."""
        return {LAST: self._run(history, training)[1]}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """`interest` h_T, [users, candidates, units]."""
        del training
        candidates = tf.shape(target.embedding)[1]
        return {"interest": tf.repeat(state[LAST][:, tf.newaxis], candidates, axis=1)}

    def update(self, state: State, history: History) -> State:
        """Runs the GRU on over newer events."""
        _, last = self.gru(history.events, history.mask, initial_state=state[LAST])
        return {LAST: last}

    @property
    def is_incremental(self) -> bool:
        """Whether `update` ends where `encode` does: not where the GRU has read padding."""
        return self.gru.reset_after

    def _run(self, history: History, training: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Mask [users, time], last state [users, units] and all states [users, time, units]."""
        events, mask = history.events, history.mask
        if not self.gru.reset_after:
            events, mask = padding_first(events, mask)
        real = None if not self.gru.reset_after else mask
        states, last = self.gru(events, real, training=training)
        return mask, last, states

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gru": tf.keras.layers.serialize(self.gru)}


@tf.keras.utils.register_keras_serializable("dgin_tf")
class AttendedHiddenStates(LastHiddenState):
    """h_T beside the sum over time of a_t h_t.

    The paper does not say whether the attention knows the candidate; in the released code it does:
    DIN's activation unit, with a softmax over real events. States are as wide as events therefore.

    State: `last` [users, units], `states` h_t [users, time, units], `mask` bool [users, time].

    Args:
      gru: the recurrence.
      attention: a layer called like `TargetAttention`; None for that of the released code.
    """

    def __init__(self, gru: GRU, attention: tf.keras.layers.Layer | None = None, **kwargs: Any):
        super().__init__(gru, **kwargs)
        if isinstance(attention, dict):
            attention = tf.keras.layers.deserialize(attention)
        self.attention = attention or released_attention(self.dtype_policy)

    def encode(self, history: History, training: bool = False) -> State:
        """Runs the GRU over the history and keeps its states."""
        mask, last, states = self._run(history, training)
        return {LAST: last, STATES: states, MASK: mask}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """`interest` [users, candidates, 2 units] and `attention` [users, candidates, time]."""
        weights = self.attention(
            target.embedding,
            state[STATES],
            state[MASK],
            query_mask=target.mask,
            training=training,
        )
        last = super().interest(state, target, training)["interest"]
        interest = tf.concat([last, attend(weights, state[STATES])], -1)
        return {"interest": interest, "attention": weights}

    def update(self, state: State, history: History) -> State:
        """Runs the GRU on over newer events and appends their states."""
        newer, last = self.gru(history.events, history.mask, initial_state=state[LAST])
        return {
            LAST: last,
            STATES: tf.concat([state[STATES], newer], 1),
            MASK: tf.concat([state[MASK], history.mask], 1),
        }

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "attention": tf.keras.layers.serialize(self.attention)}


def released_attention(policy: Any = None) -> TargetAttention:
    """The `din_attention` of the released code: 80 and 40 sigmoid units, softmax."""
    unit = ActivationUnit((80, 40), "sigmoid", name="unit", dtype=policy)
    return TargetAttention(unit, softmax=True, name="attention", dtype=policy)
