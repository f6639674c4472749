"""The interest extractor and interest evolving layers of DIEN (Zhou et al., 2019), figure 1.

A GRU extracts an interest state from every event, once per user; these states are all that serving
stores. For each candidate, attention weights the states by their relevance to it, and a second
recurrence evolves them into the final interest. The paper's baseline "two layer GRU attention" (after
Parsana et al., 2018) runs both recurrences per user, and the candidate attends to the second's states.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.auxiliary_loss import AuxiliaryLoss
from dgin_tf.layers.configured import as_layer
from dgin_tf.layers.events import MASK, History, State, Target, append_in_time
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.recurrent import AUGRU, GRU
from dgin_tf.layers.state_attention import BilinearAttention, ProjectedAttention
from dgin_tf.layers.target_attention import read_each

INTEREST_STATES = "interest_states"
FIRST_LAYER_STATE = "first_layer_state"


class InterestEvolution(InterestEncoder):
    """Interest extractor, attention and interest evolving layer.

    State: `interest_states` h_t [users, time, units] and `mask` bool [users, time]. Padded steps
    repeat the state before them. `update` appends, so that the real events of an updated state need
    not be contiguous.

    Args:
      extractor: the GRU of Eqs. (3)-(6).
      attention: a layer called like `TargetAttention`; None for Eq. (9).
      cell: the evolving recurrence, `AIGRU`, `AGRU` or `AUGRU`; None for an AUGRU as wide as the
        extractor.
      auxiliary_loss: supervision of the interest states by the next events, Eq. (7), or None.

    Example:

      >>> events, mask = tf.random.normal([2, 5, 4]), tf.constant([[True] * 5, [True] * 2 + [False] * 3])
      >>> outputs = InterestEvolution(GRU(8))(tf.random.normal([2, 3, 4]), (events, mask))
      >>> outputs["interest"].shape, outputs["attention"].shape
      (TensorShape([2, 3, 8]), TensorShape([2, 3, 5]))
    """

    def __init__(
        self,
        extractor: GRU,
        attention: tf.keras.layers.Layer | None = None,
        cell: tf.keras.layers.Layer | None = None,
        auxiliary_loss: AuxiliaryLoss | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.extractor = as_layer(extractor)
        units, policy = self.extractor.units, self.dtype_policy
        self.attention = as_layer(attention) or BilinearAttention(
            units, name="attention", dtype=policy
        )
        self.cell = as_layer(cell) or AUGRU(units, name="evolution", dtype=policy)
        self.auxiliary_loss = as_layer(auxiliary_loss)
        self.auxiliary_loss_names = () if auxiliary_loss is None else ("auxiliary",)

    def encode(self, history: History, training: bool = False) -> State:
        """Extracts the interest states, once per user."""
        # h_t, Eqs. (3)-(6)
        states, _ = self.extractor(history.events, mask=history.mask, training=training)
        return {INTEREST_STATES: states, MASK: history.mask}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Evolves the interests towards every candidate.

        Returns:
          `interest` h'_T [users, candidates, units] and `attention` a_t [users, candidates, time].
        """
        attention = self.attend(state, target, training=training)  # Eq. (9)
        # h'_T, Eqs. (12), (13); candidates share the projection of the interest states.
        final = self.cell(state[INTEREST_STATES], attention, mask=state[MASK], training=training)
        return {"interest": final, "attention": attention}

    def attend(self, state: State, target: Target, training: bool = False) -> tf.Tensor:
        """Attention a_t of every candidate, Eq. (9), [users, candidates, time]."""
        states, mask = state[INTEREST_STATES], state[MASK]
        return self.attention(
            target.embedding, states, mask, query_mask=target.mask, training=training
        )

    def evolution(self, state: State, attention: tf.Tensor | None = None) -> tf.Tensor:
        """All evolving states, whose path the paper's figure 3 shows.

        Args:
          state: see `encode`.
          attention: a_t [users, candidates, time], as from `attend`; None for equal scores over the
            real events, the figure's target "None", with one candidate.

        Returns:
          Evolving states h'_t [users, candidates, time, units]; at padded steps the one before.
        """
        if attention is None:
            attention = equal_attention(state[MASK])
        states, _ = self.cell(
            state[INTEREST_STATES], attention, mask=state[MASK], return_states=True
        )
        return states

    def update(self, state: State, history: History) -> State:
        """Continues the extractor over newer events and appends their interest states."""
        newer, _ = self.extractor(
            history.events, mask=history.mask, initial_state=_last_state(state[INTEREST_STATES])
        )
        return append_in_time(state, {INTEREST_STATES: newer, MASK: history.mask})

    def encode_with_losses(
        self, history: History, training: bool = False
    ) -> tuple[State, dict[str, tf.Tensor]]:
        """Encodes; `auxiliary` [users] is Eq. (7), weighted, where the history has negatives."""
        state = self.encode(history, training=training)
        states, events, negatives = state[INTEREST_STATES], history.events, history.negatives
        if self.auxiliary_loss is None:
            return state, {}
        if negatives is None:
            self.auxiliary_loss.build_score(states.shape[-1], events)
            return state, {}
        return state, {"auxiliary": self.auxiliary_loss(states, events, negatives, history.mask)}


class TwoLayerGRUAttention(InterestEncoder):
    """Two stacked GRUs, and the candidate's attention over the states of the second.

    The paper does not say which attention; the authors' code takes its activation unit, which is
    this layer's default.

    State: `interest_states` h^2_t [users, time, units] and `mask` bool [users, time], and
    `first_layer_state` h^1_T [users, units], from which `update` continues.

    Args:
      first, second: the two GRUs.
      attention: a layer called like `TargetAttention`; None for `ProjectedAttention`.

    Example:

      >>> events, mask = tf.random.normal([2, 5, 4]), tf.constant([[True] * 5, [True] * 2 + [False] * 3])
      >>> encoder = TwoLayerGRUAttention(GRU(8), GRU(6))
      >>> encoder(tf.random.normal([2, 3, 4]), (events, mask))["interest"].shape
      TensorShape([2, 3, 6])
    """

    def __init__(
        self,
        first: GRU,
        second: GRU,
        attention: tf.keras.layers.Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.first, self.second = as_layer(first), as_layer(second)
        self.attention = as_layer(attention) or ProjectedAttention(
            self.second.units, name="attention", dtype=self.dtype_policy
        )

    def encode(self, history: History, training: bool = False) -> State:
        """Runs both GRUs over the history."""
        # Padded steps repeat the state before them, and the second GRU's mask skips them too.
        lower, last = self.first(history.events, mask=history.mask, training=training)
        states, _ = self.second(lower, mask=history.mask, training=training)
        return {INTEREST_STATES: states, MASK: history.mask, FIRST_LAYER_STATE: last}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Sum over time of a_t h^2_t.

        Returns:
          `interest` [users, candidates, units] and `attention` a_t [users, candidates, time].
        """
        layers = {"attention": (self.attention, state[INTEREST_STATES])}
        return read_each(layers, state[MASK], target, training)

    def update(self, state: State, history: History) -> State:
        """Continues both GRUs over newer events and appends the states of the second."""
        lower, last = self.first(
            history.events, mask=history.mask, initial_state=state[FIRST_LAYER_STATE]
        )
        newer, _ = self.second(
            lower, mask=history.mask, initial_state=_last_state(state[INTEREST_STATES])
        )
        states = {name: state[name] for name in (INTEREST_STATES, MASK)}
        states = append_in_time(states, {INTEREST_STATES: newer, MASK: history.mask})
        return {**states, FIRST_LAYER_STATE: last}


def equal_attention(mask: tf.Tensor) -> tf.Tensor:
    """Equal scores over the real events, which sum to one.

    Args:
      mask: True where the event is real, bool [users, time].

    Returns:
      [users, 1, time], zero for an empty history.
    """
    real = tf.cast(mask, tf.float32)
    return tf.math.divide_no_nan(real, tf.reduce_sum(real, 1, keepdims=True))[:, tf.newaxis]


def _last_state(states: tf.Tensor) -> tf.Tensor:
    """The newest state [users, units]: padding repeats it; zeros where there is no step at all."""
    # A step of zeros in front, so that a time axis of length zero can be read.
    zeros = tf.zeros([tf.shape(states)[0], 1, states.shape[-1]], states.dtype)
    return tf.concat([zeros, states[:, -1:]], 1)[:, -1]
