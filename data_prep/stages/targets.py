"""Events to predict, each with the cut of the history from which it is seen.

`cut` is the number of the user's events that the candidate may see. It is stored as `cand_position`.
"""

import dataclasses

import numpy as np

from data_prep.events import ITEM, MICROSECOND, TIME
from data_prep.stages.histories import Histories


@dataclasses.dataclass(frozen=True)
class Targets:
    """Events to predict, ordered by user and event.

    Attributes:
      user: row of the user in the histories, int64 [targets].
      event: index of the event in the user's history, int64 [targets].
      cut: how many of the user's events come before, int64 [targets].
      split: 0 train, 1 validation, 2 test, int8 [targets].
    """

    user: np.ndarray
    event: np.ndarray
    cut: np.ndarray
    split: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> "Targets":
        """The targets at `rows` (indices or a mask)."""
        return Targets(self.user[rows], self.event[rows], self.cut[rows], self.split[rows])


def last_events(
    histories: Histories,
    event_split: np.ndarray,
    targets_per_user: int,
    *,
    strict: bool,
    eligible: np.ndarray | None = None,
) -> Targets:
    """The last events of each user in each split that the user has events in.

    Args:
      histories: of one bucket.
      event_split: split of each event, never falling within a user, int8 [events].
      targets_per_user: at most this many, the newest.
      strict: the cut excludes events of the target's own time (second, or microsecond where the log has
        it), whose order is not known; otherwise it holds all events that are sorted before the target.
      eligible: which events may be targets, bool [events]; all where None.
    """
    owner = histories.owner
    among = np.arange(len(owner)) if eligible is None else np.flatnonzero(eligible)
    run = (owner * 4 + event_split)[among]  # one run for each user and split
    rows = np.arange(len(run))
    # Row after the last of each run, then the distance of every row from that end.
    ends = np.append(np.flatnonzero(run[1:] != run[:-1]) + 1, len(run)) if len(run) else rows
    from_end = np.repeat(ends, np.diff(ends, prepend=0)) - rows
    events = among[from_end <= targets_per_user]
    return _targets(histories, owner, events, event_split, strict=strict)


def every_event(histories: Histories, event_split: np.ndarray, *, strict: bool) -> Targets:
    """All events, seen from their own places; see `last_events`."""
    owner = histories.owner
    return _targets(histories, owner, np.arange(len(owner)), event_split, strict=strict)


def last_times(histories: Histories, eligible: np.ndarray) -> np.ndarray:
    """Second of each user's last eligible event, or last event where none is, int64 [users]."""
    events = np.arange(len(eligible))
    # Any eligible event ranks above all others; within both, the newest ranks highest.
    rank = np.where(eligible, events + len(events), events)
    if not len(histories.users):
        return np.zeros(0, np.int64)
    newest = np.maximum.reduceat(rank, histories.offsets[:-1]) % max(len(events), 1)
    return histories.events[TIME][newest]


def _targets(
    histories: Histories,
    owner: np.ndarray,
    events: np.ndarray,
    event_split: np.ndarray,
    *,
    strict: bool,
) -> Targets:
    """Events, rising, as targets."""
    begin = histories.offsets[owner[events]]
    cut = events - begin
    if strict:
        cut = first_of_time(histories, events) - begin
    return Targets(owner[events], events - begin, cut, event_split[events])


def first_of_time(histories: Histories, events: np.ndarray) -> np.ndarray:
    """Index of the first event of the same user and time, to the microsecond where the log has it.

    Args:
      histories: of one bucket.
      events: indices of some events, int64 [targets].
    """
    names = [name for name in (TIME, MICROSECOND) if name in histories.events]
    starts = run_starts(histories.owner, *(histories.events[name] for name in names))
    return starts[np.searchsorted(starts, events, side="right") - 1] if len(events) else events


def run_starts(*columns: np.ndarray) -> np.ndarray:
    """Index at which each run of rows that are equal in all columns starts, int64 [runs]."""
    new = np.zeros(len(columns[0]), bool)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(new)


def targets_of_lines(
    histories: Histories, lines: dict[str, np.ndarray]
) -> tuple[Targets, np.ndarray, np.ndarray]:
    """Targets of the lines of an examples file.

    Args:
      histories: of one bucket.
      lines: `user`, `split`, `position`, `time`, `positive` of the bucket's lines, each [lines].

    Returns:
      One target a line, in the order of user, split, position and line; that order; and the lines
      that name no event: unknown user, position beyond the history, or another item or second than
      the event at that position has. The targets are only to be used where there are none.
    """
    order = np.lexsort((lines["position"], lines["split"], lines["user"]))
    lines = {name: column[order] for name, column in lines.items()}
    user = np.searchsorted(histories.users, lines["user"])
    matches = user < len(histories.users)
    user = np.where(matches, user, 0)
    position = lines["position"]
    if len(histories.users):
        matches &= histories.users[user] == lines["user"]
        matches &= (position >= 0) & (position < histories.lengths[user])
        event = np.where(matches, histories.offsets[user] + position, 0)
        matches &= histories.events[ITEM][event] == lines["positive"]
        matches &= histories.events[TIME][event] == lines["time"]
    targets = Targets(user, position, position, lines["split"].astype(np.int8))
    return targets, order, order[~matches]
