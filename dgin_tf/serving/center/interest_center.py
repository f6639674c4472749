"""MIMN's User Interest Center (Pi et al., KDD 2019, section 4.2): user states that follow events.

The ranking server never reads a history. Whenever a user does something, this side folds the event
into the stored state, and a request reads the state, whose size does not depend on the length of the
history.

Events are delivered at least once. A state and the number of the last event in it are one value, so
that an event that is delivered again, after a crash or by a producer that was not sure, changes
nothing. A state is written only over the one that was read: two centers that were started for the same
users by mistake do the work twice and harm nothing.

A stored state that is damaged is its user's affair alone: it is set aside, and the user goes on from the
history that a prepared data set has, or else from the empty state.
"""

import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from dgin_tf.records import Arrays
from dgin_tf.serving.center.event_sources import EventSource
from dgin_tf.serving.center.events import BadEventError, Event, EventParser
from dgin_tf.serving.center.progress import FORGOTTEN, LATE, REPEATED, Progress
from dgin_tf.serving.center.user_states import DamagedState, UserState, UserStates
from dgin_tf.stores.state_store import StoreError

Result = TypeVar("Result")
Say = Callable[[str], None]
Rebuild = Callable[[Collection[int]], Mapping[int, UserState]]

LONGEST_GAP = 10**9

_MAX_COLLISIONS = 100
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0  # seconds


class Updater(Protocol):
    """The model's side of a center; see `StateUpdater`, which runs an exported one."""

    def empty(self, user_ids: Sequence[int]) -> list[Arrays]:
        """States of users without events."""

    def update(
        self, states: Sequence[Arrays], events: Sequence[Mapping[str, np.ndarray]]
    ) -> list[Arrays]:
        """States with newer events folded in."""


class Letters(Protocol):
    """Takes lines that cannot be folded in; see `DeadLetters`, which writes them to a file."""

    def write(self, letters: Iterable[tuple[bytes, str]]) -> None:
        """Takes lines with their reasons."""


@dataclasses.dataclass
class Counts:
    """Events by outcome, since the center started.

    Attributes:
      lines: all lines.
      updates: events that were folded into a state.
      repeats: events whose number had been read before.
      forgotten: events so old that a repeat cannot be told from a late event; they change nothing.
      covered_by_history: events as old as the history that the state was encoded from.
      dead_letters: lines written to the dead letters.
      gaps: times that numbers were skipped.
      new_users: users whose state began empty, for the first time.
      batches: micro-batches.
      damaged_states: states that were damaged, and began anew.
    """

    lines: int = 0
    updates: int = 0
    repeats: int = 0
    forgotten: int = 0
    covered_by_history: int = 0
    dead_letters: int = 0
    gaps: int = 0
    new_users: int = 0
    batches: int = 0
    damaged_states: int = 0

    @property
    def usable(self) -> int:
        """Events that were applied now or before."""
        return self.updates + self.repeats + self.forgotten + self.covered_by_history

    def __str__(self) -> str:
        return (
            f"{self.lines:,} events in {self.batches:,} batches: {self.updates:,} applied, "
            f"{self.repeats:,} repeated, {self.forgotten:,} repeated or too late, "
            f"{self.covered_by_history:,} included before, {self.dead_letters:,} refused; "
            f"{self.new_users:,} newcomers, {self.gaps:,} gaps, {self.damaged_states:,} damaged states"
        )


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds within which a center goes on.

    Attributes:
      patience: seconds for which a failing store is tried again.
      longest_gap: how far beyond the newest number of its user an event's number may be. One that is far
        ahead by mistake would make every later event of the user come too late. A user's own events
        hardly number a billion; raise it for numbers that are positions in a longer log, or times.
    """

    patience: float = 60.0
    longest_gap: int = LONGEST_GAP


@dataclasses.dataclass
class _Plan:
    """Changes of a micro-batch to one user.

    Attributes:
      state: that the events are folded into; None for the empty one.
      data: bytes in the store, which are replaced; None where there are none.
      user_id: an input of the empty state.
      progress: after the events.
      events: in their order.
    """

    state: UserState | None
    data: bytes | None
    user_id: int
    progress: Progress
    events: list[Event]


class InterestCenter:
    """Folds events into states.

    Args:
      updater: the model.
      states: of the model's version, in a store.
      parser: reads lines.
      dead_letters: takes the lines that cannot be folded in.
      limits: bounds.
      say: takes lines of the log.
      rebuild: users -> states of those whose history is known, for users whose stored state is damaged.
    """

    def __init__(
        self,
        updater: Updater,
        states: UserStates,
        parser: EventParser,
        dead_letters: Letters,
        limits: Limits = Limits(),  # noqa: B008  (it is frozen)
        say: Say = lambda line: None,
        rebuild: Rebuild = lambda users: {},
    ):
        self.counts = Counts()
        self._updater = updater
        self._states = states
        self._parser = parser
        self._dead_letters = dead_letters
        self._limits = limits
        self._say = say
        self._rebuild = rebuild

    def apply(self, lines: Sequence[bytes]) -> None:
        """Folds a micro-batch in; when it returns, states and dead letters are in their media.

        Args:
          lines: events as JSON.

        Raises:
          StoreError: the store failed for too long. Nothing of the batch, or all of it, was written.
          ValueError: another version wrote a stored state.
        """
        events_by_user: dict[int, list[Event]] = {}
        bad_lines: list[tuple[bytes, str]] = []
        for line in lines:
            try:
                event = self._parser(line)
                events_by_user.setdefault(event.user, []).append(event)
            except BadEventError as error:
                bad_lines.append((line, str(error)))
        # A micro-batch may be out of order within itself, at no harm.
        for events in events_by_user.values():
            events.sort(key=lambda event: event.sequence)
        if bad_lines:
            self._dead_letters.write(bad_lines)
        # All states are swapped together: where another process wrote one, all are planned anew.
        for _ in range(_MAX_COLLISIONS):
            counts = Counts()
            states = self._read(list(events_by_user), counts)
            plans, late_lines = self._plan(events_by_user, states, counts)
            if late_lines:
                # Before the states: after a crash between the two, the events are read again and
                # written again. In the other order, their numbers would be known and they lost.
                self._dead_letters.write(late_lines)
            if self._fold(plans):
                counts.lines, counts.batches = len(lines), 1
                counts.dead_letters = len(bad_lines) + len(late_lines)
                for field in dataclasses.fields(Counts):
                    total = getattr(self.counts, field.name) + getattr(counts, field.name)
                    setattr(self.counts, field.name, total)
                return
        raise StoreError(
            f"other processes kept writing the states of {len(events_by_user)} users in "
            f"{self._states.namespace!r}; run one interest center for a user's events."
        )

    def retry(self, action: Callable[[], Result]) -> Result:
        """Result of `action`, which is called again with growing pauses while the store fails.

        Raises:
          StoreError: it failed for longer than the center's patience.
        """
        start, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                result = action()
            except StoreError as error:
                seconds = time.monotonic() - start
                if seconds + pause > self._limits.patience:
                    raise StoreError(
                        f"gave up after {seconds:.0f} seconds; what was not acknowledged will be "
                        f"delivered again: {error}"
                    ) from error
                if pause == _FIRST_PAUSE:
                    self._say(f"trying again for up to {self._limits.patience:g} seconds: {error}")
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                if pause > _FIRST_PAUSE:
                    self._say(f"it answers again, after {time.monotonic() - start:.1f} seconds")
                return result

    def _read(
        self, users: Sequence[int], counts: Counts
    ) -> dict[int, UserState | DamagedState | None]:
        """What is stored of users, and in the place of damaged states those of known histories."""
        stored_states = self.retry(lambda: self._states.read_each(users))
        states = dict(zip(users, stored_states, strict=True))
        damaged = {user: s for user, s in states.items() if isinstance(s, DamagedState)}
        if damaged:
            # Before others are written in their place.
            self.retry(lambda: self._states.set_aside(damaged))
            rebuilt = self._rebuild(damaged.keys())
            counts.damaged_states = len(damaged)
            for user, state in damaged.items():
                beginning = "the empty state"
                if user in rebuilt:
                    beginning = "the history in the prepared data"
                    states[user] = dataclasses.replace(rebuilt[user], data=state.data)
                self._say(
                    f"the stored state of user {user} is damaged; it was set aside, and the user goes on "
                    f"from {beginning}."
                )
        return states

    def _plan(
        self,
        events_by_user: Mapping[int, list[Event]],
        states: Mapping[int, UserState | DamagedState | None],
        counts: Counts,
    ) -> tuple[dict[int, _Plan], list[tuple[bytes, str]]]:
        """Plans of the users with an event that was not read before, and late lines with the reason."""
        plans: dict[int, _Plan] = {}
        late_lines: list[tuple[bytes, str]] = []
        for user, events in events_by_user.items():
            stored_state = states[user]
            state = stored_state if isinstance(stored_state, UserState) else None
            progress = state.progress if state else Progress()
            data = stored_state.data if stored_state else None
            plan = _Plan(state, data, events[0].user_id, progress, [])
            for event in events:
                if reason := _add_event(plan, event, self._limits.longest_gap, counts):
                    late_lines.append((event.line, reason))
            if plan.progress != progress or isinstance(stored_state, DamagedState):
                plans[user] = plan
                counts.new_users += stored_state is None
        return plans, late_lines

    def _fold(self, plans: dict[int, _Plan]) -> bool:
        """Runs the model and writes; False where another process wrote one of the states."""
        new_users = [user for user, plan in plans.items() if plan.state is None]
        empty = self._updater.empty([plans[user].user_id for user in new_users])
        states = {
            user: UserState(arrays, Progress())
            for user, arrays in zip(new_users, empty, strict=True)
        }
        for user, plan in plans.items():
            state = plan.state or states[user]
            states[user] = UserState(state.arrays, plan.progress, plan.data)
        # Progress without an event, such as a late one, is written too, but needs no model.
        active_users = [user for user, plan in plans.items() if plan.events]
        results = self._updater.update(
            [states[user].arrays for user in active_users],
            [_columns(plans[user].events) for user in active_users],
        )
        for user, arrays in zip(active_users, results, strict=True):
            states[user] = dataclasses.replace(states[user], arrays=arrays)
        return not states or self.retry(lambda: self._states.swap(states))


def consume(
    center: InterestCenter,
    source: EventSource,
    should_stop: Callable[[], bool] = lambda: False,
    batch_events: int = 1024,
    acknowledge_seconds: float = 1.0,
    after_acknowledging: Callable[[], None] = lambda: None,
) -> None:
    """Reads a source until it ends or `should_stop` returns True.

    Args:
      center: folds events in.
      source: gives events.
      should_stop: called between micro-batches.
      batch_events: most events of a micro-batch. A single one does not wait for others.
      acknowledge_seconds: shortest time between two acknowledgments, unless nothing is left to read.
      after_acknowledging: called after each.

    Raises:
      StoreError: store or source failed for too long; acknowledged events are in the store.
    """
    last_time, is_waiting = time.monotonic(), False

    def acknowledge() -> None:
        center.retry(source.acknowledge)
        after_acknowledging()

    while not source.is_finished and not should_stop():
        lines = center.retry(lambda: source.read(batch_events))
        if lines:
            center.apply(lines)
            is_waiting = True
        if is_waiting and (not lines or time.monotonic() - last_time > acknowledge_seconds):
            acknowledge()
            last_time, is_waiting = time.monotonic(), False
    if is_waiting:
        acknowledge()


def _add_event(plan: _Plan, event: Event, longest_gap: int, counts: Counts) -> str:
    """Adds an event to a plan; returns the reason why it can be in no state, "" where it can."""
    progress = plan.progress
    if event.sequence > progress.sequence + longest_gap:
        # The progress stays: with this number, every later event would be too late.
        return (
            f"sequence {event.sequence} is more than {longest_gap} beyond {progress.sequence}, the newest "
            "of the user; numbers rise by 1, or by more where --longest_gap allows it"
        )
    order = progress.order_of(event.sequence)
    if order == REPEATED:
        counts.repeats += 1
        return ""
    if order == FORGOTTEN:
        counts.forgotten += 1
        return ""
    counts.gaps += event.sequence > progress.sequence + 1
    if event.time <= progress.included_until:
        counts.covered_by_history += 1
        plan.progress = progress.after(event.sequence)
        return ""
    reason = ""
    if order == LATE:
        reason = f"too late: event {progress.sequence} of the same user was read before"
    elif event.time < progress.newest:
        reason = f"time runs backwards: the newest event of the user is of {progress.newest}"
    if reason:
        plan.progress = progress.after(event.sequence)
        return reason
    plan.progress = progress.after(event.sequence, event.time)
    plan.events.append(event)
    counts.updates += 1
    return ""


def _columns(events: Sequence[Event]) -> dict[str, np.ndarray]:
    """Field -> values, [events]."""
    return {name: np.array([event.values[name] for event in events]) for name in events[0].values}
