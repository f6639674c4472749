"""Sorts the events of a bucket into one history a user, and drops exact duplicates.

The order within a user is (timestamp, microsecond, item, category, behavior, then what else the log has),
all as integers: a total order, so that the result does not depend on the order of the log's rows. Where the
recorded order means something, events of one time keep it instead.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from data_prep.events import BEHAVIOR, CATEGORY, ITEM, MICROSECOND, TIME, USER
from data_prep.storage import Columns

_USERS, _OFFSETS = "users", "offsets"
_EVENT_COLUMNS = (ITEM, CATEGORY, BEHAVIOR, TIME)
_TIMES = (TIME, MICROSECOND)
_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9)  # odd and with bits of no pattern, as in SplitMix64


@dataclasses.dataclass(frozen=True)
class Histories:
    """All events of some users, each user's oldest first.

    Attributes:
      users: user keys, rising, int64 [users].
      offsets: where each user's events begin, then the total, int64 [users + 1].
      events: `item_id, category_id, behavior_type, timestamp` and what else the log has, each [events].
    """

    users: np.ndarray
    offsets: np.ndarray
    events: Columns

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def owner(self) -> np.ndarray:
        """Row of the user of each event, int64 [events]."""
        return np.repeat(np.arange(len(self.users)), self.lengths)

    def to_columns(self) -> Columns:
        return {_USERS: self.users, _OFFSETS: self.offsets, **self.events}

    @classmethod
    def from_columns(cls, columns: Columns, more: Sequence[str] = ()) -> "Histories":
        names = (*_EVENT_COLUMNS, MICROSECOND, *more)
        events = {name: columns[name] for name in names if name in columns}
        return cls(columns[_USERS], columns[_OFFSETS], events)


def build_histories(columns: Columns, *, keeps_order: bool = False) -> tuple[Histories, int]:
    """Groups events by user and sorts them.

    Args:
      columns: every name of `events.COLUMNS`, side and numeric features, in any order of rows.
      keeps_order: leaves a user's events of one time in the order of the rows.

    Returns:
      The histories, and how many exact duplicates were dropped, of each event all but the first.
    """
    order = recorded_order(columns) if keeps_order else event_order(columns)
    columns = {name: column[order] for name, column in columns.items()}
    same_user = _repeats(columns[USER])
    same_time = same_user & _repeats(columns[TIME])
    if MICROSECOND in columns:
        same_time &= _repeats(columns[MICROSECOND])
    find = _repeated_events if keeps_order else _repeated_neighbors
    duplicate = find(columns, same_time)
    duplicates = int(duplicate.sum())
    if duplicates:
        columns = {name: column[~duplicate] for name, column in columns.items()}
        same_user = same_user[~duplicate]
    # [users], and with the total [users + 1].
    first = np.flatnonzero(~same_user)
    offsets = np.append(first, len(same_user)).astype(np.int64)
    users = columns.pop(USER)[first]
    return Histories(users, offsets, columns), duplicates


def event_order(columns: Columns) -> np.ndarray:
    """Permutation that sorts events by user, time, item, category, behavior and the other columns.

    One sort of a packed (user, second) key does nearly all the work; only events of one user and one
    second are compared further.
    """
    key = _user_and_second(columns)
    if key is None:
        return np.lexsort((*_tie_keys(columns), columns[TIME], columns[USER]))
    order = np.argsort(key)
    key = key[order]
    rows = _ties(_repeats(key))  # events that share user and second with a neighbor
    if len(rows):
        tied_events = order[rows]
        ties = {name: column[tied_events] for name, column in columns.items()}
        order[rows] = tied_events[np.lexsort((*_tie_keys(ties), key[rows]))]
    return order


def recorded_order(columns: Columns) -> np.ndarray:
    """Permutation that sorts events by user and time, those of one time in the order of the rows."""
    within_second = [columns[MICROSECOND]] if MICROSECOND in columns else []
    rows = len(columns[USER])
    key = _user_and_second(columns, rows.bit_length())
    if key is None:
        return np.lexsort((*within_second, columns[TIME], columns[USER]))
    # The row's number below user and second: sorting numbers is several times faster than a stable argsort.
    key = (key << rows.bit_length()) | np.arange(rows)
    key.sort()
    order = key & ((1 << rows.bit_length()) - 1)
    if within_second:
        key >>= rows.bit_length()
        is_repeat = _repeats(key)
        tied = _ties(is_repeat)
        microseconds = within_second[0][order[tied]]
        order[tied] = order[tied][np.lexsort((microseconds, np.cumsum(~is_repeat)[tied]))]
    return order


def _user_and_second(columns: Columns, more_bits: int = 0) -> np.ndarray | None:
    """One integer an event that sorts by user, then second; None where int64 cannot hold both and more bits."""
    user, time = columns[USER], columns[TIME]
    if not len(user):
        return np.zeros(0, np.int64)
    # Times are shifted to start at 0, so that they take few bits.
    earliest = int(time.min())
    time_bits = (int(time.max()) - earliest).bit_length()
    user_bits = 63 - more_bits - time_bits
    # Large keys (digests of words) are replaced by their ranks, which take few bits.
    if user.min() < 0 or int(user.max()).bit_length() > user_bits:
        user = np.unique(user, return_inverse=True)[1]
    if int(user.max()).bit_length() > user_bits:
        return None
    return (user.astype(np.int64) << time_bits) | (time.astype(np.int64) - earliest)


def _tie_keys(columns: Columns) -> tuple[np.ndarray, ...]:
    """Columns by which events of one user and second are sorted, the first one last."""
    more = sorted(set(columns) - {USER, *_EVENT_COLUMNS, MICROSECOND}, reverse=True)
    names = (*more, BEHAVIOR, CATEGORY, ITEM)
    if MICROSECOND in columns:
        names = (*names, MICROSECOND)
    return tuple(columns[name] for name in names)


def _repeated_neighbors(columns: Columns, same_time: np.ndarray) -> np.ndarray:
    """True for events that equal the one before, bool [events].

    Args:
      columns: of sorted events, so that equal ones are neighbors.
      same_time: True for events with user and time of the one before, bool [events].
    """
    duplicate = same_time.copy()
    if duplicate.any():
        for name in set(columns) - {USER, *_TIMES}:
            duplicate &= _repeats(columns[name])
    return duplicate


def _repeated_events(columns: Columns, same_time: np.ndarray) -> np.ndarray:
    """True for events that equal an earlier one of the same user and time, bool [events].

    Args:
      columns: of events by user and time.
      same_time: True for events with user and time of the one before, bool [events].
    """
    rows = _ties(same_time)
    ties = {n: c[rows] for n, c in columns.items() if n not in (USER, *_TIMES)}
    # Equal events have equal digests.
    digest = np.cumsum(~same_time)[rows].astype(np.uint64)
    for name in sorted(ties):
        digest ^= ties[name].astype(np.uint64)
        digest *= _MULTIPLIER
        digest ^= digest >> np.uint64(29)
    some = np.flatnonzero(pd.Series(digest).duplicated(keep=False))
    # Sorted by digest, equal events are neighbors, the earliest first.
    some = some[np.argsort(digest[some], kind="stable")]
    sorted_ties = {name: column[some] for name, column in ties.items()}
    duplicate = np.zeros(len(same_time), bool)
    duplicate[rows[some]] = _repeated_neighbors(sorted_ties, _repeats(digest[some]))
    return duplicate


def _ties(repeats: np.ndarray) -> np.ndarray:
    """Rows that equal a neighbor, int64, where True in `repeats` says that a row equals the one before."""
    tied = repeats.copy()
    tied[:-1] |= repeats[1:]
    return np.flatnonzero(tied)


def _repeats(column: np.ndarray) -> np.ndarray:
    """True where a value equals the one before it, [values]."""
    repeats = np.zeros(len(column), bool)
    repeats[1:] = column[1:] == column[:-1]
    return repeats
