"""Amounts that past events have, such as how long somebody stayed or what was paid (DGIN, Eq. 3).

Records, indexes and batches hold them as integers: 0 where an event has none, which is also what padding
has, and otherwise one more than the amount in thousandths. An amount of zero is therefore not an unknown
one, and means are of what is known.

This module needs neither TensorFlow nor pandas.
"""

import numpy as np

PARTS = 1_000
LARGEST = 10**10  # a million events of it can be added up in int64
_LARGEST_MEAN = np.iinfo(np.int32).max


def stored_amounts(amounts: np.ndarray | float) -> np.ndarray:
    """Amounts as they are stored, int64 of the same shape; NaN, an unknown one, becomes 0.

    Raises:
      ValueError: an amount is negative, or above `LARGEST`.
    """
    amounts = np.asarray(amounts, np.float64)
    known = ~np.isnan(amounts)
    if not np.all(is_amount(amounts[known])):
        raise ValueError(
            f"amounts must be from 0 to {LARGEST:,}; got {amounts[known].min()} to "
            f"{amounts[known].max()}."
        )
    return np.where(known, 1 + np.rint(PARTS * np.where(known, amounts, 0.0)), 0).astype(np.int64)


def is_amount(values: np.ndarray) -> np.ndarray:
    """Which numbers can be stored, bool of the same shape; an unknown amount is none."""
    return (values >= 0) & (values <= LARGEST)


def mean_amounts(sums: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Means of stored amounts as they are stored, rounded down; 0 where none is known, at most 2^31 - 1.

    Args:
      sums: of stored amounts, integers.
      known: how many of them are not 0, of the same shape.
    """
    # The mean of the thousandths is (sum - known) // known, one less than this.
    return np.minimum(sums // np.maximum(known, 1), _LARGEST_MEAN).astype(np.int32)
