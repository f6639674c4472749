"""The parts of training batches: how many rows of each length make a fair sample of all rows."""

import math
from collections.abc import Mapping, Sequence

import numpy as np


def plan_parts(
    shard_rows: Mapping[int, Sequence[int]], batch_rows: int, multiple: int = 1
) -> tuple[int, dict[int, int]]:
    """Deals rows to the fewest batches of which each has rows of every length in proportion.

    Rows of a batch are of one shard, so that a shard's last batch may have fewer.

    Args:
      shard_rows: length of history -> rows of each shard of that length.
      batch_rows: rows of a batch at most.
      multiple: of which the rows of every length are one, for as many replicas.

    Returns:
      Number of batches, and length -> rows of a batch.

    Raises:
      ValueError: a batch has fewer rows than there are lengths.
    """
    if batch_rows < multiple * len(shard_rows):
        raise ValueError(
            f"expected {multiple} rows for each of {len(shard_rows)} lengths in a batch; got "
            f"{batch_rows} rows."
        )

    def sizes(steps):
        return {
            length: multiple * math.ceil(_smallest_batch(rows, steps) / multiple)
            for length, rows in shard_rows.items()
        }

    low = max(
        math.ceil(sum(map(sum, shard_rows.values())) / batch_rows),
        *(len(rows) for rows in shard_rows.values()),
    )
    high = max(low, *(sum(rows) for rows in shard_rows.values()))
    while low < high:  # more batches are smaller ones
        middle = (low + high) // 2
        if sum(sizes(middle).values()) <= batch_rows:
            high = middle
        else:
            low = middle + 1
    return low, sizes(low)


def merge_lengths(lengths: Sequence[int], count: int) -> dict[int, int]:
    """Length -> length that its rows are padded to, `count` different ones at most.

    The shortest are padded to the next ones, where a row of padding costs least.
    """
    lengths = sorted(lengths)
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
