"""The parts of training batches: how many rows of each length make a fair sample of all rows.

Shards are dealt to streams, each of rows that are alike in length, and every batch takes its rows from
all streams in proportion. Streams that are padded to the same length are a part of the batch.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

_FEWEST_ROWS = (
    2  # of a stream in a batch, on average; as rows are rounded up, fewer are half padding
)


def plan_streams(
    bucket_rows: Mapping[int, int], longest: int, batch_rows: int
) -> list[tuple[int, ...]]:
    """Divides buckets of lengths into streams, of which each is a bucket if it has enough rows.

    Args:
      bucket_rows: longest history of a bucket -> its rows.
      longest: events at which histories are cut, so that all longer ones are alike.
      batch_rows: rows of a batch.

    Returns:
      The buckets of each stream, in rising order.
    """
    buckets = sorted(bucket_rows)
    reaching = [bucket for bucket in buckets if bucket >= longest]
    # Of the first bucket that reaches `longest` some histories are shorter, of all others none.
    streams: list[tuple[int, ...]] = [(b,) for b in buckets if b not in reaching[1:]]
    if reaching[1:]:
        streams.append(tuple(reaching[1:]))
    total = max(sum(bucket_rows.values()), 1)

    def rows(stream):
        return batch_rows * sum(bucket_rows[bucket] for bucket in stream) / total

    while len(streams) > 1 and min(map(rows, streams)) < _FEWEST_ROWS:
        rarest = min(range(len(streams)), key=lambda i: rows(streams[i]))
        neighbors = [i for i in (rarest - 1, rarest + 1) if 0 <= i < len(streams)]
        first = min(rarest, min(neighbors, key=lambda i: rows(streams[i])))
        streams[first : first + 2] = [streams[first] + streams[first + 1]]
    return streams


def plan_parts(
    streams: Sequence[Sequence[int]],
    lengths: Sequence[int],
    batch_rows: int,
    multiple: int = 1,
) -> tuple[int, list[int]]:
    """Deals rows to the fewest batches of which each has rows of every stream in proportion.

    Rows that a stream gives to a batch are of one shard, so that a shard's last ones may be fewer.

    Args:
      streams: rows of each shard of a stream.
      lengths: of each stream the length that its rows are padded to; those of one length are a part.
      batch_rows: rows of a batch at most.
      multiple: of which the rows of every part are one, for as many replicas.

    Returns:
      Number of batches, and rows of each stream in a batch.

    Raises:
      ValueError: a batch has too few rows for all streams.
    """

    def sizes(steps):
        counts = [_smallest_batch(rows, steps) for rows in streams]
        for length in set(lengths):
            members = [i for i, other in enumerate(lengths) if other == length]
            largest = max(members, key=lambda i: counts[i])
            counts[largest] += -sum(counts[i] for i in members) % multiple
        return counts

    low = max(
        math.ceil(sum(map(sum, streams)) / batch_rows),
        *(len(rows) for rows in streams),
    )
    high = max(low, *(sum(rows) for rows in streams))
    if sum(sizes(high)) > batch_rows:
        raise ValueError(
            f"expected batches of at least {sum(sizes(high))} rows, {multiple} for each of "
            f"{len(set(lengths))} lengths; got {batch_rows}."
        )
    while low < high:  # more batches are smaller ones
        middle = (low + high) // 2
        if sum(sizes(middle)) <= batch_rows:
            high = middle
        else:
            low = middle + 1
    return low, sizes(low)


def merge_lengths(lengths: Sequence[int], count: int) -> dict[int, int]:
    """Length -> length that its rows are padded to, `count` different ones at most.

    The shortest are padded to the next ones, where a row of padding costs least.
    """
    lengths = sorted(set(lengths))
    first = lengths[max(len(lengths) - count, 0)]
    return {length: max(length, first) for length in lengths}


def spread(count: int, places: int) -> np.ndarray:
    """`count` things dealt to places as evenly as can be, int [places]."""
    return np.diff(count * np.arange(places + 1) // places)


def _smallest_batch(rows: Sequence[int], steps: int) -> int:
    """The fewest rows of a batch such that no more than `steps` batches hold all shards' rows."""
    size = math.ceil(sum(rows) / steps)
    while sum(math.ceil(count / size) for count in rows) > steps:
        size += 1
    return size
