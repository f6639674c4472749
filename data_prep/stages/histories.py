"""Sorts the events of a bucket into one history a user, and drops exact duplicates.

The order within a user is (timestamp, item, category, behavior, then what else the log has), all as
integers: a total order, so that the result does not depend on the order of the log's rows.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_prep.events import BEHAVIOR, CATEGORY, ITEM, TIME, USER
from data_prep.storage import Columns

_USERS, _OFFSETS = "users", "offsets"
_EVENT_COLUMNS = (ITEM, CATEGORY, BEHAVIOR, TIME)


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
        names = (*_EVENT_COLUMNS, *more)
        events = {name: columns[name] for name in names if name in columns}
        return cls(columns[_USERS], columns[_OFFSETS], events)


def build_histories(columns: Columns) -> tuple[Histories, int]:
    """Groups events by user and sorts them.

    Args:
      columns: every name of `events.COLUMNS`, side and numeric features, in any order of rows.

    Returns:
      The histories, and how many exact duplicates were dropped.
    """
    order = event_order(columns)
    columns = {name: column[order] for name, column in columns.items()}
    # Rows are sorted, so equal events are neighbors.
    same_user = _repeats(columns[USER])
    duplicate = same_user & _repeats(columns[TIME])
    if duplicate.any():
        for name in set(columns) - {USER, TIME}:
            duplicate &= _repeats(columns[name])
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
    """Permutation that sorts events by user, timestamp, item, category, behavior and the other columns.

    One sort of a packed (user, time) key does nearly all the work; only events of one user and one
    second are compared further.
    """
    user, time = columns[USER], columns[TIME]
    if not len(user):
        return np.zeros(0, np.int64)
    # Times are shifted to start at 0, so that they take few bits.
    earliest = int(time.min())
    time_bits = (int(time.max()) - earliest).bit_length()
    # Large keys (digests of words) are replaced by their ranks, which take few bits.
    if user.min() < 0 or int(user.max()).bit_length() + time_bits > 63:
        user = np.unique(user, return_inverse=True)[1]
    if int(user.max()).bit_length() + time_bits > 63:  # times spread over more than int64 can pack
        return np.lexsort((*_tie_keys(columns), time, user))
    # [events]: one integer that sorts by user, then time.
    key = (user.astype(np.int64) << time_bits) | (time.astype(np.int64) - earliest)
    order = np.argsort(key)
    key = key[order]
    # True for events that share user and second with a neighbor.
    tied = np.zeros(len(key), bool)
    tied[1:] = key[1:] == key[:-1]
    tied[:-1] |= tied[1:]
    rows = np.flatnonzero(tied)
    if len(rows):
        tied_events = order[rows]
        ties = {name: column[tied_events] for name, column in columns.items()}
        order[rows] = tied_events[np.lexsort((*_tie_keys(ties), key[rows]))]
    return order


def _tie_keys(columns: Columns) -> tuple[np.ndarray, ...]:
    """Columns by which events of one user and second are sorted, the first one last."""
    more = sorted(set(columns) - {USER, *_EVENT_COLUMNS}, reverse=True)
    return tuple(columns[name] for name in (*more, BEHAVIOR, CATEGORY, ITEM))


def _repeats(column: np.ndarray) -> np.ndarray:
    """True where a value equals the one before it, [values]."""
    repeats = np.zeros(len(column), bool)
    repeats[1:] = column[1:] == column[:-1]
    return repeats
