"""MIMN's User Interest Center (Pi et al., KDD 2019, section 4.2): states that follow people's events.

The ranking server never reads a history. Whenever somebody does something, this side folds the event
into the stored state, and a request reads the state, whose size does not depend on how long the
history is.

Events are delivered at least once. A state and the number of the last event in it are one value, so
that an event that comes again, after a crash or from a producer that was not sure, changes nothing.
What is written is written only over what was read: two centers that were given the same people by
mistake do twice the work and harm nothing.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from dgin_tf.serving.center.dead_letters import DeadLetters
from dgin_tf.serving.center.event_sources import EventSource
from dgin_tf.serving.center.events import BadEventError, Event, EventParser
from dgin_tf.serving.center.progress import FORGOTTEN, LATE, REPEATED, Progress
from dgin_tf.serving.center.user_states import Arrays, UserState, UserStates
from dgin_tf.stores.state_store import StoreError

Result = TypeVar("Result")
Say = Callable[[str], None]

_MOST_COLLISIONS = 100
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0  # seconds


class Updater(Protocol):
    """What a center asks of a model; see `StateUpdater`, which runs an exported one."""

    def empty(self, user_ids: Sequence[int]) -> list[Arrays]:
        """States of people without events."""

    def update(
        self, states: Sequence[Arrays], events: Sequence[Mapping[str, np.ndarray]]
    ) -> list[Arrays]:
        """States with newer events folded in."""


@dataclasses.dataclass
class Counts:
    """What became of events since the center started.

    Attributes:
      read: lines.
      applied: folded into a state.
      repeated: their number had been read before.
      forgotten: repeated or too late, which cannot be told so long after; they change nothing.
      included: as old as what the state was warmed up with.
      refused: written to the dead letters.
      gaps: times that numbers were passed over.
      newcomers: people whose state began empty.
      batches: micro-batches.
    """

    read: int = 0
    applied: int = 0
    repeated: int = 0
    forgotten: int = 0
    included: int = 0
    refused: int = 0
    gaps: int = 0
    newcomers: int = 0
    batches: int = 0

    def __str__(self) -> str:
        return (
            f"{self.read:,} events in {self.batches:,} batches: {self.applied:,} applied, "
            f"{self.repeated:,} repeated, {self.forgotten:,} repeated or too late, "
            f"{self.included:,} included before, {self.refused:,} refused; "
            f"{self.newcomers:,} newcomers, {self.gaps:,} gaps"
        )


@dataclasses.dataclass
class _Plan:
    """What a micro-batch does to one person."""

    state: UserState | None
    user_id: int
    progress: Progress
    events: list[Event]


class InterestCenter:
    """Folds events into states.

    Args:
      updater: the model.
      states: where its states are kept.
      parser: reads lines.
      dead_letters: takes what cannot be folded in.
      patience: for how many seconds a store that fails is asked again.
      say: takes lines of the log.
    """

    def __init__(
        self,
        updater: Updater,
        states: UserStates,
        parser: EventParser,
        dead_letters: DeadLetters,
        patience: float = 60.0,
        say: Say = lambda line: None,
    ):
        self.counts = Counts()
        self._updater = updater
        self._states = states
        self._parser = parser
        self._dead_letters = dead_letters
        self._patience = patience
        self._say = say

    def apply(self, lines: Sequence[bytes]) -> None:
        """Folds a micro-batch in; when it returns, states and dead letters are in their media.

        Args:
          lines: events as JSON.

        Raises:
          StoreError: the store went on failing. Nothing of the batch, or all of it, was written.
          ValueError: a stored state is damaged, or another version wrote it.
        """
        by_person: dict[int, list[Event]] = {}
        letters: list[tuple[bytes, str]] = []
        for line in lines:
            try:
                event = self._parser(line)
                by_person.setdefault(event.person, []).append(event)
            except BadEventError as error:
                letters.append((line, str(error)))
        for events in by_person.values():
            events.sort(key=lambda event: event.sequence)
        if letters:
            self._dead_letters.write(letters)
        for _ in range(_MOST_COLLISIONS):
            counts = Counts()
            plans, refused = self._plans(by_person, counts)
            if refused:
                # Before the states: once a number has been read, its event would not be looked at again.
                self._dead_letters.write(refused)
            if self._fold(plans):
                self._count(counts, len(lines), len(letters) + len(refused))
                return
        raise StoreError(
            f"other processes kept writing the states of {len(by_person)} people in "
            f"{self._states.namespace!r}; run one interest center for a person's events."
        )

    def asking(self, action: Callable[[], Result]) -> Result:
        """What `action` gives, asked again with growing pauses while the store fails.

        Raises:
          StoreError: it failed for longer than the center's patience.
        """
        began, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                found = action()
            except StoreError as error:
                waited = time.monotonic() - began
                if waited + pause > self._patience:
                    raise StoreError(
                        f"gave up after {waited:.0f} seconds; what was not acknowledged will be "
                        f"delivered again: {error}"
                    ) from error
                if pause == _FIRST_PAUSE:
                    self._say(f"trying again for up to {self._patience:g} seconds: {error}")
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                if pause > _FIRST_PAUSE:
                    self._say(f"it answers again, after {time.monotonic() - began:.1f} seconds")
                return found

    def _plans(self, by_person: Mapping[int, list[Event]], counts: Counts):
        """Person -> what to do, for those with an event that was not read before; and refused lines."""
        people = list(by_person)
        held = self.asking(lambda: self._states.read(people))
        plans: dict[int, _Plan] = {}
        refused: list[tuple[bytes, str]] = []
        for person, state in zip(people, held, strict=True):
            events = by_person[person]
            progress = state.progress if state else Progress()
            plan = _Plan(state, events[0].user_id, progress, [])
            for event in events:
                if reason := _take(plan, event, counts):
                    refused.append((event.line, reason))
            if plan.progress != progress:
                plans[person] = plan
                counts.newcomers += state is None
        return plans, refused

    def _fold(self, plans: dict[int, _Plan]) -> bool:
        """Runs the model and writes; False where somebody else wrote one of the people."""
        new = [person for person, plan in plans.items() if plan.state is None]
        empty = self._updater.empty([plans[person].user_id for person in new])
        starts = {
            person: UserState(arrays, Progress()) for person, arrays in zip(new, empty, strict=True)
        }
        states = {
            person: dataclasses.replace(plan.state or starts[person], progress=plan.progress)
            for person, plan in plans.items()
        }
        moving = [person for person, plan in plans.items() if plan.events]
        updated = self._updater.update(
            [states[person].arrays for person in moving],
            [_columns(plans[person].events) for person in moving],
        )
        for person, arrays in zip(moving, updated, strict=True):
            states[person] = dataclasses.replace(states[person], arrays=arrays)
        return not states or self.asking(lambda: self._states.swap(states))

    def _count(self, counts: Counts, read: int, refused: int) -> None:
        counts.read, counts.refused, counts.batches = read, refused, 1
        for field in dataclasses.fields(Counts):
            total = getattr(self.counts, field.name) + getattr(counts, field.name)
            setattr(self.counts, field.name, total)


def consume(
    center: InterestCenter,
    source: EventSource,
    should_stop: Callable[[], bool] = lambda: False,
    batch_events: int = 1024,
    acknowledge_seconds: float = 1.0,
    after_acknowledging: Callable[[], None] = lambda: None,
) -> None:
    """Reads a source until it ends or `should_stop` says so.

    Args:
      center: folds events in.
      source: gives events.
      should_stop: asked between micro-batches.
      batch_events: most events of a micro-batch. One that is alone does not wait for others.
      acknowledge_seconds: at most so often, and whenever nothing is left to read, the source is told
        what need not be delivered again.
      after_acknowledging: called then.

    Raises:
      StoreError: store or source went on failing; what was acknowledged is in the store.
    """
    acknowledged, waiting = time.monotonic(), False

    def acknowledge() -> None:
        center.asking(source.acknowledge)
        after_acknowledging()

    while not source.is_finished and not should_stop():
        lines = center.asking(lambda: source.read(batch_events))
        if lines:
            center.apply(lines)
            waiting = True
        if waiting and (not lines or time.monotonic() - acknowledged > acknowledge_seconds):
            acknowledge()
            acknowledged, waiting = time.monotonic(), False
    if waiting:
        acknowledge()


def _take(plan: _Plan, event: Event, counts: Counts) -> str:
    """Adds an event to a plan, or says why it can be in no state."""
    progress = plan.progress
    place = progress.place(event.sequence)
    if place == REPEATED:
        counts.repeated += 1
        return ""
    if place == FORGOTTEN:
        counts.forgotten += 1
        return ""
    counts.gaps += event.sequence > progress.sequence + 1
    if event.time <= progress.included_until:
        counts.included += 1
        plan.progress = progress.after(event.sequence)
        return ""
    reason = ""
    if place == LATE:
        reason = f"too late: event {progress.sequence} of the same person was read before"
    elif event.time < progress.newest:
        reason = f"time runs backwards: the newest event of the person is of {progress.newest}"
    if reason:
        plan.progress = progress.after(event.sequence)
        return reason
    plan.progress = progress.after(event.sequence, event.time)
    plan.events.append(event)
    counts.applied += 1
    return ""


def _columns(events: Sequence[Event]) -> dict[str, np.ndarray]:
    """Field -> values, [events]."""
    return {name: np.array([event.values[name] for event in events]) for name in events[0].values}
