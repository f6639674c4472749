"""Hashed ids: values that are too rare for an id of their own share a few, by a hash of the value.

A vocabulary file with hashed ids begins with one line for each of them, which is no value of a log; so whoever
reads the file looks values up as the preparation did.

This module needs neither TensorFlow nor pandas.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dgin_tf.schema import FIRST_ID

_MARK = "\x1fhashed "  # no log's ids have this control character


def hashed_lines(buckets: int) -> list[str]:
    """First lines of a vocabulary with so many hashed ids."""
    return [f"{_MARK}{number}" for number in range(buckets)]


def hashed_count(lines: Sequence[str]) -> int:
    """Number of hashed ids of a vocabulary, given its lines."""
    count = 0
    while count < len(lines) and lines[count] == f"{_MARK}{count}":
        count += 1
    return count


def hashed_number(value: str, buckets: int) -> int:
    """Number of the hashed id, from 0, that a value shares."""
    digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % buckets


class RawIds(Mapping[str, int]):
    """Ids of a vocabulary by raw value; a value that it does not list has a hashed id, if there are any.

    Args:
      lines: of the vocabulary's file.
    """

    def __init__(self, lines: Iterable[str]):
        lines = list(lines)
        self.hashed = hashed_count(lines)
        ids = enumerate(lines[self.hashed :], FIRST_ID + self.hashed)
        self._ids = {value: number for number, value in ids}

    def __getitem__(self, value: str) -> int:
        number = self._ids.get(value)
        if number is not None:
            return number
        if not self.hashed:
            raise KeyError(value)
        return FIRST_ID + hashed_number(value, self.hashed)

    def get(
        self, value, default=None
    ):  # Mapping's own catches an exception for every unknown value
        number = self._ids.get(value)
        if number is None and self.hashed:
            return FIRST_ID + hashed_number(value, self.hashed)
        return default if number is None else number

    def __contains__(self, value: object) -> bool:
        """True for values with an id of their own."""
        return value in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)
