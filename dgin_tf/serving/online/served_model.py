"""Versions of one model side by side: which are loaded, which labels they have, and which answers by default.

A version is loaded, compared with its checksums and warmed up beside those that answer, and takes requests
only then; one that cannot be loaded is reported once and passed over. Requests that run keep the version
that they began with.
"""

import dataclasses
import os
import pathlib
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dgin_tf.integrity import first_line
from dgin_tf.serving.center.state_versions import StateVersions
from dgin_tf.serving.export.versions import (
    ASSETS,
    METADATA_FILE,
    latest_version,
    state_namespace,
    state_version,
    version_numbers,
)
from dgin_tf.serving.online.loaded_version import LoadedVersion
from dgin_tf.serving.online.predict_requests import Status
from dgin_tf.stores.state_store import StateStore, StoreError

Say = Callable[[str], None]
Choose = Callable[[Sequence[LoadedVersion]], LoadedVersion]

_OK, _INTERNAL = 0, 13  # codes of gRPC


def newest(versions: Sequence[LoadedVersion]) -> LoadedVersion:
    """Chooses the newest of the loaded versions."""
    return versions[-1]


@dataclasses.dataclass(frozen=True)
class Rollout:
    """Versions to load and their labels, as TF Serving's model config has them.

    Attributes:
      latest: how many of the newest versions are loaded; 0 for all.
      specific: numbers of the versions to load in place of the newest.
      labels: label -> number.
    """

    latest: int = 1
    specific: tuple[int, ...] = ()
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Table:
    """Replaced as a whole, so that a request sees one state of a roll-out."""

    versions: Mapping[int, LoadedVersion]
    labels: Mapping[str, int]
    default: LoadedVersion


class ServedModel:
    """A model's versions in memory, which follow a folder while requests go on.

    Args:
      name: the model's name in requests.
      export_dir: base path of its versions.
      load: loads a version from its directory, and warms it up.
      rollout: gives the versions to load and their labels; called at every refresh.
      choose: the version, of those that are loaded, that answers where a request names none.
      say: takes sentences about versions that were loaded or passed over.

    Raises:
      FileNotFoundError: there is no version yet.
      ValueError: none could be loaded, for the reason of the newest one.
    """

    def __init__(
        self,
        name: str,
        export_dir: str | os.PathLike,
        load: Callable[[pathlib.Path], LoadedVersion] = LoadedVersion,
        rollout: Callable[[], Rollout] = Rollout,
        choose: Choose = newest,
        say: Say = lambda line: None,
    ):
        self.name = name
        self._base, self._load = pathlib.Path(export_dir), load
        self._rollout, self._choose, self._say = rollout, choose, say
        self._facts: dict[int, Any] = {}  # number -> facts of the files that were loaded
        self._failures: dict[int, tuple[Any, str]] = {}  # number -> facts of its files, reason
        self._loading: int | None = None
        self._reported: set[str] = set()
        self._lock = threading.Lock()  # of refreshes, never of requests
        latest_version(self._base)  # a folder without any is a mistake of whoever starts a server
        self._table: _Table | None = None
        self.refresh()
        if self._table is None:
            raise ValueError(self._failures[max(self._failures)][1])

    @property
    def current(self) -> LoadedVersion:
        """The version that answers where a request names none."""
        return self._now.default

    @property
    def versions(self) -> list[LoadedVersion]:
        """All that are loaded, by number."""
        return [version for _, version in sorted(self._now.versions.items())]

    @property
    def labels(self) -> dict[str, int]:
        """Label -> number of the version that it stands for."""
        return dict(self._now.labels)

    def find(self, name: str, number: int | None = None, label: str | None = None) -> LoadedVersion:
        """The version of a request; raises LookupError where it is not in memory."""
        table = self._now
        if name != self.name:
            raise LookupError(f"Servable not found for request: Latest({name}).")
        if label is not None:
            if label not in table.labels:
                raise LookupError(f"Unrecognized servable version label: {label}.")
            number = table.labels[label]
        if number is None:
            return table.default
        if number not in table.versions:
            raise LookupError(f"Servable not found for request: Specific({name}, {number}).")
        return table.versions[number]

    def states(self, name: str, number: int | None = None) -> list[Status]:
        """Versions with state, code and message, newest first; LookupError where there is none."""
        states: dict[int, Status] = {
            n: (n, "END", _INTERNAL, reason) for n, (_, reason) in self._failures.copy().items()
        }
        if (loading := self._loading) is not None:
            states[loading] = (loading, "LOADING", _OK, "")
        for n in self._now.versions:
            states[n] = (n, "AVAILABLE", _OK, "")
        if name != self.name or number is not None and number not in states:
            raise LookupError(f"Could not find any versions of model {name}.")
        return [states[n] for n in sorted(states, reverse=True) if number in (None, n)]

    def refresh(self) -> bool:
        """Loads and drops versions as the folder and the roll-out want it.

        Returns:
          True where versions, labels or the default have changed.
        """
        with self._lock:
            rollout = self._rollout()
            before = self._table
            versions = dict(before.versions) if before else {}
            numbers = version_numbers(self._base)
            wanted = self._load_wanted(rollout, numbers, versions)
            if not versions:
                return False
            labels = self._labels(rollout, versions, before)
            # A version goes when another one is there to answer, and no label needs it.
            keep = {*wanted, *labels.values()} or {max(versions)}
            versions = {n: version for n, version in sorted(versions.items()) if n in keep}
            table = _Table(versions, labels, self._choose(list(versions.values())))
            self._table = table
            if before is None or table.default is not before.default:
                self._say(f"version {table.default.number} of {self.name} answers")
            return table != before

    def _load_wanted(
        self, rollout: Rollout, numbers: Sequence[int], versions: dict[int, LoadedVersion]
    ) -> set[int]:
        """Loads what is missing into `versions`; returns the numbers that are wanted and there."""
        wanted: set[int] = set()
        candidates = sorted(rollout.specific or numbers, reverse=True)
        limit = 0 if rollout.specific else rollout.latest
        for number in [*candidates, *(n for n in rollout.labels.values() if n not in candidates)]:
            if limit and len(wanted) >= limit and number not in rollout.labels.values():
                continue
            facts = _facts(self._base / str(number))
            if facts is None and number in versions:
                if rollout.specific:  # deleted from disk, but still asked for
                    wanted.add(number)
                continue
            if number not in versions or self._facts.get(number) != facts:
                version = self._try_to_load(number, facts)
                if version is None:
                    continue
                versions[number], self._facts[number] = version, facts
            if number in candidates:
                wanted.add(number)
        return wanted

    def _try_to_load(self, number: int, facts: Any) -> LoadedVersion | None:
        failure = self._failures.get(number)
        if failure is not None and failure[0] == facts:
            return None  # nothing has changed since
        path, self._loading = self._base / str(number), number
        try:
            version = self._load(path)
            if _facts(path) != facts:
                raise ValueError(f"{path} was changed while it was loaded.")
        except Exception as error:  # whatever a damaged file makes a library raise
            reason = first_line(error)
            if not isinstance(error, ValueError | OSError):
                reason = f"{type(error).__name__}: {reason}"
                self._say(traceback.format_exc())
            # A store or an address that fails may be back at the next look, the files being the same.
            self._failures[number] = (object() if isinstance(error, OSError) else facts, reason)
            if self._table is not None:
                self._say_once(f"version {number} of {self.name} is passed over: {reason}")
            return None
        finally:
            self._loading = None
        self._failures.pop(number, None)
        return version

    def _labels(
        self, rollout: Rollout, versions: Mapping[int, LoadedVersion], before: _Table | None
    ) -> dict[str, int]:
        labels = {}
        for label, number in rollout.labels.items():
            if number in versions:
                labels[label] = number
            else:
                self._say_once(f"label {label} waits for version {number}, which is not loaded")
                if before and before.labels.get(label) in versions:
                    labels[label] = before.labels[label]
        return labels

    def _say_once(self, line: str) -> None:
        if line not in self._reported:
            self._reported.add(line)
            self._say(line)

    @property
    def _now(self) -> _Table:
        if self._table is None:
            raise LookupError(f"Servable not found for request: Latest({self.name}).")
        return self._table


def live_states(store: StateStore, name: str) -> Choose:
    """Chooses the version whose stored states requests should read.

    That is the one that `interest_center --action=switch` made live, or before the first switch the newest
    with warm states; with neither, the newest.
    """
    versions_of_states = StateVersions(store, name)

    def choose(versions: Sequence[LoadedVersion]) -> LoadedVersion:
        try:
            live, warm = versions_of_states.live, versions_of_states.warm
        except StoreError:
            live, warm = None, []
        for version in versions:
            if state_namespace(version.metadata) == live:
                return version
        candidates = [v for v in versions if state_version(v.metadata) in warm]
        return (candidates or list(versions))[-1]

    return choose


def watch(model: ServedModel, seconds: float, stop: threading.Event, say: Say) -> threading.Thread:
    """Starts a thread that refreshes a model every `seconds`, until `stop` is set."""

    def look() -> None:
        last = ""
        while not stop.wait(seconds):
            try:
                model.refresh()
                last = ""
            except Exception as error:  # a thread that ends would end the roll-outs
                if (line := f"looking for versions failed: {first_line(error)}") != last:
                    say(line)
                last = line

    thread = threading.Thread(target=look, name="versions", daemon=True)
    thread.start()
    return thread


def _facts(path: pathlib.Path) -> Any:
    """Sizes and times of a version's files, which change when they do; None where there is no folder."""
    if not path.is_dir():
        return None
    names = ("saved_model.pb", f"{ASSETS}/{METADATA_FILE}", "variables")
    files = [path / name for name in names]
    files += sorted((path / "variables").glob("*"))
    facts = []
    for file in files:
        try:
            status = file.stat()
            facts.append((file.name, status.st_size, status.st_mtime_ns))
        except OSError:
            facts.append((file.name, -1, -1))
    return tuple(facts)
