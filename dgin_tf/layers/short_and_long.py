"""A history in two parts: the newest events, and all before them (SIM, section 4.1; ETA, figure 2).

The models of long histories read the newest ten to a hundred events one by one and search, hash or
pool the rest. The two parts share no event.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import as_layer
from dgin_tf.layers.events import (
    History,
    State,
    Target,
    all_but_newest,
    append_in_time,
    first,
    newest,
    store_events,
    stored_history,
    without_gaps,
)
from dgin_tf.layers.interest_encoder import (
    AUXILIARY_LOGITS,
    INTEREST,
    HistorySlice,
    InterestEncoder,
)
from dgin_tf.schema import TIMESTAMP, check_positive

SHORT, LONG, RECENT = "short", "long", "recent"


class ShortAndLong(InterestEncoder):
    """One encoder for the newest events and another one for the earlier ones.

    State: both encoders' states, `short` and `long`; where events can be folded in, also the ids of
    the newest events, `recent`, since they move over to the long part later.

    Example:

      >>> from dgin_tf.layers.pooling import Pooling
      >>> encoder = ShortAndLong(Pooling(), Pooling(mean=True), short_events=10)
      >>> target, events = tf.random.normal([2, 3, 8]), tf.random.normal([2, 100, 8])
      >>> encoder(target, (events, tf.fill([2, 100], True)))["interest"].shape
      TensorShape([2, 3, 16])

    Args:
      short: encoder of the newest events.
      long: encoder of the events before them.
      short_events: how many events are the newest.

    Raises:
      ValueError: `short_events` is below 1.
    """

    reads_ids = True

    def __init__(
        self,
        short: InterestEncoder,
        long: InterestEncoder,
        short_events: int = 100,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_positive(short_events=short_events)
        self.short = as_layer(short)
        self.long = as_layer(long)
        self.short_events = short_events
        self.auxiliary_loss_names = self.long.auxiliary_loss_names
        self.auxiliary_logits_weight = self.long.auxiliary_logits_weight

    def encode(self, history: History, training: bool = False) -> State:
        """Encodes both parts."""
        older = self.long.prepare(all_but_newest(history, self.short_events))
        long = self.long.encode(older, training=training)
        return {LONG: long, **self._encode_newest(history, training)}

    def encode_with_losses(
        self, history: History, training: bool = False
    ) -> tuple[State, dict[str, tf.Tensor]]:
        """Encodes both parts; the losses are the long one's."""
        older = self.long.prepare(all_but_newest(history, self.short_events))
        long, losses = self.long.encode_with_losses(older, training=training)
        return {LONG: long, **self._encode_newest(history, training)}, losses

    def _encode_newest(self, history: History, training: bool) -> State:
        recent = newest(history, self.short_events)
        short = self.short.encode(self.short.prepare(recent), training=training)
        store_recent = self.is_incremental and history.tables
        return {SHORT: short, **({RECENT: self._store(recent)} if store_recent else {})}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Both parts' interests side by side.

        Returns:
          `interest` [users, candidates, short dim + long dim], both parts' intermediates under `short`
          and `long`, and the long part's `auxiliary_logits` where it has them.
        """
        short = dict(self.short.interest(state[SHORT], target, training=training))
        long = dict(self.long.interest(state[LONG], target, training=training))
        parts = (tf.cast(part.pop(INTEREST), self.compute_dtype) for part in (short, long))
        interest = tf.concat(list(parts), axis=-1)
        logits = {AUXILIARY_LOGITS: long.pop(AUXILIARY_LOGITS)} if AUXILIARY_LOGITS in long else {}
        return {INTEREST: interest, SHORT: short, LONG: long, **logits}

    def update(self, state: State, history: History) -> State:
        """Folds newer events in: those that are no longer among the newest go to the long part."""
        if not self.is_incremental:
            return super().update(state, history)
        all_events = append_in_time(state[RECENT], self._store(history))
        events = without_gaps(stored_history(all_events, history.tables))
        recent = newest(events, self.short_events)
        # No more events leave the newest ones than come, and they are the first ones here.
        older = first(all_but_newest(events, self.short_events), tf.shape(history.mask)[1])
        return {
            SHORT: self.short.encode(self.short.prepare(recent)),
            LONG: self.long.update(state[LONG], self.long.prepare(older)),
            RECENT: self._store(recent),
        }

    @property
    def history_slice(self) -> HistorySlice | None:
        """The newest events, and what the long part depends on before them."""
        long = self.long.history_slice
        if long is None:
            return None
        return HistorySlice(long.key, self.short_events, long.per_key + self.short_events)

    @property
    def is_incremental(self) -> bool:
        """True where the long part is; the short one is encoded anew."""
        return self.long.is_incremental

    def _store(self, history: History) -> State:
        """Raw events with all that the long part reads of them."""
        times = (TIMESTAMP,) if self.long.times else ()
        return store_events(history, (*times, *self.long.event_features))
