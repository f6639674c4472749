"""Hard search (SIM, section 3.2): the past events of the candidate's own category."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.events import EVENTS, MASK, History, State, Tables, Target, append_in_time
from dgin_tf.layers.interest_encoder import HistorySlice
from dgin_tf.layers.search.unit import SearchResult, SearchUnit, top_events
from dgin_tf.ops.event_order import EventOrder, at_most, newest_of_key, order_events
from dgin_tf.schema import FIRST_ID

_PLACES, _KEYS = "ordered_places", "ordered_keys"


class HardSearch(SearchUnit):
    """Eq. (1), hard: r_i = Sign(C_i = C_a), the most recent events first.

    Without an event of the candidate's category nothing is retrieved. An unknown category agrees with
    none: two categories out of vocabulary need not be the same one.

    The state holds the events' order by category, in which a candidate locates its own by binary
    search. In training a user has two candidates rather than hundreds; comparing all events with
    them is then three times as fast as ordering, so that nothing is prepared.

    Example:

      >>> categories = tf.constant([[7, 4, 7, 7, 5]])
      >>> history = History(None, tf.fill([1, 5], True), {"category_id": categories})
      >>> candidate = {"category_id": tf.constant([[7]])}
      >>> target = Target(tf.zeros([1, 1, 8]), tf.fill([1, 1], True), candidate)
      >>> HardSearch(k=2)(target, history).topk_indices.numpy().tolist()
      [[[3, 2]]]

    Args:
      k: how many events to retrieve at most.
      field: the attribute that must agree.
      backfill: whether places that are left over go to the newest events of other categories. Not
        in the paper.
    """

    def __init__(
        self, k: int = 50, field: str = "category_id", backfill: bool = False, **kwargs: Any
    ):
        super().__init__(k, **kwargs)
        self.field = field
        self.fields = (field,)
        self.backfill = backfill

    def prepare(self, history: History, training: bool = False) -> State:
        """`ordered_places` and `ordered_keys` [users, time], see `EventOrder`; none in training.

        Raises:
          ValueError: the history has no such field.
        """
        if self.field not in history.features:
            raise ValueError(
                f"hard search by {self.field!r} needs this feature; the history has "
                f"{sorted(history.features)}. Name another field of the schema."
            )
        return {} if training else _order(history.features[self.field], history.mask)

    def search(self, state: State, target: Target, training: bool = False) -> SearchResult:
        """Retrieves the newest events of each candidate's category."""
        keys = target.features[self.field]
        if _PLACES not in state:
            return self._by_comparison(state, keys)
        order = EventOrder(state[_PLACES], state[_KEYS])
        places, mask = newest_of_key(order, keys, self.k)
        mask &= (keys >= FIRST_ID)[..., tf.newaxis]
        result = SearchResult(places, mask)
        return self._backfill(state, keys, result) if self.backfill else result

    def append(self, state: State, newer: State, tables: Tables) -> State:
        """Orders all events anew."""
        events = append_in_time(*({EVENTS: s[EVENTS], MASK: s[MASK]} for s in (state, newer)))
        return {**events, **_order(events[EVENTS][self.field], events[MASK])}

    def _by_comparison(self, state: State, keys: tf.Tensor) -> SearchResult:
        same = _is_same(state[EVENTS][self.field][:, tf.newaxis], keys)
        real = state[MASK][:, tf.newaxis]
        # With backfill the others rank behind, with a score of zero.
        mask = real if self.backfill else real & same
        return top_events(tf.cast(same, tf.float32), mask, self.k)._replace(scores=None)

    def _backfill(self, state: State, keys: tf.Tensor, own: SearchResult) -> SearchResult:
        past = state[EVENTS][self.field]
        newest = top_events(tf.zeros_like(past, tf.float32), state[MASK], self.k)
        places, real = newest.topk_indices[:, tf.newaxis], newest.mask[:, tf.newaxis]
        is_other = real & ~_is_same(tf.gather(past, places, batch_dims=1), keys)
        # [users, candidates, 2k]: the category's own events, then the newest of the others.
        places = tf.broadcast_to(places, tf.shape(own.topk_indices))
        places = tf.concat([own.topk_indices, places], axis=-1)
        mask = tf.concat([own.mask, is_other], axis=-1)
        real_first = tf.argsort(tf.cast(~mask, tf.int32), axis=-1, stable=True)
        real_first = real_first[..., : at_most(self.k, past)]
        return SearchResult(*(tf.gather(x, real_first, batch_dims=2) for x in (places, mask)))

    @property
    def history_slice(self) -> HistorySlice | None:
        """The newest k events of the candidates' categories; with `backfill` of any."""
        return None if self.backfill else HistorySlice(self.field, 0, self.k)


def _order(keys: tf.Tensor, mask: tf.Tensor) -> State:
    order = order_events(keys, mask)
    return {_PLACES: order.places, _KEYS: order.keys}


def _is_same(past: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """True where a past key [users, 1, time] is a candidate's [users, candidates] and a known one."""
    keys = keys[..., tf.newaxis]
    return (past == keys) & (keys >= FIRST_ID)
