"""Daily snapshots of the states of a model version, retained for a week, and rollback to any of them.

    snapshots/<name>.<version>/2026-11-21/
      snapshot.json          its time, and the position up to which events were acknowledged
      store/ or values.tfrecord

A snapshot includes at least all events up to its position. Events that are read again from there
change nothing that it includes, and add everything else.
"""

import contextlib
import dataclasses
import datetime
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

from dgin_tf.integrity import Facts, check_files, facts_of, read_json, sealed
from dgin_tf.ownership import check_nothing_else, make_folder
from dgin_tf.schema import write_text
from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.stores import dumps
from dgin_tf.stores.state_store import StoreError

RETENTION_DAYS = 7

_FACTS = "snapshot.json"
_UNFINISHED = ".tmp"
_ABANDONED_SECONDS = 86_400  # age at which an unfinished snapshot is one of a killed process
_RETRY_SECONDS = 600.0


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """States of one day.

    Attributes:
      day: date, as 2026-11-21.
      folder: directory of the files.
      position: in the source of events, see `EventSource.position`.
      files: sizes and checksums of its files; none where a version before 0.7 took it.
    """

    day: str
    folder: pathlib.Path
    position: dict[str, Any]
    files: Facts = dataclasses.field(default_factory=dict)


class Snapshots:
    """The snapshots of one model version.

    Args:
      folder: of the snapshots of all versions.
      states: of the version.
    """

    def __init__(self, folder: str | os.PathLike, states: UserStates):
        self._folder = pathlib.Path(folder) / states.namespace
        self._states = states

    def take(self, position: dict[str, Any], today: datetime.date) -> Snapshot:
        """Takes the snapshot of a day, in place of an earlier one, and deletes those of past weeks.

        Args:
          position: in the source of events, acknowledged before this call.
          today: the day.

        Raises:
          StoreError: the store cannot be copied.
          OSError: the folder cannot be written.
          ValueError: the day's folder holds something else.
        """
        target = self._folder / today.isoformat()
        make_folder(self._folder)
        check_nothing_else(target, _own_files(target), "a snapshot")
        self._remove_unfinished()
        temporary = pathlib.Path(
            tempfile.mkdtemp(_UNFINISHED, f".{today.isoformat()}.", self._folder)
        )
        try:
            # Under a temporary name, so that a folder with a date is always complete.
            dumps.write_dump(self._states.store, temporary)
            timestamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            names = [name for name in dumps.FILES if (temporary / name).is_file()]
            files = facts_of(temporary, names)
            facts = {"taken": timestamp, "states": self._states.namespace, "position": position}
            facts["files"] = files
            write_text(temporary / _FACTS, sealed(facts))
            replaced = temporary.with_suffix(".old" + _UNFINISHED)
            if target.exists():  # until the new one has its name
                os.rename(target, replaced)
            os.rename(temporary, target)
            shutil.rmtree(replaced, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        expired = today - datetime.timedelta(RETENTION_DAYS)
        for snapshot in self.list():
            if datetime.date.fromisoformat(snapshot.day) <= expired:
                _remove(snapshot.folder)
        return Snapshot(today.isoformat(), target, position, files)

    def _remove_unfinished(self) -> None:
        """Deletes old unfinished snapshots; another machine may be writing a younger one."""
        for path in self._folder.glob(f".????-??-??.*{_UNFINISHED}"):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)

    def list(self) -> list[Snapshot]:
        """All snapshots, the oldest first."""
        snapshots = []
        for path in sorted(self._folder.glob(f"*-*-*/{_FACTS}")):
            facts = read_json(path, "the position of a snapshot", f"delete {path.parent}")
            files = facts.get("files", {})
            snapshots.append(Snapshot(path.parent.name, path.parent, facts["position"], files))
        return snapshots

    def find(self, day: str) -> Snapshot:
        """The snapshot of a day; raises ValueError, with all days that have one."""
        for snapshot in self.list():
            if snapshot.day == day:
                return snapshot
        days = ", ".join(snapshot.day for snapshot in self.list()) or "none"
        raise ValueError(
            f"no snapshot of {day!r} of {self._states.namespace} in {self._folder}; there are: {days}."
        )

    def roll_back(self, snapshot: Snapshot) -> int:
        """Replaces states by those of a snapshot, while no center writes; returns how many there are.

        Raises:
          ValueError: the snapshot is damaged; no state has been replaced.
        """
        check_files(snapshot.folder, snapshot.files, "roll back to the snapshot of another day")
        return dumps.restore_dump(self._states.store, snapshot.folder, self._states.namespace)


def _own_files(folder: pathlib.Path) -> list[str]:
    """Names of a snapshot's files; none where the folder has no snapshot."""
    return [_FACTS, *dumps.FILES] if (folder / _FACTS).is_file() else []


def _remove(folder: pathlib.Path) -> None:
    """Removes a snapshot; what else somebody put into its folder stays."""
    for name in (*_own_files(folder)[1:], _FACTS):  # the description last, so that a kill leaves it
        (folder / name).unlink(missing_ok=True)
    for place in (*(path for path in folder.iterdir() if path.is_dir()), folder):
        with contextlib.suppress(OSError):  # not empty
            place.rmdir()


class DailySnapshots:
    """Takes one snapshot a day; one that fails is tried again later and stops nothing.

    Args:
      snapshots: of the version.
      position: acknowledged position in the source of events.
      say: takes lines of the log.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        position: Callable[[], dict[str, Any]],
        say: Callable[[str], None],
    ):
        self._snapshots, self._position, self._say = snapshots, position, say
        self._next_try = 0.0
        # Day of the last snapshot: called after every event, the disk is to be read once a day.
        self._last_day: datetime.date | None = None

    def take_if_due(self, today: datetime.date) -> None:
        """Takes the snapshot of a day unless there is one.

        Args:
          today: the day.
        """
        if today == self._last_day or time.monotonic() < self._next_try:
            return
        if today.isoformat() in [snapshot.day for snapshot in self._snapshots.list()]:
            self._last_day = today
            return
        try:
            self._snapshots.take(self._position(), today)
        except (StoreError, OSError, ValueError) as error:
            self._next_try = time.monotonic() + _RETRY_SECONDS
            self._say(
                f"no snapshot of {today}, trying again in {_RETRY_SECONDS / 60:.0f} minutes: {error}"
            )
        else:
            self._say(f"snapshot of {today}")
