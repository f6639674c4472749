"""A history in two parts: the newest events, and all before them (SIM, section 4.1; ETA, figure 2).

The models of long histories read the newest ten to a hundred events one by one and search, hash or
pool the rest. The two parts share no event.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.interest_encoder import (
    AUXILIARY_LOGITS,
    Excerpt,
    History,
    InterestEncoder,
    State,
    Target,
)
from dgin_tf.layers.stored_events import (
    STORED_MASK,
    append_events,
    history_of,
    store_events,
    stored_history,
)

_SHORT, _LONG, _RECENT = "short_", "long_", "recent_"
_NEGATIVES, _MASK = "hist_negative_", "hist_mask"


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ShortAndLong(InterestEncoder):
    """One encoder for the newest events and another one for the earlier ones.

    State: both encoders' states, prefixed `short_` and `long_`; where events can be folded in, also
    the ids of the newest events, `recent_past_*`, since they move over to the long part later.

    Args:
      short: encoder of the newest events.
      long: encoder of the events before them.
      short_events: how many events are the newest.

    Raises:
      ValueError: `short_events` is below 1.
    """

    def __init__(
        self,
        short: InterestEncoder,
        long: InterestEncoder,
        short_events: int = 100,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if short_events < 1:
            raise ValueError(f"short_events must be at least 1; got {short_events}.")
        deserialize = tf.keras.layers.deserialize
        self.short = deserialize(short) if isinstance(short, dict) else short
        self.long = deserialize(long) if isinstance(long, dict) else long
        self.short_events = short_events
        self.auxiliary_loss_names = self.long.auxiliary_loss_names
        self.auxiliary_logits_weight = self.long.auxiliary_logits_weight

    def encode(self, history: History, training: bool = False) -> State:
        """Encodes both parts."""
        recent = newest(history, self.short_events)
        states = {
            _SHORT: self.short.encode(recent, training=training),
            _LONG: self.long.encode(all_but_newest(history, self.short_events), training=training),
        }
        if self.is_incremental:
            states[_RECENT] = self._store(recent)
        return _joined(states)

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Both parts' interests side by side.

        Returns:
          `interest` [users, candidates, short dim + long dim], both parts' intermediates with their
          prefixes, and the long part's `auxiliary_logits` where it has them.
        """
        short = self.short.interest(_part(state, _SHORT), target, training=training)
        long = self.long.interest(_part(state, _LONG), target, training=training)
        outputs = _joined({_SHORT: short, _LONG: long})
        if AUXILIARY_LOGITS in long:
            outputs[AUXILIARY_LOGITS] = outputs.pop(_LONG + AUXILIARY_LOGITS)
        interest = [outputs.pop(part + "interest") for part in (_SHORT, _LONG)]
        return {**outputs, "interest": tf.concat(interest, axis=-1)}

    def update(self, state: State, history: History) -> State:
        """Folds newer events in: those that are no longer among the newest go to the long part."""
        if not self.is_incremental:
            return super().update(state, history)
        stored = _part(state, _RECENT)
        joined = append_events(stored, self._store(history))
        events = stored_history(_without_gaps(joined), history.embed)
        recent = newest(events, self.short_events)
        # No more events leave the newest ones than come, and they are the first ones here.
        older = _first(all_but_newest(events, self.short_events), tf.shape(history.mask)[1])
        return _joined(
            {
                _SHORT: self.short.encode(recent),
                _LONG: self.long.update(_part(state, _LONG), older),
                _RECENT: self._store(recent),
            }
        )

    def auxiliary_losses(self, state: State, history: History) -> dict[str, tf.Tensor]:
        """The long part's own losses."""
        older = all_but_newest(history, self.short_events)
        return self.long.auxiliary_losses(_part(state, _LONG), older)

    @property
    def excerpt(self) -> Excerpt | None:
        """The newest events, and what the long part depends on before them."""
        long = self.long.excerpt
        if long is None:
            return None
        return Excerpt(long.key, self.short_events, long.per_key + self.short_events)

    @property
    def is_incremental(self) -> bool:
        """Whether the long part is; the short one is encoded anew."""
        return self.long.is_incremental

    def _store(self, history: History) -> State:
        """Raw events with all that the long part will ask of them."""
        return store_events(history, self.long.times, self.long.event_features)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "short": tf.keras.layers.serialize(self.short),
            "long": tf.keras.layers.serialize(self.long),
            "short_events": self.short_events,
        }


def newest(history: History, count: int) -> History:
    """The newest `count` events, [users, count], padded at the end.

    Args:
      history: its real events lie side by side.
      count: how many.
    """
    time = tf.shape(history.mask)[1]
    real = tf.reduce_sum(tf.cast(history.mask, tf.int32), 1, keepdims=True)
    end = tf.reduce_max(tf.where(history.mask, tf.range(1, time + 1), 0), 1, keepdims=True)
    kept = tf.minimum(real, count)
    step = tf.range(count)
    mask = step < kept
    # A row of zeros behind the last event stands for padding, also where time is zero.
    place = tf.where(mask, end - kept + step, time)
    features = {}
    for name in history.features:
        if not name.startswith(_NEGATIVES) and name != _MASK:
            value = tf.pad(history.features[name], [[0, 0], [0, 1]])
            features[name] = tf.gather(value, place, batch_dims=1)
    return history_of(features, mask, history.embed, history.embedded_features)


def all_but_newest(history: History, count: int) -> History:
    """The same arrays with the newest `count` events masked, and without their last columns.

    An event behind which `count` real ones lie is never in the last `count` columns, so that these
    need not be embedded. One column stays, since not every operation takes an empty axis.
    """
    return history.once(f"all_but_newest_{count}", lambda: _older(history, count))


def _older(history: History, count: int) -> History:
    rank = tf.cumsum(tf.cast(history.mask, tf.int32), axis=1, exclusive=True, reverse=True)
    mask = history.mask & (rank >= count)
    time = tf.maximum(tf.shape(mask)[1] - count, 1)
    features = {name: value[:, :time] for name, value in history.features.items()}
    return history_of(features, mask[:, :time], history.embed, history.embedded_features)


def _first(history: History, count: tf.Tensor) -> History:
    """The first `count` places in time."""
    features = {
        name: value if name.startswith(_NEGATIVES) else value[:, :count]
        for name, value in history.features.items()
    }
    return history_of(features, history.mask[:, :count], history.embed, history.embedded_features)


def _without_gaps(state: State) -> State:
    """Per-event tensors [users, time, ...] with the real events first, in their order."""
    order = tf.argsort(tf.cast(~state[STORED_MASK], tf.int32), axis=1, stable=True)
    return {name: tf.gather(value, order, batch_dims=1) for name, value in state.items()}


def _joined(parts: dict[str, State]) -> State:
    return {prefix + name: value for prefix, part in parts.items() for name, value in part.items()}


def _part(state: State, prefix: str) -> State:
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
