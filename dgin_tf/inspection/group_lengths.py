"""Lengths of histories before and after grouping (DGIN, figure 1)."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dgin_tf.group_spec import SESSION, SESSION_GAP
from dgin_tf.records import POSITION
from dgin_tf.schema import HISTORY, PREFIX

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
SIZE_EDGES = (1, 2, 3, 6, 11, 51)


@dataclasses.dataclass(frozen=True)
class GroupLengths:
    """Lengths before and after grouping.

    Attributes:
      events: of each sample's history, [samples].
      groups: that these events fall into, [samples].
      sizes: events in each group of each user's whole history, [groups].
    """

    events: np.ndarray
    groups: np.ndarray
    sizes: np.ndarray


def interest_keys(record: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    """Interest key of every event of a record, [time].

    Args:
      record: a user's arrays, as `dgin_tf.records.decode_record` gives them.
      key: a history field such as `item_id` or `category_id`, or `session`.

    Raises:
      ValueError: the record's events have no such field.
    """
    name = PREFIX[HISTORY] + ("timestamp" if key == SESSION else key)
    if name not in record:
        fields = sorted(
            n.removeprefix(PREFIX[HISTORY]) for n in record if n.startswith(PREFIX[HISTORY])
        )
        raise ValueError(f"expected a key among {fields} or {SESSION!r}; got {key!r}.")
    if key == SESSION:
        return np.cumsum(np.diff(record[name], prepend=record[name][:1]) > SESSION_GAP)
    return record[name]


def measure(records: Iterable[Mapping[str, np.ndarray]], key: str) -> GroupLengths:
    """Counts events and groups of every sample: of every history cut of every record.

    Args:
      records: users' arrays.
      key: as for `interest_keys`.

    Raises:
      ValueError: there are no records, or no such field.
    """
    events, groups, sizes = [], [], []
    for record in records:
        keys = interest_keys(record, key)
        _, first, counts = np.unique(keys, return_index=True, return_counts=True)
        is_first = np.zeros(len(keys) + 1, np.int64)  # of its group, [1 + time]
        is_first[first + 1] = 1
        cuts = np.unique(record[POSITION])
        events.append(cuts)
        groups.append(np.cumsum(is_first)[cuts])
        sizes.append(counts)
    if not events:
        raise ValueError("expected at least one record to measure; got none.")
    return GroupLengths(np.concatenate(events), np.concatenate(groups), np.concatenate(sizes))


def at_quantiles(
    lengths: GroupLengths, quantiles: Sequence[float] = QUANTILES
) -> list[tuple[float, int, int]]:
    """The left half of the figure: samples ranked by events, and the lengths at some ranks.

    Returns:
      (quantile, events, groups) of each. `groups` is the mean over all samples of that many events,
      rounded, so that it does not depend on the order of equals.
    """
    by_rank = np.sort(lengths.events)
    rows = []
    for quantile in quantiles:
        events = int(by_rank[round(quantile * (len(by_rank) - 1))])
        groups = lengths.groups[lengths.events == events].mean()
        rows.append((quantile, events, round(float(groups))))
    return rows


def size_shares(
    lengths: GroupLengths, edges: Sequence[int] = SIZE_EDGES
) -> list[tuple[str, float]]:
    """The right half of the figure: which share of the groups has how many events.

    Args:
      lengths: of `measure`.
      edges: the fewest events of each class, rising from 1; the last class is open.

    Returns:
      (class in words, share) of each class.
    """
    slots = np.searchsorted(edges, lengths.sizes, side="right") - 1
    shares = np.bincount(slots, minlength=len(edges)) / max(len(lengths.sizes), 1)
    ends = [*(edge - 1 for edge in edges[1:]), None]
    names = [
        f"{first} and more" if last is None else str(first) if first == last else f"{first}-{last}"
        for first, last in zip(edges, ends, strict=True)
    ]
    return list(zip(names, shares.tolist(), strict=True))
