"""Checksums of the files that commands write, and readers that refuse a damaged file in one sentence.

A JSON file that only programs read ends with the CRC-32C of its content; one without, of an older version,
is read unchecked. A description such as a manifest has sizes and checksums of the files beside it.

This module needs neither TensorFlow nor pandas.
"""

import contextlib
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import google_crc32c
import numpy as np

Facts = Mapping[str, Mapping[str, int]]  # name of a file -> {"bytes", "crc32c"}

CHECKSUM = "crc32c"
# Files that are more together are opened by their sizes, and what they hold is compared when it is read.
CHECKED_BYTES = 1 << 30
_CHUNK = 1 << 24  # bytes read at a time to compute a checksum


def file_facts(path: str | os.PathLike) -> dict[str, int]:
    """Size and CRC-32C of a file."""
    checksum, size = google_crc32c.Checksum(), 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            checksum.update(chunk)
            size += len(chunk)
    return {"bytes": size, CHECKSUM: int.from_bytes(checksum.digest(), "big")}


def facts_of(folder: pathlib.Path, names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Sizes and checksums of files in a folder, by name."""
    return {name: file_facts(folder / name) for name in names}


def check_files(folder: pathlib.Path, facts: Facts, advice: str, *, contents: bool = True) -> None:
    """Compares files with their description.

    Args:
      folder: of the files.
      facts: what they were when they were written.
      advice: what to do about a damaged file, the end of the sentence.
      contents: reads the files to compare checksums; otherwise sizes alone.

    Raises:
      ValueError: a file is missing or another one.
    """
    for name, expected in facts.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing; {advice}.")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise ValueError(
                f"{path} has {size:,} bytes instead of {expected['bytes']:,}: it was cut short or replaced; "
                f"{advice}."
            )
        if contents and CHECKSUM in expected and file_facts(path) != expected:
            raise ValueError(f"{path} is damaged: its checksum differs; {advice}.")


def sealed(content: Mapping[str, Any], *, sort_keys: bool = False) -> str:
    """JSON text of a mapping with its checksum as the last entry."""
    # As a reader will have it: names that are numbers become texts.
    entries = json.loads(json.dumps(content, sort_keys=sort_keys))
    return json.dumps({**entries, CHECKSUM: _checksum(entries)}, indent=2) + "\n"


def read_json(path: str | os.PathLike, description: str, advice: str) -> dict[str, Any]:
    """Reads a JSON file of a mapping, and compares its checksum where it has one.

    Args:
      path: of the file.
      description: noun of what it should hold.
      advice: what to do about a damaged file, the end of the sentence.

    Returns:
      The content, without the checksum.

    Raises:
      ValueError: the file is missing, is no such JSON or was changed after it was written.
    """
    place = os.fspath(path)
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"expected {description} in {place}, found no file; {advice}.") from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # a cut or an empty file, or bytes that are no text
        raise ValueError(
            f"expected {description} in {place}, which is damaged ({error}); {advice}."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"expected {description} in {place}, got a JSON {type(content).__name__}; {advice}."
        )
    checksum = content.pop(CHECKSUM, None)
    if checksum is not None and checksum != _checksum(content):
        raise ValueError(
            f"expected {description} in {place} as it was written: its checksum differs; {advice}."
        )
    return content


@contextlib.contextmanager
def damage_in(path: str | os.PathLike, description: str, advice: str) -> Iterator[None]:
    """Turns what readers of arrays raise for a damaged file into one ValueError with its name."""
    try:
        yield
    except FileNotFoundError as error:
        place = os.fspath(path)
        raise ValueError(f"expected {description} in {place}, found no file; {advice}.") from error
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
        IndexError,
    ) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's own reason, such as missing rights
        raise ValueError(
            f"expected {description} in {os.fspath(path)}, which is damaged ({error}); {advice}."
        ) from error


def first_line(error: Exception) -> str:
    """First line of an error's text, which libraries follow by pages; its type where it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def load_arrays(path: str | os.PathLike, description: str, advice: str) -> dict[str, np.ndarray]:
    """Reads an .npz file; raises ValueError where it is damaged, which each array's CRC-32 tells."""
    with damage_in(path, description, advice), np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return google_crc32c.Checksum(text.encode()).hexdigest().decode()
