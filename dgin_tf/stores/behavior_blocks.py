"""One user's branch of the behaviour tree as a block of bytes: key -> that key's events.

SIM (Pi et al., 2020) keeps, for each user and each category, the list of past behaviours. A block
holds one user's lists side by side, in rising order of the key, as columns of unsigned integers in
the fewest bytes that hold the largest of the user's values (frame of reference coding):

    number of lists                              four bytes
    width of every column                        one byte each
    the first second of every column of seconds  eight bytes each
    columns: keys and lengths of the lists, then the events' attributes

An id is stored as it is and a time as its difference to the user's first one. Coding differences of
neighbours would save about another byte an event, but then a list could only be read from its
beginning; here any lists of a block are gathered at once, without a loop. An attribute that is the
same in a whole list, as the category in DGIN's lists by item, is stored once a list. The key itself
is not stored a second time.

Events of one second keep their order: their rank within the second is a column too, which takes no
bytes for a user who has no two events in one second.
"""

import dataclasses
import mmap
import struct
from collections.abc import Mapping

import numpy as np

from dgin_tf.schema import HISTORY, Schema

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


class BlockCodec:
    """Blocks of one schema and key.

    Args:
      schema: its history fields are the attributes of events; `timestamp` must be one of them.
      key: the categorical history field that tells a user's lists apart.

    Raises:
      ValueError: there is no such key, or no timestamp.
    """

    def __init__(self, schema: Schema, key: str):
        history = schema.with_role(HISTORY)
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
          max_events_per_key: of every list the newest so many are kept.
        """
        keys = np.asarray(events[self.key])
        if not len(keys):
            return b""
        rank = rank_in_second(np.asarray(events[TIME]))
        rows = np.argsort(keys, kind="stable")
        rows = rows[newest_per_key(keys[rows], max_events_per_key)]
        keys = keys[rows]
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        lengths = np.diff(np.append(starts, len(keys)))
        bases = {name: int(np.min(events[name])) for name in self._seconds}
        widths, columns = bytearray(), []
        for values in (keys[starts], lengths):
            width = _width(values)
            widths.append(width)
            columns.append(_pack(values, width))
        for values in (rank, *(events[n] - np.int64(bases.get(n, 0)) for n in self._columns)):
            values = values[rows]
            width, per_list = _width(values), 0
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

    def select(self, data: Buffer, begin: int, wanted: np.ndarray) -> Selection:
        """Events under some keys of the block at offset `begin` of `data`.

        Args:
          data: the blocks, as a buffer.
          begin: where the user's block starts.
          wanted: rising keys, each once, [keys]; those that the user lacks give nothing.
        """
        (lists,) = _LISTS.unpack_from(data, begin)
        offset = begin + _LISTS.size
        key_width, length_width, *widths = data[offset : offset + self._widths]
        bases = self._bases.unpack_from(data, offset + self._widths)
        offset = begin + self._header
        keys = _unpack(data, offset, key_width, lists)
        offset += lists * key_width
        lengths = _unpack(data, offset, length_width, lists)
        ends = lengths.cumsum(dtype=np.int64)
        offset += lists * length_width
        found = keys.searchsorted(wanted)
        found = found[keys.take(found, mode="clip") == wanted]
        if not len(found):
            return Selection(self.empty(), np.zeros(0, np.int64))
        total, counts = int(ends[-1]), lengths[found]
        rows = _ranges(ends[found], counts)
        columns = []
        for width in widths:
            if width & _PER_LIST:
                width ^= _PER_LIST
                columns.append(_unpack(data, offset, width, lists, found).repeat(counts))
                offset += lists * width
            else:
                columns.append(_unpack(data, offset, width, total, rows))
                offset += total * width
        rank, *values = columns
        events = {self.key: keys[found].repeat(counts).astype(self.dtypes[self.key])}
        for name, column in zip(self._columns, values, strict=True):
            events[name] = column.astype(self.dtypes[name])
        for name, base in zip(self._seconds, bases, strict=True):
            events[name] += base
        return Selection(events, rank)


def rank_in_second(times: np.ndarray) -> np.ndarray:
    """How many events of the same second came before each, for rising times, [events]."""
    row = np.arange(len(times))
    new = np.append(True, times[1:] != times[:-1])[: len(times)]
    return row - np.maximum.accumulate(np.where(new, row, 0))


def newest_per_key(keys: np.ndarray, limit: int) -> np.ndarray:
    """Mask of the last `limit` events of each key, for keys in any order, bool [events]."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)[: len(keys)]) + 1
    from_end = np.repeat(ends, np.diff(ends, prepend=0)) - np.arange(len(keys))
    newest = np.empty(len(keys), bool)
    newest[order] = from_end <= limit
    return newest


def _ranges(stops: np.ndarray, counts: np.ndarray) -> np.ndarray | slice:
    """Row numbers of several ranges, one after the other."""
    if len(stops) == 1:
        return slice(int(stops[0]) - int(counts[0]), int(stops[0]))
    ends = counts.cumsum(dtype=np.int64)
    return np.arange(ends[-1]) + (stops - ends).repeat(counts)


def _width(values: np.ndarray) -> int:
    """Bytes a value that hold all of them."""
    needed = (int(values.max()).bit_length() + 7) // 8
    return int(_WIDTHS[np.searchsorted(_WIDTHS, needed)])


def _pack(values: np.ndarray, width: int) -> bytes:
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
    overlapping: np.ndarray = np.ndarray(count, "<u4", data, offset, (width,))  # four bytes each
    return overlapping[rows] & 0xFFFFFF
