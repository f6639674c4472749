"""Deals events into buckets by a hash of the user, so that a bucket holds whole users."""

import numpy as np

from data_prep.events import USER
from data_prep.stages.hashing import mix
from data_prep.storage import Columns

_BUCKET_SEED = 0x6275636B6574  # apart from the run's seed: buckets shape files, not examples


def bucket_of(users: np.ndarray, buckets: int) -> np.ndarray:
    """Bucket of each user key, int [users] in [0, buckets)."""
    bits = mix(users, _BUCKET_SEED) >> np.uint64(32)
    # (bits * buckets) >> 32 is below `buckets`: a range reduction without division.
    return ((bits * np.uint64(buckets)) >> np.uint64(32)).astype(np.uint16)


def deal(columns: Columns, buckets: int) -> tuple[Columns, np.ndarray]:
    """Orders events by bucket and keeps their order within it.

    Returns:
      The columns, and where each bucket begins and ends in them, int64 [buckets + 1].
    """
    bucket = bucket_of(columns[USER], buckets)
    offsets = np.zeros(buckets + 1, np.int64)
    # [buckets + 1]
    np.cumsum(np.bincount(bucket, minlength=buckets), out=offsets[1:])
    if buckets == 1:
        return columns, offsets
    order = np.argsort(bucket, kind="stable")  # a radix sort for 16-bit keys
    return {name: column[order] for name, column in columns.items()}, offsets
