"""Running statistics of groups of events (DGIN, Eq. 3, and the online part of section 3.5).

The lists of a behaviour index are cut at their newest events, statistics are of all of them. So every
user has a value of their own in a state store: for each key how many events of every behaviour type
there were, when the newest was, and which values of other fields occurred. A batch load (weekly in
the paper) sets a user's value, a stream of events adds to it, and both come to what counting the
whole history anew would give.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from dgin_tf.schema import FIRST_ID, HISTORY, Schema
from dgin_tf.stores.behavior_blocks import TIME, Events
from dgin_tf.stores.state_store import StateStore
from dgin_tf.stores.values import decode_value, encode_value

BEHAVIOR_TYPE = "behavior_type"
COUNT, TYPES, DISTINCT = "count", "types", "distinct_"
_MODEL_VERSION = "totals"  # no model's state: whichever model is served, they stay
_KEYS, _COUNTS, _NEWEST, _APPLIED = "keys", "counts", "newest", "applied"
_OTHER = 0  # column of events whose type is none of the schema's
_BUFFERED = 1000


@dataclasses.dataclass(frozen=True)
class Totals:
    """One user's statistics.

    Attributes:
      keys: rising, [keys].
      counts: events of each key by behaviour type, those of an unknown one first, int64
        [keys, 1 + types].
      newest: second of each key's newest event, int64 [keys].
      pairs: field -> the different (key, value) pairs, rising, int64 [pairs, 2].
      applied: numbers of the deliveries since the last batch load, int64 [deliveries].
      version: how often this value was written.
    """

    keys: np.ndarray
    counts: np.ndarray
    newest: np.ndarray
    pairs: Mapping[str, np.ndarray]
    applied: np.ndarray
    version: int = 0

    def plus(self, other: "Totals") -> "Totals":
        """The statistics of both histories together."""
        keys = np.union1d(self.keys, other.keys)
        counts = np.zeros((len(keys), self.counts.shape[1]), np.int64)
        newest = np.full(len(keys), np.iinfo(np.int64).min)
        for part in (self, other):
            rows = keys.searchsorted(part.keys)
            counts[rows] += part.counts
            newest[rows] = np.maximum(newest[rows], part.newest)
        pairs = {
            name: np.unique(np.concatenate([own, other.pairs[name]]), axis=0)
            for name, own in self.pairs.items()
        }
        return dataclasses.replace(self, keys=keys, counts=counts, newest=newest, pairs=pairs)

    def statistics(self, keys: np.ndarray, types: Sequence[str]) -> dict[str, np.ndarray]:
        """Statistic, as `GroupStatistics` names them -> its value for each of some keys that occur.

        Args:
          keys: [events].
          types: names of the behaviour types; () where the source has none.
        """
        rows = self.keys.searchsorted(keys)
        found = {COUNT: self.counts.sum(axis=1)}
        if types:
            found[TYPES] = np.count_nonzero(self.counts[:, 1:], axis=1)
            found |= {f"{COUNT}_{name}": self.counts[:, 1 + n] for n, name in enumerate(types)}
        for name, pairs in self.pairs.items():
            ends = pairs[:, 0].searchsorted(self.keys, side="right")
            found[DISTINCT + name] = ends - pairs[:, 0].searchsorted(self.keys, side="left")
        return {name: values[rows].astype(np.int32) for name, values in found.items()}


class BehaviorTotals:
    """Statistics of every user's groups in a state store.

    A user's events are to be added by one process at a time; threads of that process are kept apart.

    Args:
      store: holds one value a user; a namespace of its own is advisable (`store.scoped("totals")`).
      schema: of the data in use.
      key: what events are grouped by, a categorical history field.
      distinct: history fields whose different values are counted in each group.

    Raises:
      ValueError: the schema's events have no such fields.
    """

    def __init__(self, store: StateStore, schema: Schema, key: str, distinct: Sequence[str] = ()):
        known = [field.name for field in schema.with_role(HISTORY) if field.is_categorical]
        if unknown := [name for name in (key, *distinct) if name not in known]:
            raise ValueError(f"totals are of categorical fields of events, {known}; got {unknown}.")
        self.key = key
        self.types = schema.behavior_types if BEHAVIOR_TYPE in known else ()
        self.distinct = tuple(distinct)
        self.schema = schema.fingerprint()
        self._store = store
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The statistics that are kept."""
        return list(self.count({}).statistics(np.zeros(0, np.int64), self.types))

    def of(self, user: int) -> Totals:
        """A user's statistics; of no keys for somebody unknown."""
        data = self._store.get(user) if user >= 0 else None
        if data is None:
            return self.count({})
        value = decode_value(data, model_version=_MODEL_VERSION, schema=self._version)
        arrays = value.arrays
        pairs = {name: arrays[DISTINCT + name] for name in self.distinct}
        return Totals(
            arrays[_KEYS],
            arrays[_COUNTS],
            arrays[_NEWEST],
            pairs,
            arrays[_APPLIED],
            value.sequence,
        )

    def count(self, events: Mapping[str, np.ndarray]) -> Totals:
        """Statistics from scratch.

        Args:
          events: history field -> values, [events]; {} for none.
        """
        if not events or not len(events[self.key]):
            pairs = {name: np.zeros((0, 2), np.int64) for name in self.distinct}
            none = np.zeros(0, np.int64)
            return Totals(none, np.zeros((0, 1 + len(self.types)), np.int64), none, pairs, none)
        keys, row = np.unique(np.asarray(events[self.key]).astype(np.int64), return_inverse=True)
        counts = np.zeros((len(keys), 1 + len(self.types)), np.int64)
        column = np.full(len(row), _OTHER)
        if self.types:
            column = np.asarray(events[BEHAVIOR_TYPE]).astype(np.int64) - FIRST_ID + 1
            column = np.where((column >= 1) & (column < counts.shape[1]), column, _OTHER)
        np.add.at(counts, (row, column), 1)
        newest = np.full(len(keys), np.iinfo(np.int64).min)
        np.maximum.at(newest, row, np.asarray(events[TIME]).astype(np.int64))
        pairs = {
            name: np.unique(np.stack([keys[row], np.asarray(events[name])], axis=1), axis=0)
            for name in self.distinct
        }
        return Totals(keys, counts, newest, pairs, np.zeros(0, np.int64))

    def append(self, user: int, events: Events, sequence: int) -> bool:
        """Adds the events of one delivery, and says whether its number was new."""
        with self._lock:
            held = self.of(user)
            if sequence in held.applied:
                return False
            joined = held.plus(self.count(events))
            applied = np.append(held.applied, sequence)
            self._put({user: dataclasses.replace(joined, applied=applied)})
        return True

    def add(self, user: int, events: Events) -> None:
        """Adds events to what was loaded, whatever delivery they came with."""
        with self._lock:
            self._put({user: self.of(user).plus(self.count(events))})

    @contextlib.contextmanager
    def loading(self) -> Iterator[Callable[[int, Events], None]]:
        """Gives a function that sets a user's statistics from a whole history; written in batches.

        Deliveries that were appended before are forgotten: what they brought and the history lacks is
        to be added anew (`BehaviorEngine.catch_up`).
        """
        waiting: dict[int, Totals] = {}

        def flush():
            with self._lock:
                versions = {user: self.of(user).version for user in waiting}
                self._put(
                    {u: dataclasses.replace(t, version=versions[u]) for u, t in waiting.items()}
                )
            waiting.clear()

        def load(user: int, events: Events) -> None:
            waiting[user] = self.count(events)
            if len(waiting) >= _BUFFERED:
                flush()

        yield load
        flush()

    @property
    def _version(self) -> str:
        """What a stored value must belong to: these fields of this schema."""
        return "/".join((self.schema, self.key, *self.distinct))

    def _put(self, values: Mapping[int, Totals]) -> None:
        self._store.put_many(
            {
                user: encode_value(
                    {
                        _KEYS: totals.keys,
                        _COUNTS: totals.counts,
                        _NEWEST: totals.newest,
                        _APPLIED: totals.applied,
                        **{DISTINCT + name: pairs for name, pairs in totals.pairs.items()},
                    },
                    model_version=_MODEL_VERSION,
                    schema=self._version,
                    sequence=totals.version + 1,
                )
                for user, totals in values.items()
            }
        )
