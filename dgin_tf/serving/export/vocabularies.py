"""Vocabularies of a bundle: from raw ids, as in the log, to the model's dense ids."""

import hashlib
import os
import pathlib
from collections.abc import Mapping

from dgin_tf.hashed_ids import RawIds
from dgin_tf.integrity import damage_in
from dgin_tf.schema import UNKNOWN_ID

VOCABULARY = "vocabulary"
_UNKNOWN_USERS = 1 << 62  # above any dense id


class Vocabularies:
    """The vocabulary files of a bundle or of a prepared data set, each read on first use.

    Args:
      folder: holds `vocabulary/<name>.txt`, one raw value a line.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = pathlib.Path(folder) / VOCABULARY
        self._cache: dict[str, RawIds] = {}

    def __contains__(self, name: str) -> bool:
        return (self._folder / f"{name}.txt").is_file()

    def __getitem__(self, name: str) -> RawIds:
        """Raw value -> id; values that share hashed ids are looked up as the preparation did.

        Raises:
          ValueError: there is no such vocabulary.
        """
        if name not in self._cache:
            self._cache[name] = self._load(name)
        return self._cache[name]

    def _load(self, name: str) -> RawIds:
        if name not in self:
            raise ValueError(
                f"the bundle has no vocabulary {name!r}, since the model reads none of its ids or the "
                "data were prepared without it; give dense ids."
            )
        path = self._folder / f"{name}.txt"
        with damage_in(path, "a vocabulary", "take it from the data set, or prepare that again"):
            text = path.read_text(encoding="utf-8")
        return RawIds(text.rstrip("\n").split("\n"))


def user_key(raw_user: str, vocabulary: Mapping[str, int]) -> int:
    """Number of a user in stores.

    Users of the vocabulary have their dense id. All others share the unknown id as an input of the model,
    but not a state: their number is made of 62 bits of a digest of the raw id.
    """
    dense = vocabulary.get(raw_user, UNKNOWN_ID)
    if dense != UNKNOWN_ID:
        return dense
    digest = hashlib.blake2b(raw_user.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return _UNKNOWN_USERS | int.from_bytes(digest, "big") >> 2
