"""Training, validation and test, by user or by time.

Splits are numbered as in `dgin_tf.records.SPLITS`: 0 train, 1 validation, 2 test.
"""

from collections.abc import Sequence

import numpy as np

from data_prep.stages.hashing import mix, stream, unit

TRAIN, VALIDATION, TEST = range(3)
HISTOGRAM_BINS = 1 << 16


def split_of_users(users: np.ndarray, fractions: Sequence[float], seed: int) -> np.ndarray:
    """Split of each user by a hash of the user and the seed, int8 [users]."""
    # Uniform in [0, 1), the same for a user in every run with this seed.
    position = unit(mix(users, stream(seed, "split")))
    boundaries = np.cumsum(fractions)[:-1] / np.sum(fractions)
    return np.searchsorted(boundaries, position, side="right").astype(np.int8)


def split_of_times(times: np.ndarray, cuts: Sequence[int]) -> np.ndarray:
    """Split of each second: before the first cut train, before the second validation, then test."""
    # A second equal to a cut belongs to the later split.
    split = np.zeros(len(times), np.int8)
    for cut in cuts:  # two comparisons are faster than a search
        split += times >= cut
    return split


def time_histogram(times: np.ndarray, first: int, last: int) -> np.ndarray:
    """Events in each of `HISTOGRAM_BINS` equal spans of [first, last], int64 [bins]."""
    return np.bincount((times - first) // _bin_seconds(first, last), minlength=HISTOGRAM_BINS)


def time_cuts(
    histogram: np.ndarray, first: int, last: int, fractions: Sequence[float]
) -> tuple[int, int]:
    """The two seconds at which validation and test begin.

    Args:
      histogram: of all events, as `time_histogram` counts them.
      first, last: the earliest and the latest event.
      fractions: of the events in train, validation and test; met to within one bin.
    """
    cumulative = np.cumsum(histogram)
    shares = np.cumsum(fractions)[:-1] / np.sum(fractions)
    # Whole events, at least one, so that a cut never lies before the first event.
    events = np.maximum(np.rint(shares * cumulative[-1]), 1)
    # End of the first bin at which the running sum reaches that many events.
    bins = np.searchsorted(cumulative, events, side="left") + 1
    train_end, validation_end = (first + int(b) * _bin_seconds(first, last) for b in bins)
    return train_end, validation_end


def _bin_seconds(first: int, last: int) -> int:
    return (last - first) // HISTOGRAM_BINS + 1
