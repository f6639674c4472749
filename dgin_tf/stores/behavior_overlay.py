"""Pending events of a behavior index, which came after it was built, by user in a state store.

Deliveries may repeat and may come out of order: each has a sequence number of its user, a number that is
known changes nothing, and events are stored in time order whenever they arrive. The number alone tells a
repeated event from a new one: two items that are both out of vocabulary may occur in one second, and then
equal each other in every field.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dgin_tf.schema import FIRST_ID, PADDING_ID
from dgin_tf.stores.behavior_blocks import TIME, BlockCodec, Events, newest_per_key
from dgin_tf.stores.state_store import StateStore
from dgin_tf.stores.values import DamagedValueError, Value, decode_value, encode_value

# Events are no model's state: whichever model is served, they stay.
_MODEL_VERSION = "behaviors"
_SEQUENCE = ".sequence"  # no field has such a name


class BehaviorOverlay:
    """Pending events of one index's schema and key.

    A user's events must be appended by one process at a time, as from a log that is partitioned by user;
    threads of that process may append at once.

    Args:
      store: holds one value a user.
      codec: of the index.
      schema: fingerprint of the schema that stored values belong to.
      max_events_per_key: as for the index; older events of a key are dropped.
    """

    def __init__(self, store: StateStore, codec: BlockCodec, schema: str, max_events_per_key: int):
        self._store = store
        self._codec = codec
        self._schema = schema
        self._limit = max_events_per_key
        self._lock = threading.Lock()

    def append(self, user: int, events: Mapping[str, object], sequence: int) -> bool:
        """Adds one delivery; returns whether it was new, see `BehaviorIndex.append`."""
        delivery = check_events(self._codec, user, events)
        numbers = np.full(len(delivery[TIME]), sequence, np.int64)
        with self._lock:
            pending, pending_numbers, newest = self._read(self._store.get(user))
            if not len(numbers) or sequence in pending_numbers:
                return False
            pending, order = in_time_order(pending, delivery)
            numbers = np.concatenate([pending_numbers, numbers])[order]
            rows = newest_per_key(pending[self._codec.key], self._limit)
            value = encode_value(
                {**take(pending, rows), _SEQUENCE: numbers[rows]},
                model_version=_MODEL_VERSION,
                schema=self._schema,
                sequence=max(newest, sequence),
            )
            self._store.put_many({user: value})
        return True

    def events_of(self, users: Sequence[int]) -> list[Events]:
        """The pending events of users, oldest first."""
        stored_users = [max(user, PADDING_ID) for user in users]  # the padding id has no events
        return [self._read(value)[0] for value in self._store.get_many(stored_users)]

    def damaged_users(self) -> Iterator[int]:
        """Users whose stored events are damaged."""
        for user, data in self._store.items():
            try:
                self._read(data)
            except DamagedValueError:
                yield user

    def drop(self, user: int) -> None:
        """Deletes a user's pending events."""
        self._store.delete(user)

    def _read(self, data: bytes | None) -> tuple[Events, np.ndarray, int]:
        """A user's events, their sequence numbers and the highest number so far."""
        if data is None:
            return self._codec.empty(), np.zeros(0, np.int64), 0
        value: Value = decode_value(data, model_version=_MODEL_VERSION, schema=self._schema)
        events = {name: value.arrays[name] for name in self._codec.dtypes}
        return events, value.arrays[_SEQUENCE], value.sequence


def check_events(codec: BlockCodec, user: int, events: Mapping[str, object]) -> Events:
    """The schema's history fields as arrays of one length.

    Raises:
      ValueError: these are no events of the schema, or the user id is shared by many.
    """
    if user < FIRST_ID:
        raise ValueError(
            f"expected a user id from {FIRST_ID} on; got {user}: users without an id of their own "
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


def in_time_order(first: Events, second: Events) -> tuple[Events, np.ndarray]:
    """Events of both, oldest first and within a second in this order; and their rows in `concatenate`."""
    both = concatenate(first, second)
    order = np.argsort(both[TIME], kind="stable")
    return take(both, order), order


def equal_to_any(events: Events, others: Events) -> np.ndarray:
    """Mask of the events that equal one of `others` in all fields, bool [events]."""
    count = len(others[TIME])
    columns = list(concatenate(others, events).values())
    # In the order of all fields, equal events are neighbors.
    order = np.lexsort(columns)
    new = np.ones(len(order), bool)
    new[1:] = np.any([column[order][1:] != column[order][:-1] for column in columns], axis=0)
    group = np.empty(len(order), np.int64)  # number of the different event that each one is
    group[order] = np.cumsum(new)
    return np.isin(group[count:], group[:count])
