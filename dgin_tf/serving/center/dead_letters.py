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

    Raises:
      OSError: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = os.fspath(path)
        os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
        # A path that cannot be written should fail now, not at the first bad event.
        with open(self._path, "ab"):
            pass

    def write(self, letters: Iterable[tuple[bytes, str]]) -> None:
        """Appends lines with their reasons and waits until they are on disk."""
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
