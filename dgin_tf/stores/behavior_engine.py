"""DGIN's User Behaviour Processing Engine (Liu et al., 2023, section 3.5): an index and its statistics.

A behaviour index lists every user's newest events under each interest key, and `BehaviorTotals` counts
all of them. Together they hold what a group's representation is made of, however long a history is.
What a model makes of it is kept by the ranker.

One event makes every other of the user's events older by comparison, so that no single group can be
brought up to date alone: the groups of whoever did something are made anew from the lists.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from dgin_tf.schema import FIRST_ID
from dgin_tf.stores.behavior_blocks import TIME, Events, newest_per_key
from dgin_tf.stores.behavior_index import BehaviorIndex, IndexMetadata
from dgin_tf.stores.behavior_overlay import concatenate, first_occurrences, take
from dgin_tf.stores.behavior_totals import BehaviorTotals

TOTAL = "total_"  # of the statistics of each event's group


class BehaviorEngine:
    """Looks up groups of events and single lists of them, and takes in a stream of new ones.

    Args:
      index: opened with an overlay where events are appended.
      totals: of the same schema and key.

    Raises:
      ValueError: they are of different schemas or keys.
    """

    def __init__(self, index: BehaviorIndex, totals: BehaviorTotals):
        found = index.metadata.schema, index.metadata.key
        if found != (totals.schema, totals.key):
            raise ValueError(
                f"expected totals of the index's schema and key, {found}; got "
                f"{(totals.schema, totals.key)}. Load both from the same data."
            )
        self.index = index
        self.totals = totals

    @property
    def metadata(self) -> IndexMetadata:
        """Of the index."""
        return self.index.metadata

    def lookup(
        self, user: int, keys: Sequence[int] | np.ndarray, before: int | None = None, ties: int = 0
    ) -> Events:
        """See `BehaviorIndex.lookup`."""
        return self.index.lookup(user, keys, before, ties)

    def excerpt(
        self,
        user: int,
        keys: Sequence[int] | np.ndarray,
        newest: int,
        before: int | None = None,
        ties: int = 0,
    ) -> Events:
        """See `BehaviorIndex.excerpt`."""
        return self.index.excerpt(user, keys, newest, before, ties)

    def version(self, user: int) -> int:
        """A number that rises with every change of what the user did."""
        return self.totals.of(user).version

    def groups(self, user: int, groups: int, events: int) -> Events:
        """What the user's most recent groups are made of.

        Args:
          user: dense id.
          groups: G, how many groups.
          events: B, how many of the newest events of each.

        Returns:
          History field -> values, and `total_<statistic>` of each event's group, oldest event first,
          [events].
        """
        totals = self.totals.of(user)
        known = totals.keys >= FIRST_ID  # those out of vocabulary are no interest
        keys, newest = totals.keys[known], totals.newest[known]
        if len(keys) > groups:
            # Groups whose newest events are of one second: which came last, the events will tell.
            keys = keys[newest >= np.partition(newest, len(keys) - groups)[len(keys) - groups]]
        found = self.index.lookup(user, keys)
        found = take(found, newest_per_key(found[self.totals.key], events))
        statistics = totals.statistics(found[self.totals.key], self.totals.types)
        return {**found, **{TOTAL + name: values for name, values in statistics.items()}}

    def append(self, user: int, events: Mapping[str, object], sequence: int) -> bool:
        """Adds events that came since the last batch load, see `BehaviorIndex.append`.

        An event that the index holds already counts once; neither does one count that is older than
        all of a full list, which could not be told from those that were cut.

        Returns:
          Whether the delivery was new.
        """
        arrays = {name: np.atleast_1d(np.asarray(values)) for name, values in events.items()}
        self.index.check_events(user, arrays)
        # Statistics first: whichever half a crash leaves out, the same delivery brings it again.
        self.totals.append(user, take(arrays, self._unheard(user, arrays)), sequence)
        return self.index.append(user, arrays, sequence)

    def catch_up(self) -> int:
        """After a batch load, adds the late events that it did not hold; returns how many."""
        added = 0
        for user, late in self.index.late_events():
            held = self.index.indexed(user, np.unique(late[self.totals.key]))
            fresh = self._fresh(held, late)
            if fresh.any():
                self.totals.add(user, take(late, fresh))
                added += int(fresh.sum())
        return added

    def _unheard(self, user: int, events: Events) -> np.ndarray:
        return self._fresh(self.index.lookup(user, np.unique(events[self.totals.key])), events)

    def _fresh(self, held: Events, events: Events) -> np.ndarray:
        """Which events none of `held` equals and some list has room for, bool [events]."""
        count = len(held[TIME])
        fresh = first_occurrences(concatenate(held, events))[count:]
        keys, row = np.unique(events[self.totals.key], return_inverse=True)
        for number, key in enumerate(keys):
            times = held[TIME][held[self.totals.key] == key]
            if len(times) >= self.metadata.max_events_per_key:
                fresh &= (row != number) | (events[TIME] >= times.min())
        return fresh
