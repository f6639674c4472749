"""Interests by session: the encoder of DSIN (Feng et al., 2019), section 3.2 to Eq. (10)."""

from typing import Any

import tensorflow as tf

from dgin_tf.group_spec import SESSION_GAP
from dgin_tf.layers.configured import as_config, as_layer
from dgin_tf.layers.events import MASK, History, State, Target, embed_events_at
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.target_attention import read_each
from dgin_tf.ops.grouping import EventGroups, group_events, session_keys
from dgin_tf.schema import TIMESTAMP

SESSIONS, STATES = "sessions", "states"


class SessionInterest(InterestEncoder):
    """Session division, session interest extractor, interacting layer, and attention to both.

    Session 0 is the newest, so that it has the same bias in short and long histories; positions
    within a session begin at the oldest of its last T events.

    State: `sessions` I_k [users, sessions, dim], `states` H_k [users, sessions, units] and `mask`
    bool [users, sessions].

    Args:
      extractor: from the events of a session to its interest, such as `SessionTransformer`.
      interacting: over the sequence of sessions, such as `BiLSTM`.
      attentions: of a candidate over I_k and over H_k, two layers called like `TargetAttention`.
      encoding: of positions, such as `BiasEncoding`; None for none.
      sessions: K, the number of newest sessions.
      events: T, the number of newest events of a session.
      gap: seconds without an event that end a session.

    Raises:
      ValueError: `sessions` or `events` is below 1, or there are not two attentions.

    Example:

      >>> from dgin_tf.layers.sessions.bi_lstm import BiLSTM
      >>> from dgin_tf.layers.sessions.transformer import SessionTransformer
      >>> from dgin_tf.layers.state_attention import BilinearAttention
      >>> attentions = BilinearAttention(4), BilinearAttention(6)
      >>> encoder = SessionInterest(SessionTransformer(heads=2), BiLSTM(3), attentions)
      >>> times = tf.constant([[100, 200, 90_000]], tf.int64)  # two sessions
      >>> history = History(tf.random.normal([1, 3, 4]), times > 0, {"timestamp": times})
      >>> encoder(tf.random.normal([1, 2, 4]), history)["interest"].shape
      TensorShape([1, 2, 10])
    """

    reads_ids = True
    times = True

    def __init__(
        self,
        extractor: tf.keras.layers.Layer,
        interacting: tf.keras.layers.Layer,
        attentions: tuple[tf.keras.layers.Layer, tf.keras.layers.Layer],
        encoding: tf.keras.layers.Layer | None = None,
        sessions: int = 5,
        events: int = 10,
        gap: int = SESSION_GAP,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if min(sessions, events) < 1 or len(attentions) != 2:
            raise ValueError(
                "sessions and events must be at least 1, and there are two attentions; got "
                f"{sessions}, {events} and {len(attentions)} attentions."
            )
        self.extractor, self.interacting = as_layer(extractor), as_layer(interacting)
        self.encoding = as_layer(encoding)
        self.attention, self.state_attention = map(as_layer, attentions)
        self.sessions = sessions
        self.events = events
        self.gap = gap

    def encode(self, history: History, training: bool = False) -> State:
        """Extracts the interests of the sessions and their evolution, Eqs. (2)-(8).

        Raises:
          ValueError: the history has no times.
        """
        sessions = self.divide(history)
        # Only the K x T events that are read: [users, sessions, time, dim].
        events = embed_events_at(history, sessions.places, sessions.event_mask, self.compute_dtype)
        return {**self.read(events, sessions.event_mask, sessions.mask), MASK: sessions.mask}

    def divide(self, history: History) -> EventGroups:
        """Places of the events of every session; raises ValueError where the history has no times."""
        if TIMESTAMP not in history.features:
            raise ValueError(
                f"sessions need times of events, the feature {TIMESTAMP!r}; the history has "
                f"{sorted(history.features)}. Prepare the data with timestamps."
            )
        # A session's key counts the pauses before it, so that grouping by keys is session division.
        keys = session_keys(history.features[TIMESTAMP], history.mask, self.gap)
        return group_events(keys, history.mask, self.sessions, self.events)

    def read(self, events: tf.Tensor, event_mask: tf.Tensor, mask: tf.Tensor | None) -> State:
        """Encoding, extractor and interacting layer.

        Args:
          events: [users, sessions, time, dim].
          event_mask: True where the event is real, bool [users, sessions, time].
          mask: True where the session is real, bool [users, sessions]; None for all.

        Returns:
          `sessions` and `states`, see the class.
        """
        if self.encoding is not None:
            events = self.encoding(events)  # Eq. (2)
        interests = self.extractor(events, event_mask)  # I_k, Eqs. (4)-(6)
        return {SESSIONS: interests, STATES: self.interacting(interests, mask)}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Attention to session interests and to their states, Eqs. (9), (10).

        Returns:
          `interest` [U^I, U^H], [users, candidates, dim + units], and the weights of sessions and of
          states, `attention` and `state_attention` [users, candidates, sessions]; all zero for an
          empty history.
        """
        layers = {
            "attention": (self.attention, state[SESSIONS]),
            "state_attention": (self.state_attention, state[STATES]),
        }
        return read_each(layers, state[MASK], target, training)

    def get_config(self) -> dict[str, Any]:
        attentions = as_config((self.attention, self.state_attention))
        return {**super().get_config(), "attentions": attentions}
