"""Turns the histories and candidates of a bucket into records, grouped by split and history length."""

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np

from data_prep.stages.examples import Candidates
from data_prep.stages.hashing import mix
from data_prep.stages.histories import Histories
from data_prep.storage import Columns
from dgin_tf.records import LABEL, POSITION, SPLITS, RecordPacker
from dgin_tf.schema import CANDIDATE, CONTEXT, HISTORY, USER, Schema, feature_name
from dgin_tf.whole_histories import LENGTHS

SHARD_USERS = 8192
SHARD_BYTES = 32 << 20
_RECORD_OVERHEAD = 512  # names and lengths of a record's features, about
_ORDER_SEED = 0x6F72646572
_CODE = {"int32": "i4", "int64": "i8", "float32": "f4"}


@dataclasses.dataclass(frozen=True)
class Group:
    """The records of one file: of one split, with histories of about one length.

    Attributes:
      split: number of the split.
      bucket: every stored history has at most this many events.
      records: their rows in the bucket's `Layout`, int64 [users].
    """

    split: int
    bucket: int
    records: np.ndarray


@dataclasses.dataclass(frozen=True)
class Layout:
    """Rows of each record's events and candidates.

    Attributes:
      split, user: of each record, [records].
      first_event, last_event: its stored history as rows of `Histories.events`, the last excluded.
      first_candidate, last_candidate: its candidates, the last excluded.
      position: `cand_position` of every candidate, counted from the first stored event.
      rows, widest_row: batch rows of each record, and the candidates of the widest one.
    """

    split: np.ndarray
    user: np.ndarray
    first_event: np.ndarray
    last_event: np.ndarray
    first_candidate: np.ndarray
    last_candidate: np.ndarray
    position: np.ndarray
    rows: np.ndarray
    widest_row: np.ndarray

    @property
    def history_lengths(self) -> np.ndarray:
        return self.last_event - self.first_event


def plan_records(
    histories: Histories, candidates: Candidates, max_history: int, row_width: int = 0
) -> Layout:
    """Decides what each record stores.

    The stored history ends at the record's largest cut. With `max_history` it begins that many events
    before the smallest cut, so that every candidate still sees that many.

    Args:
      histories: of the bucket.
      candidates: of the bucket, ordered by split, user and cut.
      max_history: 0 keeps everything.
      row_width: candidates that a row may have at most; 0 sets no limit.
    """
    starts = candidates.group_starts()
    ends = np.append(starts, len(candidates))[1:]
    user, cut = candidates.target.user[starts], candidates.target.cut
    # Candidates of a record rise by cut: [records].
    smallest, largest = cut[starts], cut[ends - 1]
    # Events that the record leaves out, the user's oldest, [records].
    offset = np.maximum(smallest - max_history, 0) if max_history else np.zeros_like(smallest)
    begin = histories.offsets[user]
    row_starts = candidates.row_starts(row_width)
    # Record of each row, [rows].
    row_record = np.searchsorted(starts, row_starts, side="right") - 1
    widths = np.diff(np.append(row_starts, len(candidates)))
    widest = np.zeros(len(starts), np.int64)
    np.maximum.at(widest, row_record, widths)
    return Layout(
        split=candidates.target.split[starts],
        user=user,
        first_event=begin + offset,
        last_event=begin + largest,
        first_candidate=starts,
        last_candidate=ends,
        position=(cut - np.repeat(offset, ends - starts)).astype(np.int32),
        rows=np.bincount(row_record, minlength=len(starts)),
        widest_row=widest,
    )


def plan_tails(histories: Histories, layout: Layout, max_history: int) -> Layout:
    """Decides what lies behind the newest record of each user, so that with it a history is whole.

    Args:
      histories: of the bucket.
      layout: of the records.
      max_history: newest events of whole histories, as many as a target after all of them would see; 0 for
        all. It matters for users without a record alone.

    Returns:
      One record for each user, whose `split` is the place in `HEADS` of the record that it continues.
    """
    first, last = histories.offsets[:-1].copy(), histories.offsets[1:]
    if max_history:
        first = np.maximum(first, last - max_history)
    head = np.full(len(histories.users), len(SPLITS), np.int64)
    # Of a user's records the one that ends last counts, and of several the later split's: assigned last.
    order = np.lexsort((layout.split, layout.last_event))
    head[layout.user[order]] = layout.split[order]
    first[layout.user[order]] = layout.last_event[order]
    none = np.zeros(len(histories.users), np.int64)
    return Layout(
        split=head,
        user=np.arange(len(histories.users)),
        first_event=first,
        last_event=last,
        first_candidate=none,
        last_candidate=none,
        position=np.zeros(0, np.int32),
        rows=none,
        widest_row=none,
    )


def group_records(layout: Layout, users: np.ndarray, sizes: np.ndarray) -> list[Group]:
    """Sorts records by split and history length and deals them to files.

    A file is read whole and is the unit of shuffling: it has at most `SHARD_USERS` records and about
    `SHARD_BYTES` (a longer record has a file of its own), in the order of a hash of the user, because
    neighboring ids often belong to similar users.

    Args:
      layout: of the bucket.
      users: key of each record's user, int64 [records].
      sizes: bytes of each record, int64 [records].
    """
    bucket = np.searchsorted(LENGTHS, layout.history_lengths)
    order = np.argsort(mix(users, _ORDER_SEED), kind="stable")
    groups = []
    for split in np.unique(layout.split):
        for number in np.unique(bucket[layout.split == split]):
            is_member = (layout.split == split) & (bucket == number)
            records = order[is_member[order]]
            for part in _parts(sizes[records]):
                groups.append(Group(int(split), LENGTHS[number], records[part]))
    return groups


def _parts(sizes: np.ndarray) -> Iterator[slice]:
    """Cuts records into runs that keep to both limits of a file."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        # First record at which the file would be larger than `SHARD_BYTES`.
        full = int(np.searchsorted(ends, ends[start] - sizes[start] + SHARD_BYTES, side="right"))
        stop = max(min(full, start + SHARD_USERS), start + 1)
        yield slice(start, stop)
        start = stop


@dataclasses.dataclass(frozen=True)
class RecordColumns:
    """The bytes of all features, to be sliced record by record.

    Attributes:
      history: feature -> ids, seconds or numbers, each user's oldest first, [events, ...].
      candidate: feature -> values of every candidate and of its request, [candidates, ...].
      user: feature -> ids or numbers of every user, [users, ...].
    """

    history: Mapping[str, np.ndarray]
    candidate: Mapping[str, np.ndarray]
    user: Mapping[str, np.ndarray]


def record_columns(
    schema: Schema, history: Columns, candidate: Columns, user: Columns
) -> RecordColumns:
    """Names the columns as the schema's features.

    Args:
      schema: of the data set.
      history: field -> values, each user's oldest first, [events].
      candidate: field -> values, and `cand_position` and `label`, [candidates].
      user: field -> values, [users].
    """

    def named(role: str, columns: Columns) -> Columns:
        return {
            feature_name(role, field): np.ascontiguousarray(
                columns[field.name], f"<{_CODE[field.dtype]}"
            )
            for field in schema.with_role(role)
        }

    candidates = named(CANDIDATE, candidate) | named(CONTEXT, candidate)
    for name in (POSITION, LABEL):
        candidates[name] = candidate[name].astype("<i4")
    return RecordColumns(named(HISTORY, history), candidates, named(USER, user))


def record_sizes(layout: Layout, columns: RecordColumns) -> np.ndarray:
    """Bytes that each record takes in a file, about, int64 [records]."""
    # Bytes of one event and of one candidate.
    event, candidate = (
        sum(map(_row_bytes, features.values())) for features in (columns.history, columns.candidate)
    )
    candidates = layout.last_candidate - layout.first_candidate
    return _RECORD_OVERHEAD + layout.history_lengths * event + candidates * candidate


def pack_records(layout: Layout, records: np.ndarray, columns: RecordColumns) -> Iterator[bytes]:
    """Yields the serialized records of some rows of the layout."""
    # (features, first row, row after the last) of each record, [records] each.
    spans = (
        (columns.user, layout.user, layout.user + 1),
        (columns.history, layout.first_event, layout.last_event),
        (columns.candidate, layout.first_candidate, layout.last_candidate),
    )
    # Per feature: its bytes, and where each record's part begins and ends in them.
    parts = [
        (
            name,
            column.data.cast("B") if len(column) else memoryview(b""),
            (first[records] * _row_bytes(column)).tolist(),
            (last[records] * _row_bytes(column)).tolist(),
        )
        for features, first, last in spans
        for name, column in features.items()
    ]
    pack = RecordPacker([name for name, *_ in parts])
    for record in range(len(records)):
        yield pack([data[first[record] : last[record]] for _, data, first, last in parts])


def _row_bytes(column: np.ndarray) -> int:
    """Bytes of one value, which may be several ids."""
    return column.itemsize * math.prod(column.shape[1:])
