"""Numeric features of past events, such as dwell time or price, as integers (DGIN, Eq. 3), and buckets.

Records, indexes and batches hold codes: 0 for an unknown number and for padding, otherwise one more than
the number in thousandths. Zero is therefore not unknown, and means are those of the known numbers.

This module needs neither TensorFlow nor pandas.
"""

from collections.abc import Sequence

import numpy as np

from dgin_tf.schema import FIRST_ID, UNKNOWN_ID

PARTS = 1_000
LARGEST = 10**10  # the codes of a million events can be summed in int64
_LARGEST_MEAN = np.iinfo(np.int32).max


def encode_numbers(numbers: np.ndarray | float) -> np.ndarray:
    """Codes of numbers, int64 of the same shape; NaN, an unknown number, becomes 0.

    Raises:
      ValueError: a number is negative, or above `LARGEST`.
    """
    numbers = np.asarray(numbers, np.float64)
    is_known = ~np.isnan(numbers)
    if not np.all(is_encodable(numbers[is_known])):
        raise ValueError(
            f"numeric features must be from 0 to {LARGEST:,}; got {numbers[is_known].min()} to "
            f"{numbers[is_known].max()}."
        )
    codes = 1 + np.rint(PARTS * np.where(is_known, numbers, 0.0))
    return np.where(is_known, codes, 0).astype(np.int64)


def decode_numbers(codes: np.ndarray) -> np.ndarray:
    """Inverse of `encode_numbers`, float64 of the same shape; the code 0 becomes NaN."""
    codes = np.asarray(codes, np.int64)
    return np.where(codes > 0, (codes - 1) / PARTS, np.nan)


def bucket_ids(numbers: np.ndarray | float, boundaries: Sequence[float]) -> np.ndarray:
    """Ids of the buckets of numbers, int32 of the same shape; NaN, an unknown number, is unknown.

    Args:
      numbers: of any shape.
      boundaries: rising; a number that equals one is above it.
    """
    numbers = np.asarray(numbers, np.float64)
    ids = FIRST_ID + np.searchsorted(np.asarray(boundaries, np.float64), numbers, side="right")
    return np.where(np.isnan(numbers), UNKNOWN_ID, ids).astype(np.int32)


def is_encodable(numbers: np.ndarray) -> np.ndarray:
    """True for numbers that have a code, bool of the same shape; NaN has none."""
    return (numbers >= 0) & (numbers <= LARGEST)


def mean_codes(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Codes of means, rounded down, at most 2^31 - 1; 0 where no number is known.

    Args:
      sums: of codes, integers.
      counts: number of codes other than 0 in each sum, of the same shape.
    """
    # The mean of the thousandths is (sum - count) // count, one less than this.
    return np.minimum(sums // np.maximum(counts, 1), _LARGEST_MEAN).astype(np.int32)
