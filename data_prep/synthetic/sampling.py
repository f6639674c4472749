"""Draws by popularity, and index arithmetic of groups that lie one after the other (CSR)."""

import numpy as np

from data_prep.synthetic.config import Catalogue


def csr_offsets(counts: np.ndarray) -> np.ndarray:
    """Offsets of groups of these sizes, [groups + 1]."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def group_members(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group of each member, and its number within the group, of groups of these sizes; each [members]."""
    group = np.repeat(np.arange(len(counts)), counts)
    return group, np.arange(len(group)) - np.repeat(csr_offsets(counts)[:-1], counts)


def draw_topics(
    catalogue: Catalogue, count: int, rng: np.random.Generator, consumable: bool | None
) -> np.ndarray:
    """Zipf draws among the browsing topics, the consumable ones, or all (None), [count]."""
    # Topics of consumables are the last ones.
    browsing = catalogue.browsing_categories * catalogue.topics_per_category
    topics = catalogue.categories * catalogue.topics_per_category
    low, high = {None: (0, topics), False: (0, browsing), True: (browsing, topics)}[consumable]
    return low + zipf_rank(rng.random(count), high - low, catalogue.topic_zipf)


def draw_items(catalogue: Catalogue, topic: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Inner number of the item that each uniform `draw` picks within its topic."""
    topics = catalogue.categories * catalogue.topics_per_category
    first_item = np.arange(topics + 1) * catalogue.items // topics  # items are dealt evenly
    return first_item[topic] + zipf_rank(draw, np.diff(first_item)[topic], catalogue.item_zipf)


def zipf_rank(uniform: np.ndarray, size: int | np.ndarray, exponent: float) -> np.ndarray:
    """Ranks from 0 below `size` with probability about (rank + 1)^-exponent.

    The inverse of the distribution function of x^-exponent on [1, size + 1), rounded down: exact,
    without a table, for any mixture of sizes.
    """
    if exponent == 1.0:
        # The limit of the formula below: F(x) = log x / log(size + 1).
        place = np.exp(uniform * np.log(np.asarray(size) + 1.0))
    else:
        # Inverse of F(x) = (x^power - 1) / ((size + 1)^power - 1).
        power = 1.0 - exponent
        place = (1.0 + uniform * ((np.asarray(size) + 1.0) ** power - 1.0)) ** (1.0 / power)
    return np.minimum(place.astype(np.int64) - 1, np.asarray(size) - 1)
