"""Events that could not be folded into a state, with the reason: one JSON object a line."""

import json
import os
from collections.abc import Iterable

_ERRORS = "backslashreplace"  # of bytes that are no UTF-8


class DeadLetters:
    """A file to which lines are appended.

    An event that is delivered again after a crash may be written twice. The file is open only while it
    is written, so that it may be moved away meanwhile.

    Args:
      path: of the file.

    Attributes:
      count: number of lines that this process has written.

    Raises:
      OSError: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = os.fspath(path)
        self.count = 0
        self._first_reason = ""
        os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
        # A path that cannot be written should fail now, not at the first bad event.
        with open(self._path, "ab"):
            pass

    def write(self, letters: Iterable[tuple[bytes, str]]) -> None:
        """Appends lines with their reasons and waits until they are on disk."""
        letters = list(letters)
        text = "".join(
            json.dumps({"reason": reason, "line": line.decode("utf-8", _ERRORS)}) + "\n"
            for line, reason in letters
        )
        with open(self._path, "ab+") as file:
            # A killed process may have left a line without its end.
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        self._first_reason = self._first_reason or next((reason for _, reason in letters), "")
        self.count += len(letters)

    def summary(self, lines: int, usable: int) -> str:
        """The number of lines that were refused, the first reason and the file; "" for none.

        Args:
          lines: number of lines that were read.
          usable: number of those that were applied, now or before.

        Raises:
          ValueError: none was usable.
        """
        if not self.count:
            return ""
        text = f"the first because: {self._first_reason}; all are in {self._path}"
        if not usable:
            raise ValueError(
                f"none of {lines:,} lines is an event that can be applied, {text}. docs/events.md has the "
                "format."
            )
        return f"{self.count:,} lines were refused, {text}"
