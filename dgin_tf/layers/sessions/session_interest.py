"""Interests by session: the encoder of DSIN (Feng et al., 2019), section 3.2 to Eq. (10)."""

from typing import Any

import tensorflow as tf

from dgin_tf.group_spec import SESSION_GAP
from dgin_tf.layers.events import History, State, Target, embed_events_at, embed_padding
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.target_attention import read_each
from dgin_tf.ops.grouping import group_events, session_keys
from dgin_tf.schema import TIMESTAMP

SESSIONS, STATES, MASK = "sessions", "states", "mask"


@tf.keras.utils.register_keras_serializable("dgin_tf")
class SessionInterest(InterestEncoder):
    """Divides a history into sessions, reads each, reads their sequence, and attends to both.

    Sessions are counted back from the newest, so that the first is the same for short histories and
    long ones; the places within a session are counted from the oldest of the events that are kept.

    State: `sessions` I_k [users, sessions, dim], `states` H_k [users, sessions, units] and `mask`
    bool [users, sessions].

    Args:
      extractor: reads one session, such as `SessionTransformer`. One whose `reads_padding` is set gets
        the embedding of padding, and the sequence is then read to its end.
      interacting: reads the sequence of sessions, such as `BiLSTM`.
      attentions: of a candidate over I_k and over H_k, two layers called like `TargetAttention`.
      encoding: is added to the events before they are read, such as `BiasEncoding`; None for nothing.
      sessions: K, how many of the newest are kept.
      events: T, how many of a session's newest events are read.
      gap: seconds without an event that end a session.

    Raises:
      ValueError: `sessions` or `events` is below 1, or there are not two attentions.
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
        deserialize = tf.keras.layers.deserialize
        self.extractor = deserialize(extractor) if isinstance(extractor, dict) else extractor
        self.interacting = (
            deserialize(interacting) if isinstance(interacting, dict) else interacting
        )
        self.encoding = deserialize(encoding) if isinstance(encoding, dict) else encoding
        self.attention, self.state_attention = (
            deserialize(layer) if isinstance(layer, dict) else layer for layer in attentions
        )
        self.sessions = sessions
        self.events = events
        self.gap = gap

    def encode(self, history: History, training: bool = False) -> State:
        """Reads the sessions.

        Raises:
          ValueError: the history has no times, or is not to be embedded by its ids.
        """
        del training
        if TIMESTAMP not in history.features:
            raise ValueError(
                f"sessions need times of events, the feature {TIMESTAMP!r}; the history has "
                f"{sorted(history.features)}. Prepare the data with timestamps."
            )
        keys = session_keys(history.features[TIMESTAMP], history.mask, self.gap)
        found = group_events(keys, history.mask, self.sessions, self.events)
        events = embed_events_at(history, found.places, found.event_mask, self.compute_dtype)
        reads_padding = self.extractor.reads_padding
        if reads_padding:
            padding = embed_padding(history.tables, events.dtype)
            events = tf.where(found.event_mask[..., tf.newaxis], events, padding)
        if self.encoding is not None:
            events = self.encoding(events)
        sessions = self.extractor(events, found.event_mask)
        states = self.interacting(sessions, None if reads_padding else found.mask)
        return {SESSIONS: sessions, STATES: states, MASK: found.mask}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Eqs. (9), (10).

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
        serialize = tf.keras.layers.serialize
        return {
            **super().get_config(),
            "extractor": serialize(self.extractor),
            "interacting": serialize(self.interacting),
            "attentions": [serialize(self.attention), serialize(self.state_attention)],
            "encoding": None if self.encoding is None else serialize(self.encoding),
            "sessions": self.sessions,
            "events": self.events,
            "gap": self.gap,
        }
