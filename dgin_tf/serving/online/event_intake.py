"""Events that a service takes: into the states of an interest center, a behavior index or DGIN's engine.

Events of several requests are stored together, by one thread, and acknowledged once the store has them. A
request that was not acknowledged is sent again: the events' numbers make the second time harmless.
"""

import asyncio
import concurrent.futures
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from dgin_tf.serving.center.events import BadEventError, EventParser
from dgin_tf.serving.center.interest_center import InterestCenter, Limits
from dgin_tf.serving.center.state_updates import StateUpdater
from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.serving.export.versions import history_fields_read
from dgin_tf.serving.online.bundle_model import BundleModel
from dgin_tf.serving.online.limits import RequestError
from dgin_tf.stores.behavior_engine import BehaviorEngine
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.state_store import StateStore
from dgin_tf.stores.values import DamagedValueError

MOST_EVENTS = 1_024
"""Of one request, and of one write."""

_MOST_WAITING = 64  # requests
_PATIENCE = 2.0  # seconds for which a failing store is tried again, within a request's time


class EventSink(Protocol):
    """Stores events."""

    def apply(self, lines: Sequence[bytes]) -> dict[bytes, str]:
        """Stores events, durably when it returns; gives those that cannot be stored, with the reason.

        Raises:
          StoreError: the store failed; the events may come again.
        """


class CenterSink:
    """Folds events into the states of one exported version.

    Args:
      version: directory of the version, whose model follows a stream.
      store: of the states.
    """

    def __init__(self, version: str | os.PathLike, store: StateStore):
        updater = StateUpdater(version)
        parser = EventParser(
            updater.schema, updater.catalogue, updater.vocabularies, fields_read=updater.fields_read
        )
        self._letters = _Letters()
        states = UserStates(store, updater.metadata)
        self._center = InterestCenter(
            updater, states, parser, self._letters, Limits(patience=_PATIENCE)
        )

    def apply(self, lines: Sequence[bytes]) -> dict[bytes, str]:
        self._letters.reasons.clear()
        self._center.apply(lines)
        return dict(self._letters.reasons)


class IndexSink:
    """Appends events to a behavior index or to DGIN's engine.

    Args:
      model: whose ids events are translated to.
      index: to append to.
    """

    def __init__(self, model: BundleModel, index: BehaviorIndex | BehaviorEngine):
        self._parser = EventParser(
            model.schema,
            model.catalogue,
            model.vocabularies,
            fields_read=history_fields_read(model.metadata, model.schema),
        )
        self._index = index

    def apply(self, lines: Sequence[bytes]) -> dict[bytes, str]:
        reasons = {}
        for line in lines:
            try:
                event = self._parser(line)
                self._index.append(event.user, event.values, event.sequence)
            except (BadEventError, DamagedValueError) as error:
                reasons[line] = str(error)
        return reasons


class _Letters:
    """Refused lines of one call; the client is told, so that no file needs them."""

    def __init__(self) -> None:
        self.reasons: dict[bytes, str] = {}

    def write(self, letters: Iterable[tuple[bytes, str]]) -> None:
        self.reasons.update(letters)


class _Delivery(NamedTuple):
    lines: list[bytes]
    until: float
    reasons: "concurrent.futures.Future[list[str | None]]"


class EventIntake:
    """One thread that stores the events of all requests.

    Args:
      sinks: gives the media that every event goes to.
    """

    def __init__(self, sinks: Callable[[], Sequence[EventSink]]):
        self._sinks = sinks
        self._queue: queue.Queue[_Delivery | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name="events", daemon=True)
        self._thread.start()

    async def add(self, lines: list[bytes], seconds: float) -> list[str | None]:
        """Stores events; gives for each the reason why it cannot be stored, None where it is durable.

        Raises:
          RequestError: too many are waiting, or the store took too long.
          StoreError: the store failed.
        """
        if len(lines) > MOST_EVENTS:
            raise RequestError(
                400, f"expected at most {MOST_EVENTS:,} events in a request; got {len(lines):,}."
            )
        delivery = _Delivery(lines, time.monotonic() + seconds, concurrent.futures.Future())
        try:
            self._queue.put_nowait(delivery)
        except queue.Full:
            raise RequestError(
                429, "too many events are waiting; send them again later.", 1
            ) from None
        try:
            return await asyncio.wait_for(asyncio.wrap_future(delivery.reasons), seconds)
        except TimeoutError:
            raise RequestError(
                504, "the events were not stored in time; send them again.", 1
            ) from None

    def close(self) -> None:
        """Stores what waits, and ends."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (delivery := self._queue.get()) is not None:
            deliveries, count = [delivery], len(delivery.lines)
            while count < MOST_EVENTS:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    self._store(deliveries)
                    return
                deliveries.append(following)
                count += len(following.lines)
            self._store(deliveries)

    def _store(self, deliveries: Sequence[_Delivery]) -> None:
        now = time.monotonic()
        # A client that has gone sends its events again; set_running refuses a cancelled future.
        deliveries = [
            d for d in deliveries if d.until > now and d.reasons.set_running_or_notify_cancel()
        ]
        lines = [line for delivery in deliveries for line in delivery.lines]
        try:
            reasons: dict[bytes, str] = {}
            for sink in self._sinks() if lines else ():
                reasons |= sink.apply(lines)
        except BaseException as error:
            for delivery in deliveries:
                delivery.reasons.set_exception(error)
            return
        for delivery in deliveries:
            delivery.reasons.set_result([reasons.get(line) for line in delivery.lines])
