"""Running statistics of groups of events (DGIN, Eq. 3, and the online part of section 3.5).

The lists of a behavior index are cut at their newest events, statistics are of all of them. So every
user has an account of their own in a state store: for each key how many events of every behavior
type there were, when the newest was, which values of other fields occurred, and what numeric
features add up to, as of the last batch load (weekly in the paper); and beside that the events that a
stream brought since, as they are.

An account is one value, replaced only by who read the one before (`swap_many`). So statistics and late
events never disagree, whatever crashes, and a batch load may run beside the stream, in another process.
Late events are never added to what was loaded: which of them count is decided by comparing them with
the history that a load brings, so that a load can be repeated, and its end is what counting the whole
history anew would give.
"""

import contextlib
import dataclasses
import functools
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from dgin_tf.group_spec import COUNT, DISTINCT, MEAN, TYPES, StatisticsSpec
from dgin_tf.numeric_features import mean_codes
from dgin_tf.schema import BEHAVIOR_TYPE, FIRST_ID, Schema
from dgin_tf.stores.behavior_blocks import TIME, BlockCodec, Events
from dgin_tf.stores.behavior_overlay import equal_to_any, in_time_order, take
from dgin_tf.stores.state_store import StateStore
from dgin_tf.stores.values import DamagedValueError, StaleValueError, decode_value, encode_value

_MODEL_VERSION = "accounts"  # of no model: whichever is served, they stay
_KEYS, _COUNTS, _NEWEST = "keys", "counts", "newest"
_AMOUNTS = "amounts_"
_LATE, _NUMBERS, _COUNTED, _SETTLED, _APPLIED = "late_", "numbers", "counted", "settled", "applied"
_OTHER = 0  # column of events whose type is none of the schema's
_BUFFERED_USERS, _BUFFERED_EVENTS = 1000, 1 << 20  # of a batch load, between two writes


@dataclasses.dataclass(frozen=True)
class Totals:
    """One user's statistics.

    Attributes:
      keys: rising, [keys].
      counts: events of each key by behavior type, those of an unknown one first, int64
        [keys, 1 + types].
      newest: second of each key's newest event, int64 [keys].
      pairs: field -> the different (key, value) pairs, rising, int64 [pairs, 2].
      amounts: quantity -> of how many of each key's events it is known, and the sum of these as they
        are stored, int64 [keys, 2].
    """

    keys: np.ndarray
    counts: np.ndarray
    newest: np.ndarray
    pairs: Mapping[str, np.ndarray]
    amounts: Mapping[str, np.ndarray]

    def plus(self, other: "Totals") -> "Totals":
        """The statistics of both histories together."""
        keys = np.union1d(self.keys, other.keys)
        counts = np.zeros((len(keys), self.counts.shape[1]), np.int64)
        newest = np.full(len(keys), np.iinfo(np.int64).min)
        amounts = {name: np.zeros((len(keys), 2), np.int64) for name in self.amounts}
        for part in (self, other):
            rows = keys.searchsorted(part.keys)
            counts[rows] += part.counts
            newest[rows] = np.maximum(newest[rows], part.newest)
            for name, sums in amounts.items():
                sums[rows] += part.amounts[name]
        pairs = {
            name: np.unique(np.concatenate([own, other.pairs[name]]), axis=0)
            for name, own in self.pairs.items()
        }
        return Totals(keys, counts, newest, pairs, amounts)

    def statistics(self, keys: np.ndarray, types: Sequence[str]) -> dict[str, np.ndarray]:
        """Statistics of some keys that occur, by the names of `StatisticsSpec`, int32 [events].

        Args:
          keys: [events].
          types: names of the behavior types; () where the source has none.
        """
        rows = self.keys.searchsorted(keys)
        statistics = {COUNT: self.counts.sum(axis=1)}
        if types:
            statistics[TYPES] = np.count_nonzero(self.counts[:, 1:], axis=1)
            statistics |= {f"{COUNT}_{name}": self.counts[:, 1 + n] for n, name in enumerate(types)}
        for name, pairs in self.pairs.items():
            ends = pairs[:, 0].searchsorted(self.keys, side="right")
            statistics[DISTINCT + name] = ends - pairs[:, 0].searchsorted(self.keys, side="left")
        for name, sums in self.amounts.items():
            statistics[MEAN + name] = mean_codes(sums[:, 1], sums[:, 0])
        return {name: values[rows].astype(np.int32) for name, values in statistics.items()}


@dataclasses.dataclass(frozen=True)
class Account:
    """Statistics and late events of one user.

    Attributes:
      loaded: statistics as of the last batch load.
      late: events that were appended and that a batch may not have, oldest first.
      numbers: the delivery that brought each of them, int64 [late].
      counted: which of them `loaded` does not include, bool [late].
      settled: which of them were compared with the whole history at a batch load, bool [late].
      applied: numbers of the deliveries that are known, int64 [deliveries].
      version: how often the account was written; 0 for somebody unknown.
    """

    loaded: Totals
    late: Events
    numbers: np.ndarray
    counted: np.ndarray
    settled: np.ndarray
    applied: np.ndarray
    version: int = 0

    def after(self, events: Events, sequence: int) -> "Account":
        """With one more delivery, all of whose events count."""
        late, order = in_time_order(self.late, events)
        count = len(events[TIME])
        return dataclasses.replace(
            self,
            late=late,
            numbers=np.append(self.numbers, np.full(count, sequence))[order],
            counted=np.append(self.counted, np.ones(count, bool))[order],
            settled=np.append(self.settled, np.zeros(count, bool))[order],
            applied=np.append(self.applied, sequence),
        )

    def reloaded(self, loaded: Totals, events: Events) -> "Account":
        """With the statistics of a whole history in the place of those of the last one.

        Late events that the load before had are dropped: their index is in use by now. Those that this
        load has stay listed, for readers of the index that it replaces.
        """
        late, numbers = take(self.late, self.counted), self.numbers[self.counted]
        counted = ~equal_to_any(late, events) if len(numbers) else np.zeros(0, bool)
        settled = np.ones(len(numbers), bool)
        return Account(loaded, late, numbers, counted, settled, np.unique(numbers), self.version)


class BehaviorTotals:
    """Accounts of all users in a state store.

    Args:
      store: holds one value a user; a namespace of its own is advisable (`store.scoped("totals")`).
      schema: of the data in use.
      key: what events are grouped by, a categorical history field.
      distinct: history fields whose different values are counted in each group.

    Raises:
      ValueError: the schema's events have no such fields.
    """

    def __init__(self, store: StateStore, schema: Schema, key: str, distinct: Sequence[str] = ()):
        names = [field.name for field in schema.stored_fields if field.is_categorical]
        if unknown := [name for name in (key, *distinct) if name not in names]:
            raise ValueError(f"totals are of categorical fields of events, {names}; got {unknown}.")
        self.key = key
        self.types = schema.behavior_types if BEHAVIOR_TYPE in names else ()
        self.distinct = tuple(distinct)
        self.numeric_features = schema.numeric_features
        self.schema = schema.fingerprint()
        self._store = store
        self._dtypes = BlockCodec(schema, key).dtypes

    @property
    def names(self) -> list[str]:
        """Names of the statistics, see `StatisticsSpec`."""
        types = tuple((name, FIRST_ID + n) for n, name in enumerate(self.types))
        return list(StatisticsSpec(types, self.distinct, self.numeric_features).names)

    def users(self) -> Iterator[int]:
        """Everybody who has an account."""
        return self._store.users()

    def check(self) -> None:
        """Looks at one account; raises `StaleValueError` where the store holds those of other data."""
        for user in self.users():
            with contextlib.suppress(DamagedValueError):
                self.account(user)
                return

    def damaged_users(self) -> Iterator[int]:
        """Users whose account is damaged; a batch load counts their history anew."""
        for user in self.users():
            try:
                self.account(user)
            except DamagedValueError:
                yield user

    def drop(self, user: int) -> None:
        """Deletes a user's account."""
        self._store.delete(user)

    def of(self, user: int) -> Totals:
        """A user's statistics; of no keys for somebody unknown."""
        return self.total(self.account(user))

    def total(self, account: Account) -> Totals:
        """Statistics of what was loaded and of the late events that it does not include."""
        if not account.counted.any():
            return account.loaded
        return account.loaded.plus(self.count(take(account.late, account.counted)))

    def account(self, user: int) -> Account:
        """Account of a user.

        Raises:
          StaleValueError: it was stored for another schema, key or distinct fields.
        """
        return self._decode(self._store.get(user) if user >= 0 else None)

    def count(self, events: Mapping[str, np.ndarray]) -> Totals:
        """Statistics from scratch.

        Args:
          events: history field -> values, [events]; {} for none.
        """
        if not events or not len(events[self.key]):
            pairs = {name: np.zeros((0, 2), np.int64) for name in self.distinct}
            none = np.zeros(0, np.int64)
            amounts = {name: np.zeros((0, 2), np.int64) for name in self.numeric_features}
            return Totals(none, np.zeros((0, 1 + len(self.types)), np.int64), none, pairs, amounts)
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
        amounts = {}
        for name in self.numeric_features:
            codes = np.asarray(events[name]).astype(np.int64)
            amounts[name] = np.zeros((len(keys), 2), np.int64)
            np.add.at(amounts[name], row, np.stack([codes > 0, codes], axis=1))
        return Totals(keys, counts, newest, pairs, amounts)

    def append(self, user: int, events: Events, sequence: int) -> bool:
        """Adds the events of one delivery, and says whether its number was new."""

        def with_events(account: Account) -> Account | None:
            return None if sequence in account.applied else account.after(events, sequence)

        return self.change(user, with_events)

    def change(
        self,
        user: int,
        changed: Callable[[Account], Account | None],
        decode: Callable[[bytes | None], Account] | None = None,
    ) -> bool:
        """Replaces a user's account; called anew where somebody else has replaced it meanwhile.

        Args:
          user: dense id.
          changed: gives the new account for the present one; None where that is to stay.
          decode: reads the present one; None for the plain way, which refuses damaged ones.

        Returns:
          Whether it was replaced.
        """
        decode = decode or self._decode
        while True:
            data = self._store.get(user)
            account = changed(decode(data))
            if account is None:
                return False
            if self._store.swap_many({user: data}, {user: self._encode(account)}):
                return True

    @contextlib.contextmanager
    def loading(self) -> Iterator[Callable[[int, Events], None]]:
        """Gives a function that sets a user's statistics from a whole history; written in batches.

        Late events that the history has do not count any more, others do; those of a damaged account are
        lost.
        """
        waiting: dict[int, Events] = {}

        def reload(user: int, account: Account) -> Account:
            return account.reloaded(self.count(waiting[user]), waiting[user])

        def flush() -> None:
            held = dict(zip(waiting, self._store.get_many(list(waiting)), strict=True))
            new = {u: self._encode(reload(u, self._mended(data))) for u, data in held.items()}
            if not self._store.swap_many(held, new):  # the stream was faster for some of them
                for user in waiting:
                    self.change(user, functools.partial(reload, user), self._mended)
            waiting.clear()

        def load(user: int, events: Events) -> None:
            waiting[user] = events
            many = sum(len(history[TIME]) for history in waiting.values()) >= _BUFFERED_EVENTS
            if many or len(waiting) >= _BUFFERED_USERS:
                flush()

        yield load
        flush()

    @property
    def _version(self) -> str:
        """Identity of stored values: these fields of this schema."""
        return "/".join((self.schema, self.key, *self.distinct))

    def _mended(self, data: bytes | None) -> Account:
        """The account of a value; in the place of a damaged one a new one."""
        try:
            return self._decode(data)
        except DamagedValueError:
            # Groups that were cached for a version that is lost must not be taken for those of a later one.
            return dataclasses.replace(self._decode(None), version=secrets.randbits(30))

    def _decode(self, data: bytes | None) -> Account:
        if data is None:
            none, nothing = np.zeros(0, np.int64), np.zeros(0, bool)
            late = {name: np.zeros(0, dtype) for name, dtype in self._dtypes.items()}
            return Account(self.count({}), late, none, nothing, nothing, none)
        try:
            value = decode_value(data, model_version=_MODEL_VERSION, schema=self._version)
        except StaleValueError as error:
            raise StaleValueError(
                f"expected totals of {self._version!r} (schema, key, distinct fields), but these were "
                "stored for others; give the store that was loaded from these data, or load an empty "
                "one with python -m experiments.build_index --totals_store."
            ) from error
        arrays = value.arrays
        pairs = {name: arrays[DISTINCT + name] for name in self.distinct}
        amounts = {name: arrays[_AMOUNTS + name] for name in self.numeric_features}
        loaded = Totals(arrays[_KEYS], arrays[_COUNTS], arrays[_NEWEST], pairs, amounts)
        late = {name: arrays[_LATE + name] for name in self._dtypes}
        flags = (arrays[name] for name in (_NUMBERS, _COUNTED, _SETTLED, _APPLIED))
        numbers, counted, settled, applied = flags
        return Account(loaded, late, numbers, counted, settled, applied, value.sequence)

    def _encode(self, account: Account) -> bytes:
        """The account under its next version."""
        return encode_value(
            {
                _KEYS: account.loaded.keys,
                _COUNTS: account.loaded.counts,
                _NEWEST: account.loaded.newest,
                **{DISTINCT + name: pairs for name, pairs in account.loaded.pairs.items()},
                **{_AMOUNTS + name: sums for name, sums in account.loaded.amounts.items()},
                **{_LATE + name: values for name, values in account.late.items()},
                _NUMBERS: account.numbers,
                _COUNTED: account.counted,
                _SETTLED: account.settled,
                _APPLIED: account.applied,
            },
            model_version=_MODEL_VERSION,
            schema=self._version,
            sequence=account.version + 1,
        )
