"""Base class of readers of raw logs, and the pieces of files that several workers read at once.

A reader knows one layout. It says which pieces its input falls into, and turns a piece into chunks of
canonical events (`data_prep.events`). It neither sorts nor counts nor filters: the stages do. Pieces
depend on the input alone, never on the number of workers, so that every run sees the same chunks.

A row that is no event goes to `Chunk.bad` with its reason; a file that is not of the layout at all
raises ValueError, a file that is not there FileNotFoundError that says where to get it.
"""

import abc
import bz2
import contextlib
import dataclasses
import gzip
import lzma
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, ClassVar

import numpy as np
import pandas as pd

from data_prep.columns import DeclaredColumns
from data_prep.events import Chunk

PIECE_BYTES = 1 << 26
BLOCK_BYTES = 1 << 24
_OPENERS: dict[str, Callable[[str, str], Any]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".bz2": bz2.open,
}


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of one input file that can be read by itself.

    Attributes:
      path: the file.
      start, stop: byte range; the piece owns the lines that begin in it. A compressed file is one
        piece from 0 to its compressed size.
    """

    path: str
    start: int
    stop: int


class Reader(abc.ABC):
    """Reads one layout of raw logs.

    Subclasses must be cheap to construct and to pickle (they are sent to worker processes): large
    side tables, such as an item -> category map, belong in a `functools.cached_property`, which each
    worker fills for itself.
    """

    #: Names of the behavior types, `behavior_type` is an index into it; empty where there is only one.
    behavior_types: tuple[str, ...] = ()
    #: Names of the words that events have beside the behavior type, such as a location.
    side_features: tuple[str, ...] = ()
    #: Names of the numbers that events have; see `dgin_tf.numeric_features`.
    numeric_features: tuple[str, ...] = ()
    #: Those of `events.IMPRESSION_COLUMNS` that the log has; empty where it holds events alone.
    impression_columns: tuple[str, ...] = ()
    #: True where past events are in a log of their own beside the impressions.
    has_behavior_log: bool = False
    #: True where a user's events of one time are in the order of the log; otherwise they are sorted by item.
    keeps_order: bool = False
    #: True where events have their time within the second, `events.MICROSECOND`.
    has_microseconds: bool = False
    #: False where the source knows no categories; the field is then left out of the schema.
    has_categories: bool = True
    #: Names `user_*` of the profile columns that `profiles` returns.
    profile_fields: tuple[str, ...] = ()
    #: What is declared besides by a file of columns, or by the layout itself.
    declared: DeclaredColumns = DeclaredColumns()
    #: (first, last) second that an event may have, both included, where the source promises one.
    time_window: tuple[int, int] | None = None
    #: Advice for users who do not have the file.
    where_to_get_it: ClassVar[str] = ""
    #: Well-known full files: name -> {"events": rows, "users": ..., "items": ..., ...}.
    official_counts: ClassVar[Mapping[str, Mapping[str, int]]] = {}

    def __init__(self, paths: Sequence[str], options: Mapping[str, object]):
        """Stores the input and the reader's options.

        Args:
          paths: the input files, in the order given on the command line. Readers that need side files
            recognize them by name, among `paths` or beside them.
          options: reader options from the CLI by name (`rating_threshold`, `user_column`, ...);
            those that a reader does not know are not its business.

        Raises:
          FileNotFoundError: a file is missing.
        """
        if not paths:
            raise ValueError("expected at least one input file; give --input=FILE[,FILE].")
        for path in paths:
            if not os.path.isfile(path):
                raise FileNotFoundError(
                    " ".join(f"no input file {path!r}. {self.where_to_get_it}".split())
                )
        self.paths = tuple(os.fspath(path) for path in paths)
        self.options = dict(options)

    def files(self) -> tuple[str, ...]:
        """Every file that the result depends on, side files too; they are fingerprinted."""
        return self.paths

    @abc.abstractmethod
    def pieces(self) -> list[Piece]:
        """The parts of the log, in order; see `file_pieces`."""

    @abc.abstractmethod
    def read(self, piece: Piece) -> Iterator[Chunk]:
        """Yields the events of one piece, in chunks small enough to hold in memory.

        Raises:
          ValueError: the file is not of this layout at all.
        """

    def profiles(self) -> pd.DataFrame:
        """Table of user profiles: `user_id` as in the log, and `profile_fields` as words, "" where unknown."""
        return pd.DataFrame(columns=["user_id", *self.profile_fields])

    def item_attributes(self) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
        """Keys of items and a table with a cell of text for each of `columns.of_items`, part by part."""
        return iter(())

    def user_attributes(self) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
        """Keys of users and a table with a cell of text for each of `columns.of_user_table`, part by part."""
        return iter(())

    def titles(self) -> pd.DataFrame:
        """Table of items' titles, for people who look at them: `item_id` as in the log, and `title`."""
        return pd.DataFrame(columns=["item_id", "title"])


def file_pieces(path: str, piece_bytes: int = PIECE_BYTES) -> list[Piece]:
    """Cuts a plain text file into byte ranges; a compressed file stays whole."""
    size = os.path.getsize(path)
    if is_compressed(path) or size <= piece_bytes:
        return [Piece(path, 0, size)]
    return [
        Piece(path, start, min(start + piece_bytes, size)) for start in range(0, size, piece_bytes)
    ]


def line_blocks(piece: Piece, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yields the lines of a piece as blocks of whole lines of about `block_bytes`.

    The last line of a file may lack its newline. Line ends are left as they are.

    Raises:
      ValueError: a compressed file is damaged or ends early.
    """
    if is_compressed(piece.path):
        with decompressed(piece.path) as file:
            yield from _blocks(file, None, block_bytes)
        return
    with open(piece.path, "rb") as file:
        start = piece.start
        if start:  # the line that is under way at `start` belongs to the piece before
            file.seek(start - 1)
            start += len(file.readline()) - 1
        if start < piece.stop:
            yield from _blocks(file, piece.stop - start, block_bytes)


@contextlib.contextmanager
def decompressed(path: str) -> Iterator[BinaryIO]:
    """A plain, .gz, .xz or .bz2 file, opened for reading bytes.

    Raises:
      ValueError: a compressed file is damaged or ends early, while it is being read.
    """
    opener = _OPENERS.get(pathlib.Path(path).suffix, open)
    with opener(path, "rb") as file:
        try:
            yield file
        except (EOFError, lzma.LZMAError, zlib.error, OSError) as error:
            # Damage that gzip and bz2 find is an OSError too, but not the system's.
            if opener is open or isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(
                f"{path} is no complete compressed file ({error}); fetch it again."
            ) from error


def is_compressed(path: str) -> bool:
    return pathlib.Path(path).suffix in _OPENERS


def _blocks(file: BinaryIO, remaining: int | None, block_bytes: int) -> Iterator[bytes]:
    """Whole lines from the file's position on: all, or those that begin in `remaining` bytes."""
    while remaining is None or remaining > 0:
        # The last block may be shorter: its lines begin within the piece.
        size = block_bytes if remaining is None else min(block_bytes, remaining)
        block = file.read(size)
        if not block:
            return
        # The rest of the line that the block cuts.
        if not block.endswith(b"\n"):
            block += file.readline()
        if remaining is not None:
            remaining -= len(block)
        yield block
