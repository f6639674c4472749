"""Counts raw ids and gives them dense ones: most frequent first, ties by raw value, from id 2.

Items and categories are counted together, as (item, category) pairs, in every bucket; the pairs of
all buckets then meet in ranges of item keys, small enough for one worker each. An item has one
category for good: the one that most of its events have (ties: the smallest), so that a positive and a
negative are never told apart by where their category came from.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_prep.events import MISSING
from data_prep.storage import Columns
from dgin_tf.schema import FIRST_ID, UNKNOWN_ID

_PACKED_BITS = 31
# A look-up table by raw value pays while it is at most this many times larger than what it holds.
_SPARSEST = 16


def count_pairs(items: np.ndarray, categories: np.ndarray, training: np.ndarray) -> Columns:
    """Counts the events of one bucket by item and category.

    Args:
      items, categories: raw keys of each event, int64 [events].
      training: whether the event counts for the vocabulary, bool [events].

    Returns:
      `item`, `category`, `events` and `training_events`, sorted by item and category.
    """
    codes, item_keys, category_keys = _pair_codes(items, categories)
    codes = (codes << 1) | training  # one sort for pairs and, within each, training events last
    codes.sort()
    starts = _run_starts(codes >> 1)
    pairs = codes[starts] >> 1
    item, category = pairs >> _PACKED_BITS, pairs & ((1 << _PACKED_BITS) - 1)
    return {
        "item": item if item_keys is None else item_keys[item],
        "category": (category if category_keys is None else category_keys[category]) + MISSING,
        "events": np.diff(np.append(starts, len(codes))),
        "training_events": _sums(codes & 1, starts),
    }


def merge_pairs(parts: Sequence[Columns]) -> Columns:
    """Joins the pair counts of several buckets and decides each item's category.

    Returns:
      `item` (rising), `category`, `events`, `training_events` and `categories` (how many different
      ones the item's events had), [items].
    """
    pairs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    # [pairs of all buckets], by item, then category.
    order = np.argsort(_pair_codes(pairs["item"], pairs["category"])[0])
    pairs = {name: column[order] for name, column in pairs.items()}
    same = np.zeros(len(order), bool)
    same[1:] = pairs["item"][1:] == pairs["item"][:-1]
    same[1:] &= pairs["category"][1:] == pairs["category"][:-1]
    # One row for each distinct pair, then one for each item.
    starts = np.flatnonzero(~same)
    item, category = pairs["item"][starts], pairs["category"][starts]
    events, training = _sums(pairs["events"], starts), _sums(pairs["training_events"], starts)
    item_starts = _run_starts(item)
    categories = np.diff(np.append(item_starts, len(item)))
    return {
        "item": item[item_starts],
        "category": category[_most_frequent(events, item_starts, categories)],
        "events": _sums(events, item_starts),
        "training_events": _sums(training, item_starts),
        "categories": categories,
    }


def _most_frequent(events: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Index of the first of the largest values in each run, int64 [runs]."""
    best = starts.copy()
    # np.argmax returns the first of equal counts: the smallest category.
    for run in np.flatnonzero(sizes > 1):
        best[run] += np.argmax(events[starts[run] : starts[run] + sizes[run]])
    return best


def range_boundaries(samples: np.ndarray, ranges: int) -> np.ndarray:
    """Item keys that cut a sample of all keys into `ranges` equal parts, int64 [ranges - 1]."""
    samples = np.sort(samples)
    return samples[(np.arange(1, ranges) * len(samples)) // ranges]


def frequency_order(counts: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Rows by falling count, ties by rising name (integers), int64 [rows]."""
    # Rises as counts fall, so that one ascending sort serves both keys.
    rarity = np.max(counts, initial=0) - np.asarray(counts, np.int64)
    name_bits = int(np.max(names, initial=0)).bit_length()
    rarity_bits = int(np.max(rarity, initial=0)).bit_length()
    if np.min(names, initial=0) < 0 or name_bits + rarity_bits > 63:
        return np.lexsort((names, rarity))
    return np.argsort((rarity << name_bits) | names)  # several times faster, and names differ


def dense_ids(order: np.ndarray, size: int) -> np.ndarray:
    """Id of each of `size` rows: `FIRST_ID` + its place in `order`, out-of-vocabulary if not there."""
    ids = np.full(size, UNKNOWN_ID, np.int32)
    ids[order] = np.arange(FIRST_ID, FIRST_ID + len(order), dtype=np.int32)
    return ids


@dataclasses.dataclass(frozen=True)
class Lookup:
    """Finds the row of a raw key among sorted distinct keys.

    Where the keys are close together (Taobao's item ids), the row is read from a table by key;
    otherwise it is searched for.

    Attributes:
      keys: rising, int64 [rows].
      table: row of each possible key or -1, int32 [largest key + 1], or None.
    """

    keys: np.ndarray
    table: np.ndarray | None

    @classmethod
    def build(cls, keys: np.ndarray) -> "Lookup":
        largest = int(keys[-1]) if len(keys) else 0
        if not len(keys) or keys[0] < 0 or largest > _SPARSEST * len(keys) + 1024:
            return cls(keys, None)
        # [largest key + 1]: row by key, in one look-up.
        table = np.full(largest + 1, -1, np.int32)
        table[keys] = np.arange(len(keys), dtype=np.int32)
        return cls(keys, table)

    def rows(self, raw: np.ndarray) -> np.ndarray:
        """Row of each raw key, -1 where it is not among the keys, int [keys]."""
        if not len(self.keys):
            return np.full(len(raw), -1, np.int32)
        if self.table is not None:
            inside = (raw >= 0) & (raw < len(self.table))
            if inside.all():
                return self.table[raw]
            return np.where(inside, self.table[np.where(inside, raw, 0)], np.int32(-1))
        # Keys are far apart: binary search instead.
        rows = np.searchsorted(self.keys, raw)
        rows[rows == len(self.keys)] = 0
        return np.where(self.keys[rows] == raw, rows, -1)


def _pair_codes(
    items: np.ndarray, categories: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """One number of 62 bits a pair that sorts as the pairs do, and the keys behind its halves."""
    item_codes, item_keys = _codes(items)
    category_codes, category_keys = _codes(categories - MISSING)
    return (item_codes << _PACKED_BITS) | category_codes, item_keys, category_keys


def _codes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Values as numbers below 2**31, and the values by number where they are not the same."""
    if not len(values) or (values.min() >= 0 and int(values.max()) < 1 << _PACKED_BITS):
        return values.astype(np.int64), None
    keys, codes = np.unique(values, return_inverse=True)
    return codes.astype(np.int64), keys


def _run_starts(values: np.ndarray) -> np.ndarray:
    """Index of the first of each run of equal values."""
    if not len(values):
        return np.zeros(0, np.int64)
    return np.append(0, np.flatnonzero(values[1:] != values[:-1]) + 1)


def _sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sum of each run that begins at `starts`, int64."""
    if not len(starts):
        return np.zeros(0, np.int64)
    return np.add.reduceat(values.astype(np.int64), starts)
