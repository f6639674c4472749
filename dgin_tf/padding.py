"""Arrays of several lengths as one."""

from collections.abc import Sequence

import numpy as np


def stack_padded(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks arrays on a new first axis, each padded with zeros at the end of its axes.

    Args:
      arrays: at least one, of one type and number of axes.
    """
    shape = tuple(np.max([array.shape for array in arrays], axis=0))
    stacked = np.zeros((len(arrays), *shape), arrays[0].dtype)
    for place, array in zip(stacked, arrays, strict=True):
        place[tuple(slice(size) for size in array.shape)] = array
    return stacked
