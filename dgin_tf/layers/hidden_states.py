"""A GRU's hidden states as interests: GRU4Rec (Hidasi et al., 2016) and ARNN, as MIMN compares them.

GRU4Rec reads the last state alone; ARNN, which the MIMN paper (section 5.2) defines in one sentence,
also sums all states under the candidate's attention.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import as_layer
from dgin_tf.layers.events import MASK, History, State, Target, append_in_time
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.recurrent import GRU
from dgin_tf.layers.target_attention import read_each, sigmoid_attention

LAST, STATES = "last", "states"


class LastHiddenState(InterestEncoder):
    """The last state h_T, the same for every candidate.

    State: `last` [users, units].

    Args:
      gru: the recurrence.

    Example:

      >>> events, mask = tf.random.normal([2, 5, 4]), tf.constant([[True] * 5, [True] * 2 + [False] * 3])
      >>> LastHiddenState(GRU(8))(tf.random.normal([2, 3, 4]), (events, mask))["interest"].shape
      TensorShape([2, 3, 8])
    """

    def __init__(self, gru: GRU, **kwargs: Any):
        super().__init__(**kwargs)
        self.gru = as_layer(gru)

    def encode(self, history: History, training: bool = False) -> State:
        """Runs the GRU over the history."""
        _, last, _ = self.run(history, training)
        return {LAST: last}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """`interest` h_T, [users, candidates, units]."""
        candidates = tf.shape(target.embedding)[1]
        # [users, units] -> [users, candidates, units]
        return {"interest": tf.repeat(state[LAST][:, tf.newaxis], candidates, axis=1)}

    def update(self, state: State, history: History) -> State:
        """Continues the GRU over newer events."""
        _, last = self.gru(history.events, history.mask, initial_state=state[LAST])
        return {LAST: last}

    def run(self, history: History, training: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """All states [users, time, units], the last one [users, units], and the mask of the states."""
        states, last = self.gru(history.events, history.mask, training=training)
        return states, last, history.mask


class AttendedHiddenStates(LastHiddenState):
    """The last state h_T beside the attended sum of a_t h_t over time.

    The paper does not say whether the attention depends on the candidate; in the authors' code it
    does: DIN's activation unit, with a softmax over real events, for which states are as wide as
    events.

    State: `last` [users, units], `states` h_t [users, time, units], `mask` bool [users, time].

    Args:
      gru: the recurrence.
      attention: a layer called like `TargetAttention`; None for that of the authors' code.

    Example:

      >>> events, mask = tf.random.normal([2, 5, 4]), tf.constant([[True] * 5, [True] * 2 + [False] * 3])
      >>> encoder = AttendedHiddenStates(GRU(4))
      >>> encoder(tf.random.normal([2, 3, 4]), (events, mask))["interest"].shape
      TensorShape([2, 3, 8])
    """

    def __init__(self, gru: GRU, attention: tf.keras.layers.Layer | None = None, **kwargs: Any):
        super().__init__(gru, **kwargs)
        self.attention = as_layer(attention) or sigmoid_attention(
            (80, 40), "attention", self.dtype_policy
        )

    def encode(self, history: History, training: bool = False) -> State:
        """Runs the GRU over the history and stores its states."""
        states, last, mask = self.run(history, training)
        return {LAST: last, STATES: states, MASK: mask}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """`interest` [users, candidates, 2 units] and `attention` [users, candidates, time]."""
        layers = {"attention": (self.attention, state[STATES])}
        outputs = read_each(layers, state[MASK], target, training)
        last = super().interest(state, target, training)["interest"]
        # [h_T, sum of a_t h_t]
        return {**outputs, "interest": tf.concat([last, outputs["interest"]], -1)}

    def update(self, state: State, history: History) -> State:
        """Continues the GRU over newer events and appends their states."""
        newer, last = self.gru(history.events, history.mask, initial_state=state[LAST])
        states = {STATES: state[STATES], MASK: state[MASK]}
        return {LAST: last, **append_in_time(states, {STATES: newer, MASK: history.mask})}
