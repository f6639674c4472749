"""SIM's user behavior tree (Pi et al., 2020): user -> key -> events, for the general search unit.

The key is any categorical attribute of events: `category_id` for SIM's hard search, `item_id` for
DGIN's interactions by item. `index_building` writes a tree from prepared records; `BehaviorIndex`
reads it through a memory map and merges in what came since (`append`), which lies in a state store.

Users are the dense user ids of the schema. Somebody the index does not know (id 0 or 1, an id beyond
the vocabulary, or a user without history) has no keys, and every look-up is empty.

After a rebuild the late events may stay where they are: one that equals an event of the index in every
field is that event. Neither time nor sequence number could decide that, since an event may come
late and the log has no sequence numbers. `drop_covered` frees the space.
"""

import copy
import dataclasses
import functools
import json
import mmap
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import google_crc32c
import numpy as np

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
_CHUNK = 1 << 24  # bytes read at a time to compute a checksum

LateEvents = Callable[[Sequence[int]], Sequence[Events]]


@dataclasses.dataclass(frozen=True)
class IndexMetadata:
    """What an index holds.

    Attributes:
      schema: fingerprint of the schema.
      key: the field by which events are listed.
      max_events_per_key: length at which every list is cut, the newest kept.
      users: users with at least one event.
      lists: (user, key) pairs.
      events: events kept.
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
        return json.dumps({**dataclasses.asdict(self), **averages}, indent=2, sort_keys=True) + "\n"

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
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
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
    """Looks up what users did under some keys, in memory-mapped files that processes share.

    Args:
      index_dir: what `build_index` wrote.
      schema: of the data in use.
      key: the field that look-ups are by.
      overlay: takes the events that came since; a namespace of its own is advisable
        (`store.scoped("behaviors")`). None where the index is all there is.

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
        for name, found, wanted in (
            ("schema", self.metadata.schema, schema.fingerprint()),
            ("key", self.metadata.key, key),
        ):
            if found != wanted:
                raise ValueError(
                    f"the behavior index in {os.fspath(index_dir)!r} was built for {name} {found!r}, "
                    f"but {wanted!r} is in use; {_REBUILD}."
                )
        self._codec = BlockCodec(schema, key)
        self._offsets = np.frombuffer(self._map(OFFSETS_FILE), "<i8")
        self._blocks = self._map(BLOCKS_FILE)
        self._overlay: BehaviorOverlay | None = None
        self._late_of: LateEvents | None = None
        if overlay is not None:
            limit = self.metadata.max_events_per_key
            self._overlay = BehaviorOverlay(overlay, self._codec, self.metadata.schema, limit)
            self._late_of = self._overlay.events_of

    def check(self) -> None:
        """Reads every byte and compares the checksums; opening compares the sizes alone.

        Raises:
          ValueError: a file is damaged.
        """
        for name, expected in self.metadata.files.items():
            if file_facts(self._path / name) != expected:
                raise ValueError(
                    f"{self._path / name} is damaged: its checksum differs; {_REBUILD}."
                )

    def keys(self, user: int) -> np.ndarray:
        """All keys under which the user has events, rising, [keys]."""
        begin = self._begin(user)
        found = self._codec.empty()[self._codec.key]
        if begin is not None:
            found = self._codec.keys(self._blocks, begin)
        if self._late_of is not None:
            (late,) = self._late_of([user])
            found = np.union1d(found, late[self._codec.key])
        return found

    def lookup(
        self, user: int, keys: Sequence[int] | np.ndarray, before: int | None = None, ties: int = 0
    ) -> Events:
        """The user's events under any of some keys, merged in time order.

        Of each key the newest `max_events_per_key` are there, whatever `before` then hides.

        Args:
          user: dense id.
          keys: dense ids in any order, [keys]; repeated and unknown ones do no harm.
          before: where given, only events before this second, such as a candidate's own.
          ties: how many events of the second `before` itself are seen too, in the history's order:
            for examples whose cut lies within a second.

        Returns:
          History field -> values, oldest first, [events].
        """
        return self._merged(user, _sorted(keys), self._late([user])[0], before, ties)

    def history_slice(
        self,
        user: int,
        keys: Sequence[int] | np.ndarray,
        newest: int,
        before: int | None = None,
        ties: int = 0,
    ) -> Events:
        """The user's newest events and, before them, those under some keys, in time order.

        That is all that a model with hard search by the key reads of a history whose newest events
        it looks at one by one.

        Args:
          user: dense id.
          keys: as for `lookup`.
          newest: how many of the newest events are there whatever their key.
          before: as for `lookup`.
          ties: as for `lookup`.

        Returns:
          History field -> values, oldest first, [events].
        """
        if not newest:
            return self.lookup(user, keys, before, ties)
        wanted, late = _sorted(keys), self._late([user])[0]
        begin = self._begin(user)
        recent = Selection(self._codec.empty(), np.zeros(0, np.int64))
        if begin is not None:
            recent = self._codec.select_newest(self._blocks, begin, newest, before, ties)
        if late is not None:
            recent, _ = self._join(recent, late)
        recent = _ordered(_seen(recent, before, ties), newest)
        if not len(recent.rank):
            return recent.events
        older = self._merged(user, wanted, late, int(recent.events[TIME][0]), int(recent.rank[0]))
        return concatenate(older, recent.events)

    def lookup_many(
        self,
        users: Sequence[int],
        keys: Sequence[Sequence[int] | np.ndarray],
        before: Sequence[int] | None = None,
    ) -> list[Events]:
        """`lookup` for several users, each with keys and a time of its own.

        Late events are fetched from the store in one request.
        """
        times = [None] * len(users) if before is None else before
        if not len(users) == len(keys) == len(times):
            raise ValueError(
                f"expected keys and times for each of {len(users)} users; got {len(keys)} and "
                f"{len(times)}."
            )
        rows = zip(users, keys, self._late(users), times, strict=True)
        return [self._merged(u, _sorted(wanted), late, time, 0) for u, wanted, late, time in rows]

    def append(self, user: int, events: Mapping[str, object], sequence: int) -> bool:
        """Adds events that came since the index was built.

        Args:
          user: dense id, at least 2.
          events: every history field -> values, of any times and in any order, [events].
          sequence: number of this delivery, unique for the user. A number that the user's late
            events carry already changes nothing.

        Returns:
          Whether the delivery was new.

        Raises:
          ValueError: the index has no overlay, or these are no events of the schema.
        """
        return self._late_events().append(user, events, sequence)

    def check_events(self, user: int, events: Mapping[str, object]) -> Events:
        """The schema's history fields as arrays; raises ValueError where they are no such events."""
        return check_events(self._codec, user, events)

    @property
    def has_overlay(self) -> bool:
        """Whether events can be appended."""
        return self._overlay is not None

    def beside(self, late_of: "LateEvents") -> "BehaviorIndex":
        """This index with other late events, kept elsewhere: users -> events of each, oldest first."""
        index = copy.copy(self)
        index._overlay, index._late_of = None, late_of
        return index

    def drop_covered(self) -> int:
        """Removes late events that the index holds by now, or that no list has room for.

        Returns:
          How many were removed.
        """
        overlay = self._late_events()

        def uncovered(user: int, late: Events) -> np.ndarray:
            keys = np.unique(late[self._codec.key])
            return self._join(self._select(user, keys), _ranked_last(late))[1]

        return sum(
            overlay.keep(user, functools.partial(uncovered, user)) for user in list(overlay.users())
        )

    def _late_events(self) -> BehaviorOverlay:
        if self._overlay is None:
            raise ValueError(
                "this index was opened without a store for late events; give `overlay`."
            )
        return self._overlay

    def _late(self, users: Sequence[int]) -> Sequence[Selection | None]:
        if self._late_of is None:
            return [None] * len(users)
        return [_ranked_last(events) for events in self._late_of(users)]

    def _begin(self, user: int) -> int | None:
        """Where the user's block starts; None where there is none."""
        if not 0 <= user < len(self._offsets) - 1:
            return None
        begin = int(self._offsets[user])
        return begin if begin < self._offsets[user + 1] else None

    def _select(self, user: int, keys: np.ndarray) -> Selection:
        begin = self._begin(user)
        if begin is None:
            return Selection(self._codec.empty(), np.zeros(0, np.int64))
        return self._codec.select(self._blocks, begin, keys)

    def _merged(
        self, user: int, keys: np.ndarray, late: Selection | None, before: int | None, ties: int
    ) -> Events:
        selection = self._select(user, keys)
        if late is not None:
            late = late.where(np.isin(late.events[self._codec.key], keys))
            if len(late.rank):
                selection, _ = self._join(selection, late)
        selection = _seen(selection, before, ties)
        # One list is in time order already.
        return selection.events if len(keys) == 1 else _ordered(selection).events

    def _join(self, selection: Selection, late: Selection) -> tuple[Selection, np.ndarray]:
        """Indexed and late events in time order, each key cut; and which late ones are among them."""
        indexed = len(selection.rank)
        events = concatenate(selection.events, late.events)
        rank = np.append(selection.rank.astype(np.int64), late.rank)
        order = np.lexsort((rank, events[TIME]))
        # Among themselves neither is compared: fields may not tell apart what two events are.
        fresh = np.append(np.ones(indexed, bool), ~equal_to_any(late.events, selection.events))
        order = order[fresh[order]]
        order = order[
            newest_per_key(events[self._codec.key][order], self.metadata.max_events_per_key)
        ]
        kept = np.zeros(len(fresh), bool)
        kept[order] = True
        return Selection(take(events, order), rank[order]), kept[indexed:]

    def _map(self, name: str) -> Buffer:
        """A file as a memory map, after its size was compared with the description."""
        path, expected = self._path / name, self.metadata.files[name]["bytes"]
        size = path.stat().st_size if path.is_file() else 0
        if size != expected:
            raise ValueError(
                f"{path} has {size} bytes instead of {expected}: it was cut short or belongs to another "
                f"index; {_REBUILD}."
            )
        if not size:
            return b""
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def file_facts(path: pathlib.Path) -> dict[str, int]:
    """Size and CRC-32C of a file."""
    checksum = google_crc32c.Checksum()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            checksum.update(chunk)
    return {"bytes": path.stat().st_size, "crc32c": int.from_bytes(checksum.digest(), "big")}


def _seen(selection: Selection, before: int | None, ties: int) -> Selection:
    """Events before a second, and the first `ties` events of that second."""
    if before is None:
        return selection
    times, rank = selection.events[TIME], selection.rank
    seen = (times < before) | ((times == before) & (rank < ties))
    return selection.where(seen)


def _ranked_last(late: Events) -> Selection:
    """Late events, each behind those of its second that the index holds."""
    count = len(late[TIME])
    return Selection(late, np.iinfo(np.int64).max - count + np.arange(count))


def _ordered(selection: Selection, newest: int | None = None) -> Selection:
    """The newest so many events, or all of them, in time order."""
    times, rank = selection.events[TIME], selection.rank
    order = np.lexsort((rank, times)) if rank.any() else times.argsort(kind="stable")
    if newest is not None:
        order = order[max(len(order) - newest, 0) :]
    return Selection(take(selection.events, order), rank[order])


def _sorted(keys: Sequence[int] | np.ndarray) -> np.ndarray:
    array = np.asarray(keys, np.int64)
    return np.unique(array) if len(array) > 1 else array  # a single key is most of all requests
