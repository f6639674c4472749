"""From raw ids, as the log has them, to the model's, by the vocabularies that a bundle carries."""

import hashlib
import os
import pathlib
from collections.abc import Mapping

from dgin_tf.schema import FIRST_ID, UNKNOWN_ID

VOCABULARY = "vocabulary"
_STRANGERS = 1 << 62  # above any dense id


class Vocabularies:
    """The vocabulary files of a bundle or of a prepared data set, each read when first asked for.

    Args:
      folder: holds `vocabulary/<name>.txt`, one raw value a line.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = pathlib.Path(folder) / VOCABULARY
        self._read: dict[str, Mapping[str, int]] = {}

    def __contains__(self, name: str) -> bool:
        return (self._folder / f"{name}.txt").is_file()

    def __getitem__(self, name: str) -> Mapping[str, int]:
        """Raw value -> id.

        Raises:
          ValueError: there is no such vocabulary.
        """
        if name not in self._read:
            self._read[name] = self._load(name)
        return self._read[name]

    def _load(self, name: str) -> Mapping[str, int]:
        if name not in self:
            raise ValueError(
                f"the bundle has no vocabulary {name!r}, since the model reads none of its ids or the "
                "data were prepared without it; give dense ids."
            )
        text = (self._folder / f"{name}.txt").read_text(encoding="utf-8")
        lines = text.rstrip("\n").split("\n")
        return {line: FIRST_ID + number for number, line in enumerate(lines)}


def person_of(raw_user: str, known: Mapping[str, int]) -> int:
    """Under which number a person's state is kept.

    People whom the vocabulary knows have their dense id. All others share the unknown id as an input
    of the model, but never a state: theirs has 62 bits of a digest for a number.
    """
    dense = known.get(raw_user, UNKNOWN_ID)
    if dense != UNKNOWN_ID:
        return dense
    digest = hashlib.blake2b(raw_user.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return _STRANGERS | int.from_bytes(digest, "big") >> 2
