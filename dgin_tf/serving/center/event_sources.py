"""Where events come from: lines of a file that may grow, standard input, or Redis Streams.

A source gives lines and remembers how far it has given them; `acknowledge` makes that the place to go
on from after a crash. It is called only when the states are in their store.
"""

import abc
import hashlib
import json
import os
import pathlib
import select
import time
from collections.abc import Mapping, Sequence
from typing import Any

from dgin_tf.schema import write_text

_CHUNK = 1 << 18  # bytes read at once
_PAUSE = 0.002  # seconds between looks at a file that has not grown
_LOOK = 1.0  # seconds between looks at whether it is the same file still
_HEAD = 4096  # bytes that a file is known by

Position = dict[str, Any]

OFFSET = "offset"  # of a position in a file, in bytes; one in streams has their names and ids

_BEGINNING: Position = {OFFSET: 0}


def is_in_file(position: Position) -> bool:
    """Whether a position is one of a file, not of streams, of which one may be called anything."""
    return isinstance(position.get(OFFSET), int)


class EventSource(abc.ABC):
    """Lines of JSON, in the order in which they are to be read."""

    is_finished = False
    """Whether nothing more will come."""

    @abc.abstractmethod
    def read(self, most: int) -> Sequence[bytes]:
        """Up to `most` further lines; none where there are none after a short wait.

        Raises:
          StoreError: the source cannot be reached.
        """

    @abc.abstractmethod
    def acknowledge(self) -> None:
        """Says that what was read so far need not be delivered again."""

    @abc.abstractmethod
    def position(self) -> Position:
        """What was acknowledged, as plain JSON values; `rewind` of the same kind takes it."""

    def check_quiet(self) -> None:  # noqa: B027  (files do not know who reads them)
        """Raises ValueError where somebody seems to be reading the source."""

    def close(self) -> None:  # noqa: B027  (most sources hold nothing)
        """Lets go of what the source holds."""


class StandardInput(EventSource):
    """Lines of a pipe. Nothing can be acknowledged: after a crash the producer sends them again.

    Args:
      descriptor: of the file, 0 for standard input.
    """

    def __init__(self, descriptor: int = 0):
        self._descriptor = descriptor
        self._lines = _Lines()

    def read(self, most: int) -> Sequence[bytes]:
        while not self._lines.has(most) and not self.is_finished:
            wait = 0.0 if self._lines.has(1) else 0.5
            if not select.select([self._descriptor], [], [], wait)[0]:
                break
            if data := os.read(self._descriptor, _CHUNK):
                self._lines.add(data)
            else:
                self._lines.end()
                break
        lines = self._lines.take(most)
        self.is_finished = self._lines.is_ended and not self._lines.has(1)
        return lines

    def acknowledge(self) -> None:
        pass

    def position(self) -> Position:
        return {}


class GrowingFile(EventSource):
    """Lines of a file, from where an earlier run was.

    A last line without its end is left until the end has been written. With the offset goes a digest of
    the file's beginning, so that a file that took its place is not read from its middle.

    Args:
      path: the file.
      offset_path: where the acknowledged offset is kept.
      follow: whether to wait for more at the end of the file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the offset belongs to another file. Reading a file that is cut or replaced meanwhile
        raises it too.
    """

    def __init__(self, path: str | os.PathLike, offset_path: str | os.PathLike, follow: bool):
        self._path, self._follow = os.fspath(path), follow
        self._offset_path = pathlib.Path(offset_path)
        self._acknowledged = self._read_offset()
        self._given = self._acknowledged[OFFSET]
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  (open as long as the source is)
        self._look_again = time.monotonic() + _LOOK
        try:
            self._check_same(self._acknowledged)
        except ValueError:
            self._file.close()
            raise
        self._file.seek(self._given)
        self._lines = _Lines()

    def read(self, most: int) -> Sequence[bytes]:
        if not self._lines.has(most):
            data = self._file.read(_CHUNK)
            if data:
                self._lines.add(data)
            elif not self._lines.has(1):
                if self._follow:
                    self._check_followed()
                    time.sleep(_PAUSE)
                self.is_finished = not self._follow
        lines = self._lines.take(most)
        self._given += sum(len(line) + 1 for line in lines)
        return lines

    def acknowledge(self) -> None:
        position = {OFFSET: self._given, "head": self._head(self._given)}
        content = {"file": os.path.abspath(self._path), **position}
        write_text(self._offset_path, json.dumps(content) + "\n")
        self._acknowledged = position

    def position(self) -> Position:
        return self._acknowledged

    def rewind(self, position: Position) -> None:
        """Goes back to a position and acknowledges that.

        Raises:
          ValueError: it is of another file, or of streams.
        """
        position = position or _BEGINNING
        if not is_in_file(position):
            streams = ", ".join(sorted(position))
            raise ValueError(
                f"expected a position in {self._path}; got one in the streams {streams}. Name the "
                "source that the events came from when it was taken."
            )
        self._check_same(position)
        self._given = position[OFFSET]
        self._file.seek(self._given)
        self._lines = _Lines()
        self.acknowledge()

    def close(self) -> None:
        self._file.close()

    def _head(self, offset: int) -> str:
        """A digest of the beginning of what lies before an offset."""
        head = os.pread(self._file.fileno(), min(offset, _HEAD), 0)
        return hashlib.blake2b(head, digest_size=8).hexdigest()

    def _check_same(self, position: Position) -> None:
        """Raises ValueError unless this is the file that was read up to a position."""
        size, offset = os.fstat(self._file.fileno()).st_size, position[OFFSET]
        if size >= offset and position.get("head") in (None, self._head(offset)):
            return
        raise ValueError(
            f"{self._path} has {size:,} bytes and is not the file of which {offset:,} were read before: "
            f"it was cut or replaced. Delete {self._offset_path} to read it from its beginning; events "
            "that were read before change nothing."
        )

    def _check_followed(self) -> None:
        """Raises ValueError where nothing more can come, because another file has the name now."""
        if time.monotonic() < self._look_again:
            return
        self._look_again = time.monotonic() + _LOOK
        self._check_same({OFFSET: self._given})
        try:
            there = os.stat(self._path)
        except FileNotFoundError:  # between the old one and the new
            return
        if not os.path.samestat(there, os.fstat(self._file.fileno())):
            raise ValueError(
                f"{self._path} was replaced by another file. Start again with {self._offset_path} "
                "deleted to read that one; for logs that rotate, use Redis Streams."
            )

    def _read_offset(self) -> Position:
        if not self._offset_path.is_file():
            return _BEGINNING
        try:
            content = json.loads(self._offset_path.read_text(encoding="utf-8"))
            file = content["file"]
            position: Position = {OFFSET: int(content[OFFSET])}
            if "head" in content:
                position["head"] = str(content["head"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self._offset_path} does not say how far {self._path} was read; delete it to read "
                "from the beginning: events that were read before change nothing."
            ) from error
        if file != os.path.abspath(self._path):
            raise ValueError(
                f"{self._offset_path} says how far {file} was read, not {self._path}; name another "
                "--offset_file."
            )
        return position


class _Lines:
    """Bytes cut into lines."""

    def __init__(self) -> None:
        self._whole: list[bytes] = []
        self._taken = 0
        self._rest = b""
        self.is_ended = False

    def has(self, count: int) -> bool:
        return len(self._whole) - self._taken >= count

    def add(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\n")
        self._whole = self._whole[self._taken :] + whole
        self._taken = 0

    def end(self) -> None:
        """Nothing follows: what has no end is a line too."""
        self.is_ended = True
        if self._rest:
            self.add(b"\n")

    def take(self, most: int) -> Sequence[bytes]:
        found = self._whole[self._taken : self._taken + most]
        self._taken += len(found)
        return found


def position_of_file(offset_path: str | os.PathLike) -> Position:
    """The acknowledged position of a file that some other process reads."""
    path = pathlib.Path(offset_path)
    if not path.is_file():
        return _BEGINNING
    content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {name: content[name] for name in (OFFSET, "head") if name in content}
