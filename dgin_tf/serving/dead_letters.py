"""What could not be folded into anybody's state, with the reason: one JSON object a line."""

import json
import os
from collections.abc import Iterable

_REPLACED = "backslashreplace"


class DeadLetters:
    """A file to which lines are appended; closing the process in the middle of one cuts none short.

    A delivery that comes again after a crash may leave its reason twice.

    Args:
      path: of the file.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = os.fspath(path)
        os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
        self._file = open(self._path, "ab+")  # noqa: SIM115  (open as long as the center is)
        if self._file.tell():
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":  # what a killed process left ends here
                self._file.write(b"\n")

    def write(self, letters: Iterable[tuple[bytes, str]]) -> None:
        """Appends lines with their reasons and waits until they are on disk."""
        text = "".join(
            json.dumps({"reason": reason, "line": line.decode("utf-8", _REPLACED)}) + "\n"
            for line, reason in letters
        )
        self._file.write(text.encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
