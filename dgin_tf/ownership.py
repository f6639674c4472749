"""Ownership of files: no command deletes or overwrites what it did not write.

What a command writes into a folder is noted in the folder's `.written.json` before it is written, name by
name with its writer. A name that is there and not noted is somebody else's, and so is one with another
writer. Folders that are replaced as a whole, such as a prepared data set or a behavior index, list their
files themselves; they are replaced only where they hold nothing else, after the new content is complete.

This module needs neither TensorFlow nor pandas.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
from collections.abc import Callable, Collection, Iterator

from dgin_tf.integrity import damage_in, read_json, sealed
from dgin_tf.schema import write_text

NOTES_FILE = ".written.json"
LOCK_FILE = ".lock"
_WRITTEN = "written"
_MOVE = "move it away, or give another place for the output"


def make_folder(path: str | os.PathLike) -> pathlib.Path:
    """Creates a folder with its parents, unless it exists.

    Raises:
      ValueError: the path, or a part of it, is a file or a link to nothing.
    """
    folder = _check_path(path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def locked(path: str | os.PathLike, refusal: str) -> Iterator[None]:
    """Holds a lock file, which ends with the process however it ends.

    Args:
      path: of the file, created where it is missing.
      refusal: text of the error while another process, or another part of this one, holds it.

    Raises:
      ValueError: somebody else holds the lock.
    """
    with open(path, "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before may have removed the file between opening and locking.
            is_there = os.path.samestat(os.fstat(lock.fileno()), os.stat(path))
        except (BlockingIOError, FileNotFoundError):
            is_there = False
        if not is_there:
            raise ValueError(refusal)
        yield


def claim(folder: str | os.PathLike, writer: str, names: Collection[str]) -> pathlib.Path:
    """Notes names in a folder as a writer's, who may then write and replace them.

    To be called before the work that fills them, so that a refusal costs nothing.

    Args:
      folder: created where it is missing.
      writer: noun of what is written, such as "a report of a model".
      names: of files, relative to the folder, or of folders whose whole content is the writer's.

    Returns:
      The folder.

    Raises:
      ValueError: one of the names is somebody else's; nothing is noted.
    """
    folder = make_folder(folder)
    with _alone(folder):
        check_claim(folder, writer, names)
        notes = _notes(folder)
        if new := {name: writer for name in names if name not in notes}:
            write_text(folder / NOTES_FILE, sealed({_WRITTEN: notes | new}, sort_keys=True))
    return folder


def check_claim(folder: str | os.PathLike, writer: str, names: Collection[str]) -> None:
    """Raises what `claim` would raise, and changes nothing."""
    folder = _check_path(folder)
    notes = _notes(folder)
    for name in names:
        path = folder / name
        if os.path.lexists(path) and notes.get(name) != writer:
            origin = f"is {notes[name]}" if name in notes else "was not written by this command"
            raise ValueError(f"{path} exists and {origin}, whose output is {writer}; {_MOVE}.")


def check_nothing_else(
    folder: pathlib.Path, own: Collection[str], description: str, ignored: Collection[str] = ()
) -> None:
    """Raises ValueError unless all files in a folder are of the names given.

    Args:
      folder: that is to be replaced; need not exist.
      own: paths of files relative to the folder, with `/`.
      description: noun of what is to be written there.
      ignored: top-level names that do not count.
    """
    for path in sorted(_files(folder)):
        name = path.relative_to(folder).as_posix()
        if name not in own and name.split("/")[0] not in ignored:
            raise ValueError(
                f"expected {str(folder)!r} to be new, empty or {description}; it holds "
                f"{name}, which is no part of one. Move it away, or give another folder."
            )


@contextlib.contextmanager
def replacing_folder(
    output: pathlib.Path, own: Callable[[pathlib.Path], Collection[str]], description: str
) -> Iterator[pathlib.Path]:
    """A new folder that takes the place of `output` at the end, unless there is an error.

    Args:
      output: folder, new, empty or one of the same kind.
      own: names of the files of an earlier output, given its folder.
      description: noun of the output.

    Raises:
      ValueError: `output` holds something else, or another process is writing it.
    """
    parent = make_folder(output.parent)
    new, old, lock = (parent / f".{output.name}.{word}" for word in ("building", "old", "lock"))
    with locked(lock, f"another command is writing {output}; wait for it, or give another folder."):
        if old.exists() and not output.exists():  # a run that was killed between the two renames
            old.rename(output)
        if os.path.lexists(output):
            make_folder(output)
            check_nothing_else(output, own(output), description)
        # Both are the names of a killed run alone.
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
        new.mkdir()
        try:
            yield new
            if output.exists():
                check_nothing_else(output, own(output), description)
                output.rename(old)
            new.rename(output)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(new, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Files and links below a folder, at any depth; links are not followed."""
    for parent, folders, files in os.walk(folder):
        for name in (
            *files,
            *(name for name in folders if os.path.islink(os.path.join(parent, name))),
        ):
            yield pathlib.Path(parent, name)


def _notes(folder: pathlib.Path) -> dict[str, str]:
    """Name -> writer of what commands wrote into a folder."""
    path = folder / NOTES_FILE
    if not path.exists():
        return {}
    advice = f"delete it, and move away what you want to keep of {folder}"
    content = read_json(path, "the names of files that commands wrote", advice)
    with damage_in(path, "the names of files that commands wrote", advice):
        return dict(content[_WRITTEN])


def _check_path(path: str | os.PathLike) -> pathlib.Path:
    """Raises ValueError where a folder cannot be made, for a part of its path is something else."""
    folder = pathlib.Path(path)
    for place in (*reversed(folder.parents), folder):
        if place.is_symlink() and not place.exists():
            raise ValueError(
                f"expected a folder for the output, but {place} is a link to "
                f"{os.readlink(place)!r}, which does not exist; {_MOVE}."
            )
        if place.exists() and not place.is_dir():
            raise ValueError(f"expected a folder for the output, but {place} is a file; {_MOVE}.")
    return folder


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
    """Waits until no other process is changing the notes of a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems lock no folders
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
