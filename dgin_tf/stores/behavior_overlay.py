"""Events that came after the behavior index was built, by user, in a state store.

Deliveries may repeat and may come out of order: each has a sequence number of its user, one that is
there already changes nothing, and events are kept by time whenever they arrive. The number alone says
whether an event came before: two items that are both out of vocabulary may be met in one second, and
then equal each other in every field.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from dgin_tf.schema import FIRST_ID, PADDING_ID
from dgin_tf.stores.behavior_blocks import TIME, BlockCodec, Events, newest_per_key
from dgin_tf.stores.state_store import StateStore
from dgin_tf.stores.values import Value, decode_value, encode_value

# Events are no model's state: whichever model is served, they stay.
_MODEL_VERSION = "behaviors"
_SEQUENCE = ".sequence"  # no field has such a name


class BehaviorOverlay:
    """Late events of one index's schema and key.

    A user's events are to be appended by one process at a time, as a log partitioned by user gives
    them; threads of that process are kept apart here.

    Args:
      store: holds one value a user.
      codec: of the index.
      schema: fingerprint of the schema, which stored values carry.
      max_events_per_key: as for the index; older events of a key are dropped.
    """

    def __init__(self, store: StateStore, codec: BlockCodec, schema: str, max_events_per_key: int):
        self._store = store
        self._codec = codec
        self._schema = schema
        self._limit = max_events_per_key
        self._lock = threading.Lock()

    def append(self, user: int, events: Mapping[str, object], sequence: int) -> bool:
        """Adds one delivery, and says whether it was new; see `BehaviorIndex.append`."""
        added = check_events(self._codec, user, events)
        numbers = np.full(len(added[TIME]), sequence, np.int64)
        with self._lock:
            held, held_numbers, newest = self._read(self._store.get(user))
            if not len(numbers) or sequence in held_numbers:
                return False
            merged, order = in_time_order(held, added)
            numbers = np.concatenate([held_numbers, numbers])[order]
            kept = newest_per_key(merged[self._codec.key], self._limit)
            self._write(user, take(merged, kept), numbers[kept], max(newest, sequence))
        return True

    def events_of(self, users: Sequence[int]) -> list[Events]:
        """The late events of users, oldest first."""
        known = [max(user, PADDING_ID) for user in users]  # nobody has events under the padding id
        return [self._read(value)[0] for value in self._store.get_many(known)]

    def users(self) -> Iterator[int]:
        """Users with late events."""
        return self._store.users()

    def keep(self, user: int, chosen: Callable[[Events], np.ndarray]) -> int:
        """Drops a user's events but for those of the mask that `chosen` gives; returns how many."""
        with self._lock:
            held, numbers, newest = self._read(self._store.get(user))
            stays = chosen(held)
            if not stays.any():
                self._store.delete(user)
            elif not stays.all():
                self._write(user, take(held, stays), numbers[stays], newest)
        return int((~stays).sum())

    def _read(self, data: bytes | None) -> tuple[Events, np.ndarray, int]:
        """A user's events, their sequence numbers and the highest one ever applied."""
        if data is None:
            return self._codec.empty(), np.zeros(0, np.int64), 0
        value: Value = decode_value(data, model_version=_MODEL_VERSION, schema=self._schema)
        events = {name: value.arrays[name] for name in self._codec.dtypes}
        return events, value.arrays[_SEQUENCE], value.sequence

    def _write(self, user: int, events: Events, numbers: np.ndarray, newest: int) -> None:
        value = encode_value(
            {**events, _SEQUENCE: numbers},
            model_version=_MODEL_VERSION,
            schema=self._schema,
            sequence=newest,
        )
        self._store.put_many({user: value})


def check_events(codec: BlockCodec, user: int, events: Mapping[str, object]) -> Events:
    """The schema's history fields as arrays of one length.

    Raises:
      ValueError: these are no events of the schema, or nobody's in particular.
    """
    if user < FIRST_ID:
        raise ValueError(
            f"expected a user id from {FIRST_ID} on; got {user}: people without an id of their own "
            "share one, and their events would be mixed."
        )
    dtypes = codec.dtypes
    if set(events) != set(dtypes):
        raise ValueError(f"expected events with {sorted(dtypes)}; got {sorted(events)}.")
    arrays = {name: np.atleast_1d(np.asarray(events[name])) for name in dtypes}
    lengths = {name: array.shape for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or any(array.ndim > 1 for array in arrays.values()):
        raise ValueError(f"all fields of events need one length; got shapes {lengths}.")
    for name, array in arrays.items():
        if len(array) and (array.dtype.kind not in "iu" or array.min() < 0):
            raise ValueError(
                f"expected {name} to be dense ids or seconds, whole numbers from 0 on; got "
                f"{array.dtype} values such as {array[0]}."
            )
    return {name: arrays[name].astype(dtype) for name, dtype in dtypes.items()}


def concatenate(first: Events, second: Events) -> Events:
    """Events of both, in this order."""
    return {name: np.concatenate([first[name], second[name]]) for name in first}


def take(events: Events, rows: np.ndarray | slice) -> Events:
    """The events at `rows` (indices or a mask)."""
    return {name: values[rows] for name, values in events.items()}


def in_time_order(held: Events, added: Events) -> tuple[Events, np.ndarray]:
    """Events of both, oldest first and within a second as they came; and the rows they had before."""
    merged = concatenate(held, added)
    order = np.argsort(merged[TIME], kind="stable")
    return take(merged, order), order


def equal_to_any(events: Events, held: Events) -> np.ndarray:
    """Mask of the events that equal one of `held` in all fields, bool [events]."""
    count = len(held[TIME])
    columns = list(concatenate(held, events).values())
    order = np.lexsort(columns)
    new = np.ones(len(order), bool)
    new[1:] = np.any([column[order][1:] != column[order][:-1] for column in columns], axis=0)
    group = np.empty(len(order), np.int64)  # number of the different event that each one is
    group[order] = np.cumsum(new)
    return np.isin(group[count:], group[:count])
