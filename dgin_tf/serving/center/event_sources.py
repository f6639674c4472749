"""Sources of events: lines of a file that may grow, or of standard input; see `event_streams` for Redis.

A source gives lines and remembers its position; `acknowledge` makes that the position to continue from
after a crash. It is called only when the states are in their store.
"""

import abc
import hashlib
import json
import os
import pathlib
import select
import time
from collections.abc import Sequence
from typing import Any

from dgin_tf.integrity import read_json
from dgin_tf.schema import write_text

_CHUNK = 1 << 18  # bytes read at once
_PAUSE = 0.002  # seconds between looks at a file that has not grown
_CHECK_SECONDS = 1.0  # between checks that the path still names the same file
_HEAD = 4096  # bytes whose digest identifies a file

Position = dict[str, Any]

OFFSET = "offset"  # in bytes; a position in streams has their names and ids instead

_BEGINNING: Position = {OFFSET: 0}


def is_in_file(position: Position) -> bool:
    """True for a position in a file, False for one in streams.

    A stream may be called `offset` too, but its position is an id, which is a text.
    """
    return isinstance(position.get(OFFSET), int)


class EventSource(abc.ABC):
    """Lines of JSON, in the order in which they are to be read."""

    is_finished = False
    """True when nothing more will come."""

    @abc.abstractmethod
    def read(self, limit: int) -> Sequence[bytes]:
        """Up to `limit` further lines; none where none come within a short wait.

        Raises:
          StoreError: the source cannot be reached.
        """

    @abc.abstractmethod
    def acknowledge(self) -> None:
        """Marks the lines read so far as done: they need not be delivered again."""

    @abc.abstractmethod
    def position(self) -> Position:
        """Position of the last acknowledgment, as plain JSON values for `rewind`."""

    def check_quiet(self) -> None:  # noqa: B027  (files do not know their readers)
        """Raises ValueError where another process seems to be reading the source."""

    def close(self) -> None:  # noqa: B027  (most sources hold nothing)
        """Closes files and connections."""


class StandardInput(EventSource):
    """Lines of a pipe. Nothing can be acknowledged: after a crash the producer sends them again.

    Args:
      descriptor: of the file, 0 for standard input.
    """

    def __init__(self, descriptor: int = 0):
        self._descriptor = descriptor
        self._lines = _Lines()

    def read(self, limit: int) -> Sequence[bytes]:
        while not self._lines.has(limit) and not self.is_finished:
            wait = 0.0 if self._lines.has(1) else 0.5
            if not select.select([self._descriptor], [], [], wait)[0]:
                break
            # os.read, because a buffered reader would wait for its buffer to be full.
            if data := os.read(self._descriptor, _CHUNK):
                self._lines.add(data)
            else:
                self._lines.end()
                break
        lines = self._lines.take(limit)
        self.is_finished = self._lines.is_ended and not self._lines.has(1)
        return lines

    def acknowledge(self) -> None:
        pass

    def position(self) -> Position:
        return {}


class GrowingFile(EventSource):
    """Lines of a file, from the offset that an earlier run acknowledged.

    A last line without its end is left until the end has been written. Beside the offset, a digest of
    the file's beginning is saved, so that another file of that name is not read from its middle.

    Args:
      path: the file.
      offset_path: file of the acknowledged offset.
      follow: whether to wait for more at the end of the file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the offset belongs to another file. Reading a file that is cut or replaced meanwhile
        raises it too.
    """

    def __init__(self, path: str | os.PathLike, offset_path: str | os.PathLike, follow: bool):
        self._path, self._follow = os.fspath(path), follow
        self._offset_path = pathlib.Path(offset_path)
        self._position = self._read_offset()
        self._offset = self._position[OFFSET]
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  (open as long as the source is)
        self._next_check = time.monotonic() + _CHECK_SECONDS
        try:
            self._check_same(self._position)
        except ValueError:
            self._file.close()
            raise
        self._file.seek(self._offset)
        self._lines = _Lines()

    def read(self, limit: int) -> Sequence[bytes]:
        if not self._lines.has(limit):
            data = self._file.read(_CHUNK)
            if data:
                self._lines.add(data)
            elif not self._lines.has(1):
                if self._follow:
                    self._check_followed()
                    time.sleep(_PAUSE)
                self.is_finished = not self._follow
        lines = self._lines.take(limit)
        self._offset += sum(len(line) + 1 for line in lines)
        return lines

    def acknowledge(self) -> None:
        # A position is between two lines, because lines are counted with their ends.
        position = {OFFSET: self._offset, "head": self._head(self._offset)}
        content = {"file": os.path.abspath(self._path), **position}
        write_text(self._offset_path, json.dumps(content) + "\n")
        self._position = position

    def position(self) -> Position:
        return self._position

    def rewind(self, position: Position) -> None:
        """Moves back to a position and acknowledges it.

        Raises:
          ValueError: the position is one of another file, or of streams.
        """
        position = position or _BEGINNING
        if not is_in_file(position):
            streams = ", ".join(sorted(position))
            raise ValueError(
                f"expected a position in {self._path}; got one in the streams {streams}. Name the "
                "source that the events came from when it was taken."
            )
        self._check_same(position)
        self._offset = position[OFFSET]
        self._file.seek(self._offset)
        self._lines = _Lines()
        self.acknowledge()

    def close(self) -> None:
        self._file.close()

    def _head(self, offset: int) -> str:
        """A digest of the file's beginning, at most up to an offset."""
        head = os.pread(self._file.fileno(), min(offset, _HEAD), 0)
        return hashlib.blake2b(head, digest_size=8).hexdigest()

    def _check_same(self, position: Position) -> None:
        """Raises ValueError unless the position was taken in this file."""
        size, offset = os.fstat(self._file.fileno()).st_size, position[OFFSET]
        if size >= offset and position.get("head") in (None, self._head(offset)):
            return
        raise ValueError(
            f"{self._path} has {size:,} bytes and is not the file of which {offset:,} were read before: "
            f"it was cut or replaced. Delete {self._offset_path} to read it from its beginning; events "
            "that were read before change nothing."
        )

    def _check_followed(self) -> None:
        """Raises ValueError where the path names another file now, so that nothing more can come."""
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + _CHECK_SECONDS
        self._check_same({OFFSET: self._offset})
        try:
            current_file = os.stat(self._path)
        except FileNotFoundError:  # between the old file and the new one
            return
        if not os.path.samestat(current_file, os.fstat(self._file.fileno())):
            raise ValueError(
                f"{self._path} was replaced by another file. Start again with {self._offset_path} "
                "deleted to read that one; for logs that rotate, use Redis Streams."
            )

    def _read_offset(self) -> Position:
        if not self._offset_path.is_file():
            return _BEGINNING
        try:
            content = json.loads(self._offset_path.read_text(encoding="utf-8"))
            path = content["file"]
            position: Position = {OFFSET: int(content[OFFSET])}
            if "head" in content:
                position["head"] = str(content["head"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self._offset_path} does not say how far {self._path} was read; delete it to read "
                "from the beginning: events that were read before change nothing."
            ) from error
        if path != os.path.abspath(self._path):
            raise ValueError(
                f"{self._offset_path} says how far {path} was read, not {self._path}; name another "
                "--offset_file."
            )
        return position


class _Lines:
    """Bytes cut into lines."""

    def __init__(self) -> None:
        self._complete: list[bytes] = []  # those from `_next` on are not read yet
        self._next = 0
        self._rest = b""
        self.is_ended = False

    def has(self, count: int) -> bool:
        return len(self._complete) - self._next >= count

    def add(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._complete = self._complete[self._next :] + lines
        self._next = 0

    def end(self) -> None:
        """Ends the input: a rest without an end is a line too."""
        self.is_ended = True
        if self._rest:
            self.add(b"\n")

    def take(self, limit: int) -> Sequence[bytes]:
        lines = self._complete[self._next : self._next + limit]
        self._next += len(lines)
        return lines


def position_of_file(offset_path: str | os.PathLike) -> Position:
    """The acknowledged position in a file that another process reads."""
    path = pathlib.Path(offset_path)
    if not path.is_file():
        return _BEGINNING
    content = read_json(path, "how far a file was read", "delete it to read from the beginning")
    return {name: content[name] for name in (OFFSET, "head") if name in content}
