"""One user's branch of the behavior tree as a block of bytes: key -> events.

SIM (Pi et al., 2020) keeps, for each user and each category, the list of past behaviors. A block
holds one user's lists side by side, in rising order of the key, as columns of unsigned integers in
the fewest bytes that hold the largest of the user's values (frame of reference coding):

    number of lists                              four bytes
    width of every column                        one byte each
    the first second of every column of seconds  eight bytes each
    columns: keys and lengths of the lists, then the events' attributes

An id is stored as it is and a time as its difference to the user's first one. Differences of neighbors
would save another byte an event, but a list could then only be read from its beginning; here any lists
of a block are gathered at once, without a loop. An attribute that is constant in every list, such as the
category in DGIN's lists by item, is stored once a list. The key itself is stored once a list anyway.

Events of one second keep their order: their rank within the second is a column too, of no bytes for a
user without two events in one second.
"""

import dataclasses
import mmap
import struct
from collections.abc import Mapping

import numpy as np

from dgin_tf.schema import Schema

TIME = "timestamp"

Events = dict[str, np.ndarray]
Buffer = bytes | mmap.mmap

_LISTS = struct.Struct("<I")
_WIDTHS = np.array([0, 1, 2, 3, 4, 8])  # bytes a value
_PAD = b"\0"  # lets the last value of three bytes be read as four
_DTYPES = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<i8"}
_PER_LIST = 0x80  # set in the width of an attribute that is stored once a list
_ALL = slice(None)


@dataclasses.dataclass(frozen=True)
class Selection:
    """Events of some lists, list by list, oldest first within a list.

    Attributes:
      events: history field -> values, [events].
      rank: how many of the user's events of the same second came before, [events].
    """

    events: Events
    rank: np.ndarray

    def where(self, mask: np.ndarray) -> "Selection":
        """The rows of a mask, bool [events]."""
        events = {name: values[mask] for name, values in self.events.items()}
        return Selection(events, self.rank[mask])


class BlockCodec:
    """Blocks of one schema and key.

    Args:
      schema: its stored history fields are the attributes of events; `timestamp` must be one of them.
      key: the categorical history field that tells a user's lists apart.

    Raises:
      ValueError: there is no such key, or no timestamp.
    """

    def __init__(self, schema: Schema, key: str):
        history = schema.stored_fields
        keys = [field.name for field in history if field.is_categorical]
        if key not in keys:
            raise ValueError(f"expected a key among {', '.join(keys)}; got {key!r}.")
        if TIME not in [field.name for field in history]:
            raise ValueError(
                f"an index needs the field {TIME!r} in the history, which this schema lacks; prepare "
                "the data with it."
            )
        self.key = key
        self.dtypes = {field.name: np.dtype(field.dtype) for field in history}
        self._columns = [field.name for field in history if field.name != key]
        self._seconds = [field.name for field in history if not field.is_categorical]
        self._widths = 3 + len(self._columns)  # of keys, lengths, ranks and attributes
        self._bases = struct.Struct(f"<{len(self._seconds)}q")
        self._header = _LISTS.size + self._widths + self._bases.size

    def empty(self) -> Events:
        """No events."""
        return {name: np.zeros(0, dtype) for name, dtype in self.dtypes.items()}

    def encode(self, events: Mapping[str, np.ndarray], max_events_per_key: int) -> bytes:
        """The block of a history.

        Args:
          events: history field -> values, oldest first, [events].
          max_events_per_key: length at which every list is cut, the newest events remaining.
        """
        keys = np.asarray(events[self.key])
        if not len(keys):
            return b""
        rank = rank_in_second(np.asarray(events[TIME]))
        rows = np.argsort(keys, kind="stable")
        rows = rows[newest_per_key(keys[rows], max_events_per_key)]
        keys = keys[rows]
        # Lists begin where the key changes.
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        lengths = np.diff(np.append(starts, len(keys)))
        # Seconds are stored as differences to the first one, in fewer bytes.
        bases = {name: int(np.min(events[name])) for name in self._seconds}
        widths, columns = bytearray(), []
        for values in (keys[starts], lengths):
            width = _width(values)
            widths.append(width)
            columns.append(_pack(values, width))
        for values in (rank, *(events[n] - np.int64(bases.get(n, 0)) for n in self._columns)):
            values = values[rows]
            width, per_list = _width(values), 0
            # Constant in every list: stored once a list, with a flag in its width.
            if np.array_equal(np.repeat(values[starts], lengths), values):
                values, per_list = values[starts], _PER_LIST
            widths.append(width | per_list)
            columns.append(_pack(values, width))
        seconds = self._bases.pack(*bases.values())
        return b"".join((_LISTS.pack(len(starts)), widths, seconds, *columns, _PAD))

    def keys(self, data: Buffer, begin: int) -> np.ndarray:
        """Keys of the block at offset `begin` of `data`, rising, [lists]."""
        (lists,) = _LISTS.unpack_from(data, begin)
        keys = _unpack(data, begin + self._header, data[begin + _LISTS.size], lists)
        return keys.astype(self.dtypes[self.key])

    def lengths(self, data: Buffer, begin: int) -> np.ndarray:
        """Lengths of the lists, in the order of `keys`, [lists]."""
        (lists,) = _LISTS.unpack_from(data, begin)
        key_width, length_width = data[begin + _LISTS.size : begin + _LISTS.size + 2]
        return _unpack(data, begin + self._header + lists * key_width, length_width, lists)

    def select(self, data: Buffer, begin: int, keys: np.ndarray) -> Selection:
        """Events under some keys of the block at offset `begin` of `data`.

        Args:
          data: the blocks, as a buffer.
          begin: where the user's block starts.
          keys: rising keys, each once, [keys]; those that the user lacks give nothing.
        """
        block = _Block(self, data, begin)
        lists = block.keys.searchsorted(keys)
        lists = lists[block.keys.take(lists, mode="clip") == keys]
        if not len(lists):
            return Selection(self.empty(), np.zeros(0, np.int64))
        counts = block.lengths[lists]
        return block.read(_ranges(block.ends[lists], counts), lists, counts)

    def select_newest(
        self, data: Buffer, begin: int, count: int, before: int | None = None, ties: int = 0
    ) -> Selection:
        """The newest events of the block at offset `begin` of `data`, whatever their key.

        Args:
          data: the blocks, as a buffer.
          begin: where the user's block starts.
          count: how many.
          before, ties: time of the request, as for `BehaviorIndex.lookup`.
        """
        block = _Block(self, data, begin)
        times, rank = block.column(TIME), block.column(None)
        rows = np.arange(len(times))
        if before is not None:
            rows = rows[(times < before) | ((times == before) & (rank < ties))]
        if len(rows) > count:
            # The oldest second among the newest events may have more of them than fit.
            oldest = np.partition(times[rows], len(rows) - count)[len(rows) - count]
            rows = rows[times[rows] >= oldest]
            rows = rows[np.lexsort((rank[rows], times[rows]))][-count:]
        lists = block.ends.searchsorted(np.sort(rows), side="right")
        return block.read(np.sort(rows), lists, 1)


class _Block:
    """One user's block, its lists decoded and its columns not yet.

    Args:
      codec: of the schema.
      data: the blocks.
      begin: where this one starts.
    """

    def __init__(self, codec: BlockCodec, data: Buffer, begin: int):
        (lists,) = _LISTS.unpack_from(data, begin)
        offset = begin + _LISTS.size
        key_width, length_width, *widths = data[offset : offset + codec._widths]
        self._codec, self._data = codec, data
        self._bases = codec._bases.unpack_from(data, offset + codec._widths)
        offset = begin + codec._header
        self.keys = _unpack(data, offset, key_width, lists)
        offset += lists * key_width
        self.lengths = _unpack(data, offset, length_width, lists)
        self.ends = self.lengths.cumsum(dtype=np.int64)
        self._columns, offset = [], offset + lists * length_width
        for width in widths:  # of ranks first, then of every attribute
            self._columns.append((offset, width))
            per_list = width & _PER_LIST
            offset += (width & ~_PER_LIST) * (lists if per_list else int(self.ends[-1]))

    def read(self, rows: np.ndarray | slice, lists: np.ndarray, counts: np.ndarray | int):
        """A selection of rows, given the lists that they are in and how many each list has."""
        codec = self._codec
        rank, *columns = (self._values(column, rows, lists, counts) for column in self._columns)
        events = {codec.key: self.keys[lists].repeat(counts).astype(codec.dtypes[codec.key])}
        for name, values in zip(codec._columns, columns, strict=True):
            events[name] = values.astype(codec.dtypes[name])
        for name, base in zip(codec._seconds, self._bases, strict=True):
            events[name] += base
        return Selection(events, rank)

    def column(self, name: str | None) -> np.ndarray:
        """An attribute of all events, or with None their ranks within their second."""
        codec, every = self._codec, np.arange(len(self.keys))
        column = self._columns[0 if name is None else 1 + codec._columns.index(name)]
        values = self._values(column, _ALL, every, self.lengths)
        if name in codec._seconds:
            return values.astype(np.int64) + self._bases[codec._seconds.index(name)]
        return values

    def _values(self, column, rows, lists, counts):
        offset, width = column
        if width & _PER_LIST:
            values = _unpack(self._data, offset, width ^ _PER_LIST, len(self.keys), lists)
            return values.repeat(counts)
        return _unpack(self._data, offset, width, int(self.ends[-1]), rows)


def rank_in_second(times: np.ndarray) -> np.ndarray:
    """Number of earlier events of each event's second, for rising times, [events]."""
    row = np.arange(len(times))
    new = np.append(True, times[1:] != times[:-1])[: len(times)]
    return row - np.maximum.accumulate(np.where(new, row, 0))


def newest_per_key(keys: np.ndarray, limit: int) -> np.ndarray:
    """Mask of the last `limit` events of each key, for keys in any order, bool [events]."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]  # events of one key side by side, oldest first
    ends = np.flatnonzero(np.append(keys[1:] != keys[:-1], True)[: len(keys)]) + 1
    from_end = np.repeat(ends, np.diff(ends, prepend=0)) - np.arange(len(keys))
    newest = np.empty(len(keys), bool)
    newest[order] = from_end <= limit
    return newest


def _ranges(stops: np.ndarray, counts: np.ndarray) -> np.ndarray | slice:
    """Row numbers of several ranges, one after the other."""
    if len(stops) == 1:
        return slice(int(stops[0]) - int(counts[0]), int(stops[0]))
    # Each range's offset to a running index, repeated for its rows.
    ends = counts.cumsum(dtype=np.int64)
    return np.arange(ends[-1]) + (stops - ends).repeat(counts)


def _width(values: np.ndarray) -> int:
    """Bytes a value that hold all of them."""
    size = (int(values.max()).bit_length() + 7) // 8
    return int(_WIDTHS[np.searchsorted(_WIDTHS, size)])


def _pack(values: np.ndarray, width: int) -> bytes:
    # Little-endian: the first `width` bytes of eight hold the value.
    raw = np.ascontiguousarray(values, "<i8").view("u1").reshape(-1, 8)
    return raw[:, :width].tobytes()


def _unpack(
    data: Buffer, offset: int, width: int, count: int, rows: np.ndarray | slice = _ALL
) -> np.ndarray:
    """Some rows of a column of `count` values, as unsigned integers."""
    if width in _DTYPES:
        return np.frombuffer(data, _DTYPES[width], count, offset)[rows]
    if width == 0:
        return np.zeros(count, "<u1")[rows]
    # No dtype has three bytes: four are read, of which the last belongs to the next value.
    overlapping: np.ndarray = np.ndarray(count, "<u4", data, offset, (width,))
    return overlapping[rows] & 0xFFFFFF
