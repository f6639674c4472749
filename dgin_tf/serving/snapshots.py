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
from typing import Any

from dgin_tf.schema import write_text
from dgin_tf.serving.stored_states import StoredStates
from dgin_tf.stores import dumps

KEPT_DAYS = 7

_FACTS = "snapshot.json"


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

    def __init__(self, folder: str | os.PathLike, states: StoredStates):
        self._folder = pathlib.Path(folder) / states.namespace
        self._states = states

    def take(self, position: dict[str, Any], today: datetime.date) -> Snapshot:
        """Takes the snapshot of a day, in place of an earlier one, and drops those of past weeks.

        Args:
          position: what had been acknowledged before this call.
          today: the day.

        Raises:
          StoreError: the store cannot be copied.
        """
        target = self._folder / today.isoformat()
        temporary = self._folder / f".{today.isoformat()}.{os.getpid()}.tmp"
        temporary.mkdir(parents=True)
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
