"""Side files of a log, recognized by name, and checks of reader options.

--input names files, patterns of names (`day-*.csv`), or the folder that holds them.
"""

import glob
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

_PACKED = re.compile(r"\.(gz|xz|bz2)$")


def bare_name(path: str) -> str:
    """The file's name without the ending of its compression: `movies.dat` of `a/movies.dat.xz`."""
    return _PACKED.sub("", os.path.basename(path))


def by_pattern(paths: Sequence[str]) -> list[str]:
    """The paths, a pattern of names (`*`, `?`, `[...]`, `**` for folders) replaced by the files of such names.

    Files of one pattern are sorted by name; a file that is called like a pattern is meant itself.

    Raises:
      FileNotFoundError: no file has such a name.
    """
    files: list[str] = []
    for path in paths:
        if os.path.exists(path) or not glob.has_magic(path):
            files.append(path)
            continue
        matches = sorted(filter(os.path.isfile, glob.glob(path, recursive=True)))
        if not matches:
            raise FileNotFoundError(f"expected files of names like {path!r}; found none.")
        files += matches
    return files


def in_folders(paths: Sequence[str]) -> list[str]:
    """The paths, a pattern and a folder replaced by their files, sorted by name.

    Files of a folder that begin with a dot or an underscore are no data (`_SUCCESS`, `.crc`).
    """
    files: list[str] = []
    for path in by_pattern(paths):
        if os.path.isdir(path):
            files += sorted(
                os.path.join(path, name)
                for name in os.listdir(path)
                if os.path.isfile(os.path.join(path, name)) and not name.startswith((".", "_"))
            )
        else:
            files.append(path)
    return files


def beside(path: str, pattern: str) -> list[str]:
    """Files in the folder of `path` whose `bare_name` matches the regular expression, sorted."""
    folder = pathlib.Path(path).parent
    if not folder.is_dir():
        return []
    return sorted(
        os.fspath(entry)
        for entry in folder.iterdir()
        if entry.is_file() and re.fullmatch(pattern, bare_name(entry.name))
    )


def the_only(files: Sequence[str], what: str) -> str:
    """The one file in `files`; raises ValueError that asks for a choice where there are several."""
    if len(files) > 1:
        raise ValueError(
            f"expected one {what}, found {', '.join(map(os.path.basename, files))}; name the one to "
            "read in --input."
        )
    return files[0]


def number_option(options: Mapping[str, object], name: str) -> float | None:
    """A reader option that is a number or absent; raises ValueError for anything else."""
    value = options.get(name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise ValueError(f"expected the reader option {name} to be a number; got {value!r}.")


def text_option(options: Mapping[str, object], name: str, default: str = "") -> str:
    """A reader option that is text; empty and absent stand for the default."""
    value = options.get(name) or default
    if isinstance(value, str):
        return value
    raise ValueError(f"expected the reader option {name} to be text; got {value!r}.")
