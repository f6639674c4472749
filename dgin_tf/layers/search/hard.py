"""Hard search (SIM, section 3.2): the past events of the candidate's own category."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.events import EVENTS, MASK, History, State, Tables, Target, append_in_time
from dgin_tf.layers.interest_encoder import HistorySlice
from dgin_tf.layers.search.unit import Found, SearchUnit, best
from dgin_tf.ops.event_order import EventOrder, at_most, newest_of_key, order_events
from dgin_tf.schema import FIRST_ID

_PLACES, _KEYS = "ordered_places", "ordered_keys"


@tf.keras.utils.register_keras_serializable("dgin_tf")
class HardSearch(SearchUnit):
    """Eq. (1), hard: r_i = Sign(C_i = C_a), the most recent ones first.

    Where no event shares the candidate's category nothing is found, and an unknown category is
    nobody's: that two categories are out of vocabulary does not make them the same one.

    The state holds the events' order by category, in which a candidate finds its own by binary
    search. In training a user has two candidates rather than hundreds; comparing all events with
    them is then three times as fast as ordering, so that nothing is prepared.

    Args:
      k: how many events to find at most.
      field: the attribute that must agree.
      backfill: whether places that are left over go to the newest events of other categories. Not
        in the paper.
    """

    def __init__(
        self, k: int = 50, field: str = "category_id", backfill: bool = False, **kwargs: Any
    ):
        super().__init__(k, **kwargs)
        self.field = field
        self.backfill = backfill

    def prepare(self, history: History, training: bool = False) -> State:
        """`ordered_places` and `ordered_keys` [users, time], see `EventOrder`; none in training.

        Raises:
          ValueError: the history has no such field.
        """
        name = self.field
        if name not in history.features:
            raise ValueError(
                f"hard search by {self.field!r} needs the feature {name!r}; the history has "
                f"{sorted(history.features)}. Name another field of the schema."
            )
        return {} if training else _ordered(history.features[name], history.mask)

    def search(self, state: State, target: Target, training: bool = False) -> Found:
        """Finds the newest events of each candidate's category."""
        del training
        wanted = target.features[self.field]
        if _PLACES not in state:
            return self._by_comparison(state, wanted)
        order = EventOrder(state[_PLACES], state[_KEYS])
        places, mask = newest_of_key(order, wanted, self.k)
        mask &= (wanted >= FIRST_ID)[..., tf.newaxis]
        found = Found(places, mask)
        return self._filled_up(state, wanted, found) if self.backfill else found

    def append(self, state: State, newer: State, tables: Tables) -> State:
        """Orders all events anew."""
        del tables
        stored = {name: part[name] for part in (state,) for name in (EVENTS, MASK)}
        joined = append_in_time(stored, {name: newer[name] for name in (EVENTS, MASK)})
        return {**joined, **_ordered(joined[EVENTS][self.field], joined[MASK])}

    def _by_comparison(self, state: State, wanted: tf.Tensor) -> Found:
        same = _is_same(state[EVENTS][self.field][:, tf.newaxis], wanted)
        real = state[MASK][:, tf.newaxis]
        _, places, mask = best(
            tf.cast(same, tf.float32), real if self.backfill else real & same, self.k
        )
        return Found(places, mask)

    def _filled_up(self, state: State, wanted: tf.Tensor, own: Found) -> Found:
        past = state[EVENTS][self.field]
        _, newest, real = best(tf.zeros_like(past, tf.float32), state[MASK], self.k)
        newest, real = newest[:, tf.newaxis], real[:, tf.newaxis]
        other = real & ~_is_same(tf.gather(past, newest, batch_dims=1), wanted)
        newest = tf.broadcast_to(newest, tf.shape(own.indices))
        places = tf.concat([own.indices, newest], axis=-1)
        mask = tf.concat([own.mask, other], axis=-1)
        first = tf.argsort(tf.cast(~mask, tf.int32), axis=-1, stable=True)
        first = first[..., : at_most(self.k, past)]
        return Found(*(tf.gather(values, first, batch_dims=2) for values in (places, mask)))

    @property
    def history_slice(self) -> HistorySlice | None:
        """The newest k events of the candidates' categories; with `backfill` of any."""
        return None if self.backfill else HistorySlice(self.field, 0, self.k)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "field": self.field, "backfill": self.backfill}


def _ordered(keys: tf.Tensor, mask: tf.Tensor) -> State:
    order = order_events(keys, mask)
    return {_PLACES: order.places, _KEYS: order.keys}


def _is_same(past: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Whether keys [users, 1, time] are the wanted ones [users, candidates]; none is unknown."""
    wanted = wanted[..., tf.newaxis]
    return (past == wanted) & (wanted >= FIRST_ID)
