"""SIM's user behavior tree (Pi et al., 2020): user -> key -> events, for the general search unit.

The key is any categorical attribute of events: `category_id` for SIM's hard search, `item_id` for
DGIN's interactions by item. `index_building` writes a tree from prepared records; `BehaviorIndex`
reads it through a memory map and merges in the pending events, which came since (`append`) and lie in
a state store.

Users are the dense user ids of the schema. An unknown user (id 0 or 1, an id beyond the vocabulary, or a
user without history) has no keys, and every look-up is empty.

After a rebuild, pending events may remain in their store: one that equals an indexed event in every field
is not listed twice. Times and sequence numbers could not tell, since events may come late and the log has
no sequence numbers.
"""

import copy
import dataclasses
import mmap
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from dgin_tf.integrity import check_files, read_json, sealed
from dgin_tf.schema import Schema
from dgin_tf.stores.behavior_blocks import (
    TIME,
    BlockCodec,
    Buffer,
    Events,
    Selection,
    newest_per_key,
)
from dgin_tf.stores.behavior_overlay import (
    BehaviorOverlay,
    check_events,
    concatenate,
    equal_to_any,
    take,
)
from dgin_tf.stores.state_store import StateStore

METADATA_FILE = "index.json"
BLOCKS_FILE = "blocks.bin"
OFFSETS_FILE = "offsets.bin"
FORMAT_VERSION = 1

_REBUILD = "build it again with python -m experiments.build_index"

PendingEvents = Callable[[Sequence[int]], Sequence[Events]]


@dataclasses.dataclass(frozen=True)
class IndexMetadata:
    """Contents of an index.

    Attributes:
      schema: fingerprint of the schema.
      key: the field by which events are listed.
      max_events_per_key: length at which every list is cut, the newest events remaining.
      users: users with at least one event.
      lists: (user, key) pairs.
      events: events of all lists.
      events_seen: events before the lists were cut.
      records_skipped: records of users without an id of their own, which are not indexed.
      bytes: of all files but this description.
      files: name -> {"bytes", "crc32c"}.
      format_version: of the files.
    """

    schema: str
    key: str
    max_events_per_key: int
    users: int
    lists: int
    events: int
    events_seen: int
    records_skipped: int
    bytes: int
    files: Mapping[str, Mapping[str, int]]
    format_version: int = FORMAT_VERSION

    @property
    def bytes_per_user(self) -> float:
        return self.bytes / max(self.users, 1)

    @property
    def bytes_per_event(self) -> float:
        return self.bytes / max(self.events, 1)

    def to_json(self) -> str:
        """JSON text, with the averages for whoever reads the file."""
        averages = {
            "bytes_per_user": round(self.bytes_per_user, 3),
            "bytes_per_event": round(self.bytes_per_event, 3),
        }
        return sealed({**dataclasses.asdict(self), **averages}, sort_keys=True)

    @classmethod
    def load(cls, index_dir: str | os.PathLike) -> "IndexMetadata":
        """Reads the description of an index.

        Raises:
          FileNotFoundError: there is no index.
          ValueError: the file is no description of this version.
        """
        path = pathlib.Path(index_dir) / METADATA_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"expected a behavior index with {METADATA_FILE} in {os.fspath(index_dir)!r}, found "
                f"none; {_REBUILD}."
            )
        content = read_json(path, "the description of a behavior index", _REBUILD)
        try:
            version = content["format_version"]
            names = {field.name for field in dataclasses.fields(cls)}
            metadata = cls(**{name: content[name] for name in names})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} describes no behavior index ({error!r}); {_REBUILD}."
            ) from error
        if version != FORMAT_VERSION:
            raise ValueError(
                f"the behavior index in {os.fspath(index_dir)!r} has format version {version}, but "
                f"this version of dgin_tf reads {FORMAT_VERSION}; {_REBUILD}."
            )
        return metadata


class BehaviorIndex:
    """Past behaviors by user and key, in memory-mapped files that processes share.

    Args:
      index_dir: what `build_index` wrote.
      schema: of the data in use.
      key: the field that look-ups are by.
      overlay: store of the pending events; a namespace of its own is advisable
        (`store.scoped("behaviors")`). None where no events are appended.

    Raises:
      FileNotFoundError: there is no index.
      ValueError: it was built for another schema or key, or its files are not whole.
    """

    def __init__(
        self,
        index_dir: str | os.PathLike,
        schema: Schema,
        key: str,
        overlay: StateStore | None = None,
    ):
        self.metadata = IndexMetadata.load(index_dir)
        self._path = pathlib.Path(index_dir)
        for name, actual, needs in (
            ("schema", self.metadata.schema, schema.fingerprint()),
            ("key", self.metadata.key, key),
        ):
            if actual != needs:
                raise ValueError(
                    f"the behavior index in {os.fspath(index_dir)!r} was built for {name} {actual!r}, "
                    f"but {needs!r} is in use; {_REBUILD}."
                )
        self._codec = BlockCodec(schema, key)
        self._offsets = np.frombuffer(self._map(OFFSETS_FILE), "<i8")
        self._blocks = self._map(BLOCKS_FILE)
        self._overlay: BehaviorOverlay | None = None
        self._pending_of: PendingEvents | None = None
        if overlay is not None:
            limit = self.metadata.max_events_per_key
            self._overlay = BehaviorOverlay(overlay, self._codec, self.metadata.schema, limit)
            self._pending_of = self._overlay.events_of

    def check(self) -> None:
        """Reads every byte and compares the checksums; opening compares the sizes alone.

        Raises:
          ValueError: a file is damaged.
        """
        check_files(self._path, self.metadata.files, _REBUILD)

    def keys(self, user: int) -> np.ndarray:
        """All keys under which the user has events, rising, [keys]."""
        begin = self._begin(user)
        keys = self._codec.empty()[self._codec.key]
        if begin is not None:
            keys = self._codec.keys(self._blocks, begin)
        if self._pending_of is not None:
            (pending,) = self._pending_of([user])
            keys = np.union1d(keys, pending[self._codec.key])
        return keys

    def lookup(
        self, user: int, keys: Sequence[int] | np.ndarray, before: int | None = None, ties: int = 0
    ) -> Events:
        """The user's events under any of some keys, merged in time order.

        Each key's list is cut to the newest `max_events_per_key` first, and `before` applies to the rest.

        Args:
          user: dense id.
          keys: dense ids in any order, [keys]; repeated and unknown ones are allowed.
          before: only events before this second, such as a candidate's own; None for all.
          ties: how many events of the second `before` itself count too, in the history's order: for
            examples whose cut lies within a second.

        Returns:
          History field -> values, oldest first, [events].
        """
        return self._merge(user, _rising(keys), self._pending(user), before, ties)

    def history_slice(
        self,
        user: int,
        keys: Sequence[int] | np.ndarray,
        newest: int,
        before: int | None = None,
        ties: int = 0,
    ) -> Events:
        """The user's newest events and, before them, those under some keys, in time order.

        A model with hard search by the key, whose other part reads the newest events, reads no more.

        Args:
          user: dense id.
          keys: as for `lookup`.
          newest: how many of the newest events to return whatever their key.
          before: as for `lookup`.
          ties: as for `lookup`.

        Returns:
          History field -> values, oldest first, [events].
        """
        if not newest:
            return self.lookup(user, keys, before, ties)
        keys, pending = _rising(keys), self._pending(user)
        begin = self._begin(user)
        recent = Selection(self._codec.empty(), np.zeros(0, np.int64))
        if begin is not None:
            recent = self._codec.select_newest(self._blocks, begin, newest, before, ties)
        if pending is not None:
            recent = self._join(recent, pending)
        recent = _in_time_order(_until(recent, before, ties), newest)
        if not len(recent.rank):
            return recent.events
        # The keys' lists end where the newest events begin.
        older = self._merge(user, keys, pending, int(recent.events[TIME][0]), int(recent.rank[0]))
        return concatenate(older, recent.events)

    def append(self, user: int, events: Mapping[str, object], sequence: int) -> bool:
        """Adds events that came since the index was built.

        Args:
          user: dense id, at least 2.
          events: every history field -> values, of any times and in any order, [events].
          sequence: number of this delivery, unique for the user. A delivery whose number is among the
            user's pending events changes nothing.

        Returns:
          Whether the delivery was new.

        Raises:
          ValueError: the index has no overlay, or these are no events of the schema.
        """
        if self._overlay is None:
            raise ValueError(
                "this index was opened without a store for pending events; give `overlay`."
            )
        return self._overlay.append(user, events, sequence)

    def damaged_users(self) -> Iterator[int]:
        """Users whose pending events are damaged: they can neither be read nor appended to."""
        return iter(()) if self._overlay is None else self._overlay.damaged_users()

    def drop(self, user: int) -> None:
        """Deletes a user's pending events."""
        if self._overlay is not None:
            self._overlay.drop(user)

    def check_events(self, user: int, events: Mapping[str, object]) -> Events:
        """The schema's history fields as arrays; raises ValueError where they are no such events."""
        return check_events(self._codec, user, events)

    @property
    def has_overlay(self) -> bool:
        """True where events can be appended."""
        return self._overlay is not None

    def beside(self, pending_of: "PendingEvents") -> "BehaviorIndex":
        """This index with pending events from elsewhere: users -> events of each, oldest first."""
        index = copy.copy(self)
        index._overlay, index._pending_of = None, pending_of
        return index

    def _pending(self, user: int) -> Selection | None:
        return None if self._pending_of is None else _rank_last(self._pending_of([user])[0])

    def _begin(self, user: int) -> int | None:
        """Offset of the user's block; None where there is none."""
        if not 0 <= user < len(self._offsets) - 1:
            return None
        begin = int(self._offsets[user])
        return begin if begin < self._offsets[user + 1] else None

    def _merge(
        self, user: int, keys: np.ndarray, pending: Selection | None, before: int | None, ties: int
    ) -> Events:
        begin = self._begin(user)
        selection = Selection(self._codec.empty(), np.zeros(0, np.int64))
        if begin is not None:
            selection = self._codec.select(self._blocks, begin, keys)
        if pending is not None:
            pending = pending.where(np.isin(pending.events[self._codec.key], keys))
            if len(pending.rank):
                selection = self._join(selection, pending)
        selection = _until(selection, before, ties)
        # A single list is in time order already.
        return selection.events if len(keys) == 1 else _in_time_order(selection).events

    def _join(self, selection: Selection, pending: Selection) -> Selection:
        """Indexed and pending events in time order, each key's list cut."""
        indexed_count = len(selection.rank)
        events = concatenate(selection.events, pending.events)
        # Indexed events first within a second, then the pending ones in the order of their arrival.
        rank = np.append(selection.rank.astype(np.int64), pending.rank)
        order = np.lexsort((rank, events[TIME]))
        # Pending events are not compared with each other: different ones may equal in all fields.
        fresh = ~equal_to_any(pending.events, selection.events)
        fresh = np.append(np.ones(indexed_count, bool), fresh)
        order = order[fresh[order]]
        keys, limit = events[self._codec.key], self.metadata.max_events_per_key
        order = order[newest_per_key(keys[order], limit)]
        return Selection(take(events, order), rank[order])

    def _map(self, name: str) -> Buffer:
        """A file as a memory map, after a check of its size."""
        path, expected_size = self._path / name, self.metadata.files[name]["bytes"]
        size = path.stat().st_size if path.is_file() else 0
        if size != expected_size:
            raise ValueError(
                f"{path} has {size} bytes instead of {expected_size}: it was cut short or belongs to another "
                f"index; {_REBUILD}."
            )
        if not size:
            return b""  # an empty file cannot be mapped
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _until(selection: Selection, before: int | None, ties: int) -> Selection:
    """Events before a second, and the first `ties` events of that second."""
    if before is None:
        return selection
    times, rank = selection.events[TIME], selection.rank
    return selection.where((times < before) | ((times == before) & (rank < ties)))


def _rank_last(pending: Events) -> Selection:
    """Pending events, each behind the indexed ones of its second."""
    count = len(pending[TIME])
    return Selection(pending, np.iinfo(np.int64).max - count + np.arange(count))


def _in_time_order(selection: Selection, newest: int | None = None) -> Selection:
    """The newest so many events, or all of them, in time order."""
    times, rank = selection.events[TIME], selection.rank
    # Ranks matter only where events share a second; a stable sort by one key is faster.
    order = np.lexsort((rank, times)) if rank.any() else times.argsort(kind="stable")
    if newest is not None:
        order = order[max(len(order) - newest, 0) :]
    return Selection(take(selection.events, order), rank[order])


def _rising(keys: Sequence[int] | np.ndarray) -> np.ndarray:
    array = np.asarray(keys, np.int64)
    return np.unique(array) if len(array) > 1 else array  # a single key is most of all requests
