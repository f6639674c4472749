"""Draws negatives: uniformly or by popularity, never among what the user has (or never the positive),
or from what the user had and left behind.

Every draw is a hash of (seed, user, target, number of the negative, attempt), so that it does not
depend on the bucket or the worker that makes it. Draws are with replacement: a user may meet one
negative at two targets.
"""

import dataclasses

import numpy as np

from data_prep.stages.hashing import mix, stream, unit

_ATTEMPTS = 64
_NONE = -1


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Draws items 0 .. size - 1.

    Attributes:
      size: number of items.
      cumulative: running sum of the items' weights, [items]; None draws uniformly.
    """

    size: int
    cumulative: np.ndarray | None = None

    @classmethod
    def by_weight(cls, weights: np.ndarray) -> "Sampler":
        return cls(len(weights), np.cumsum(weights, dtype=np.int64))

    def pick(self, bits: np.ndarray) -> np.ndarray:
        """Turns uniform uint64 hashes into items, int64 [draws]."""
        # Without weights the upper 32 bits are scaled to [0, size), without a division.
        if self.cumulative is None:
            return ((bits >> np.uint64(32)) * np.uint64(self.size) >> np.uint64(32)).astype(
                np.int64
            )
        mass = np.floor(unit(bits) * self.cumulative[-1]).astype(np.int64)
        return np.searchsorted(self.cumulative, mass, side="right")

    def among(self, items: np.ndarray, bits: np.ndarray) -> int:
        """Picks one of `items`, or `_NONE` where none of them has any weight."""
        sampler = Sampler(len(items))
        if self.cumulative is not None:
            weights = np.diff(self.cumulative, prepend=0)[items]
            items, weights = items[weights > 0], weights[weights > 0]
            sampler = Sampler.by_weight(weights)
        return int(items[sampler.pick(bits)[0]]) if len(items) else _NONE


def target_seeds(users: np.ndarray, events: np.ndarray, seed: int) -> np.ndarray:
    """Seeds of the random numbers of each target, uint64 [targets].

    Args:
      users: key of the target's user, int64 [targets].
      events: index of the target in the user's history, int64 [targets].
      seed: of the run.
    """
    return mix(mix(users, stream(seed, "negatives")) ^ mix(events, stream(seed, "target")), 0)


def draw_negatives(
    seeds: np.ndarray,
    groups: np.ndarray,
    forbidden: tuple[np.ndarray, np.ndarray],
    sampler: Sampler,
    negatives: int,
) -> np.ndarray:
    """Draws `negatives` items for each target.

    Args:
      seeds: of the targets, uint64 [targets].
      groups: which forbidden items hold for each target, int64 [targets].
      forbidden: pairs (group, item) that must not be drawn, two int64 arrays [pairs].
      sampler: draws from items 0 .. size - 1.
      negatives: how many per target.

    Returns:
      Items, int64 [targets, negatives]; -1 where every item is forbidden.
    """
    # All draws side by side, [targets * negatives]; `base` is a random stream for each.
    rows = np.repeat(groups, negatives)
    base = mix(np.repeat(seeds, negatives) ^ mix(np.tile(np.arange(negatives), len(seeds)), 1), 2)
    forbidden_pairs = np.sort(pack(*forbidden))
    items = np.full(len(rows), _NONE, np.int64)
    # Draws without a valid item yet; nearly all are done after the first attempt.
    open_draws = np.arange(len(rows)) if sampler.size else np.zeros(0, np.int64)
    for attempt in range(_ATTEMPTS):
        if not len(open_draws):
            break
        sample = sampler.pick(mix(base[open_draws], attempt))
        collides = _contains(forbidden_pairs, pack(rows[open_draws], sample))
        items[open_draws[~collides]] = sample[~collides]
        open_draws = open_draws[collides]
    # Users with events of nearly every item: pick among the items that are left.
    for draw in open_draws:
        # Pairs sort by row first, so those of this row lie between two bounds.
        first, last = np.searchsorted(forbidden_pairs, pack(rows[draw] + np.arange(2), 0))
        others = np.setdiff1d(np.arange(sampler.size), forbidden_pairs[first:last] & 0xFFFFFFFF)
        items[draw] = sampler.among(others, mix(base[draw : draw + 1], _ATTEMPTS))
    return items.reshape(len(seeds), negatives)


def draw_own(
    seeds: np.ndarray,
    cuts: tuple[np.ndarray, np.ndarray],
    item: np.ndarray,
    newest: np.ndarray,
    share: float,
    negatives: int,
) -> np.ndarray:
    """Draws some of the negatives from items that the user left behind, by event.

    Args:
      seeds: of the targets, uint64 [targets].
      cuts: the user's first event, and the first event that the target must not see, as rows of the
        events, two int64 arrays [targets].
      item: item of every event, negative where it cannot be drawn, int64 [events].
      newest: row of the newest event of the same user and item, int64 [events].
      share: of the negatives that are drawn so, between 0 and 1.
      negatives: how many per target.

    Returns:
      Items of events before the cut that no event from the cut on has, int64 [targets, negatives];
      -1 for the others, and where there is none.
    """
    first, end = (np.repeat(rows, negatives) for rows in cuts)
    number = np.tile(np.arange(negatives), len(seeds))
    base = mix(np.repeat(seeds, negatives) ^ mix(number, 3), 4)
    items = np.full(len(base), _NONE, np.int64)
    # A share of the draws, of users with any event before the cut.
    open_draws = np.flatnonzero((unit(mix(base, _ATTEMPTS)) < share) & (end > first))
    for attempt in range(_ATTEMPTS):
        if not len(open_draws):
            break
        reach = end[open_draws] - first[open_draws]
        place = np.floor(unit(mix(base[open_draws], attempt)) * reach).astype(np.int64)
        # Uniform over the events before the cut, so frequent items come up more often.
        event = first[open_draws] + place
        fits = (newest[event] < end[open_draws]) & (item[event] >= 0)
        items[open_draws[fits]] = item[event[fits]]
        open_draws = open_draws[~fits]
    return items.reshape(len(seeds), negatives)


def newest_of_item(owner: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Row of the newest event of the same user and item as each event, int64 [events].

    Args:
      owner, item: row of the user, rising, and item of every event, int64 [events]; a user's events
        are sorted by time.
    """
    _, codes = np.unique(pack(owner, item), return_inverse=True)
    newest = np.zeros(len(codes), np.int64)
    newest[codes] = np.arange(len(codes))  # the last of several assignments stays
    return newest[codes]


def pack(rows: np.ndarray, items: np.ndarray | int) -> np.ndarray:
    """One int64 for each (row, item) pair."""
    # Rows and items are below 2^31.
    return (np.asarray(rows, np.int64) << 32) | items


def _contains(sorted_values: np.ndarray, values: np.ndarray) -> np.ndarray:
    """True for values that are among the sorted ones, bool [values]."""
    if not len(sorted_values):
        return np.zeros(len(values), bool)
    place = np.searchsorted(sorted_values, values)
    place[place == len(sorted_values)] = 0
    return sorted_values[place] == values
