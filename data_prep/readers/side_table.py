"""Categories of items from a side file, as two sorted arrays."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pandas as pd

from data_prep.events import MISSING, check_names, id_keys


@dataclasses.dataclass(frozen=True)
class CategoryTable:
    """Item -> category by keys: twelve bytes an item and no Python object, so millions fit.

    Attributes:
      items: keys, rising and distinct, int64 [items].
      categories: keys, `MISSING` where the side file leaves the category empty, int64 [items].
      names: category key -> word; None where categories are integers.
    """

    items: np.ndarray
    categories: np.ndarray
    names: pd.Series | None

    @classmethod
    def build(cls, parts: Iterable[tuple[np.ndarray, pd.Series]]) -> "CategoryTable":
        """Joins (item keys, categories as words or integers); the first line of an item counts."""
        items, categories = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        names: list[pd.Series] = []
        for keys, values in parts:
            items.append(keys)
            if pd.api.types.is_integer_dtype(values.dtype):
                categories.append(values.to_numpy(np.int64))
            else:
                digests, words = id_keys(values)
                categories.append(digests)
                names.append(words)
        # `first` is the first line of each item, whatever order the sort leaves.
        distinct, first = np.unique(np.concatenate(items), return_index=True)
        return cls(
            distinct,
            np.concatenate(categories)[first],
            check_names(pd.concat(names)) if names else None,
        )

    def find(self, items: np.ndarray) -> np.ndarray:
        """Category keys of items by key, `MISSING` for items that the side file has not; [events]."""
        if not len(self.items):
            return np.full(len(items), MISSING, np.int64)
        # [events]; items beyond the last key are compared with it and differ.
        place = np.minimum(np.searchsorted(self.items, items), len(self.items) - 1)
        return np.where(self.items[place] == items, self.categories[place], MISSING)
