"""Daily snapshots of the states of a model version, kept for a week, and the way back to any of them.

    snapshots/<name>.<version>/2026-11-21/
      snapshot.json          when it was taken, and how far the events had been acknowledged
      store/ or values.tfrecord

A snapshot is at least as far as its position: events that are read again from there change nothing
that it includes, and bring everything else.
"""

import dataclasses
import datetime
import json
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

from dgin_tf.schema import write_text
from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.stores import dumps
from dgin_tf.stores.state_store import StoreError

KEPT_DAYS = 7

_FACTS = "snapshot.json"
_UNFINISHED = ".tmp"
_DAY, _LATER = 86_400, 600.0  # seconds: when what is unfinished was left; when to try again


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """States as they were.

    Attributes:
      day: of which it is, as 2026-11-21.
      folder: where it lies.
      position: of the events' source, see `EventSource.position`.
    """

    day: str
    folder: pathlib.Path
    position: dict[str, Any]


class Snapshots:
    """The snapshots of one model version.

    Args:
      folder: of the snapshots of all versions.
      states: whose snapshots.
    """

    def __init__(self, folder: str | os.PathLike, states: UserStates):
        self._folder = pathlib.Path(folder) / states.namespace
        self._states = states

    def take(self, position: dict[str, Any], today: datetime.date) -> Snapshot:
        """Takes the snapshot of a day, in place of an earlier one, and drops those of past weeks.

        Args:
          position: what had been acknowledged before this call.
          today: the day.

        Raises:
          StoreError: the store cannot be copied.
          OSError: the folder cannot be written.
        """
        target = self._folder / today.isoformat()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._remove_unfinished()
        temporary = pathlib.Path(
            tempfile.mkdtemp(_UNFINISHED, f".{today.isoformat()}.", self._folder)
        )
        try:
            dumps.write_dump(self._states.store, temporary)
            taken = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            facts = {"taken": taken, "states": self._states.namespace, "position": position}
            write_text(temporary / _FACTS, json.dumps(facts, indent=2) + "\n")
            shutil.rmtree(target, ignore_errors=True)
            os.rename(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        for snapshot in self.list():
            if datetime.date.fromisoformat(snapshot.day) <= today - datetime.timedelta(KEPT_DAYS):
                shutil.rmtree(snapshot.folder)
        return Snapshot(today.isoformat(), target, position)

    def _remove_unfinished(self) -> None:
        """What a killed process left long ago; another machine may be writing a younger one."""
        for path in self._folder.glob(f".*{_UNFINISHED}"):
            if time.time() - path.stat().st_mtime > _DAY:
                shutil.rmtree(path, ignore_errors=True)

    def list(self) -> list[Snapshot]:
        """All snapshots, the oldest first."""
        found = []
        for path in sorted(self._folder.glob(f"*-*-*/{_FACTS}")):
            facts = json.loads(path.read_text(encoding="utf-8"))
            found.append(Snapshot(path.parent.name, path.parent, facts["position"]))
        return found

    def find(self, day: str) -> Snapshot:
        """The snapshot of a day; raises ValueError with the days there are."""
        for snapshot in self.list():
            if snapshot.day == day:
                return snapshot
        days = ", ".join(snapshot.day for snapshot in self.list()) or "none"
        raise ValueError(
            f"no snapshot of {day!r} of {self._states.namespace} in {self._folder}; there are: {days}."
        )

    def roll_back(self, snapshot: Snapshot) -> int:
        """Brings states back to a snapshot, while no center writes; returns how many there are."""
        return dumps.bring_back(self._states.store, snapshot.folder, self._states.namespace)


class DailySnapshots:
    """Takes the snapshot of each day when it is asked first on that day.

    One that fails stops nobody: it is tried again later.

    Args:
      snapshots: takes them.
      position: gives what of the events has been acknowledged.
      say: takes lines of the log.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        position: Callable[[], dict[str, Any]],
        say: Callable[[str], None],
    ):
        self._snapshots, self._position, self._say = snapshots, position, say
        self._again = 0.0
        self._seen: datetime.date | None = (
            None  # asked after every event, and answered from disk once
        )

    def now_and_then(self, today: datetime.date) -> None:
        """Takes the snapshot of a day unless there is one.

        Args:
          today: the day.
        """
        if today == self._seen or time.monotonic() < self._again:
            return
        if today.isoformat() in [snapshot.day for snapshot in self._snapshots.list()]:
            self._seen = today
            return
        try:
            self._snapshots.take(self._position(), today)
        except (StoreError, OSError) as error:
            self._again = time.monotonic() + _LATER
            self._say(f"no snapshot of {today}, trying again in {_LATER / 60:.0f} minutes: {error}")
        else:
            self._say(f"snapshot of {today}")
