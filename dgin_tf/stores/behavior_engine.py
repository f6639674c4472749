"""DGIN's User Behavior Processing Engine, UBPE (Liu et al., 2023, section 3.5): lists and statistics.

A behavior index lists every user's newest events under each interest key, and `BehaviorTotals` counts
all of them and keeps what came since. Together they hold what a group's representation is made of,
however long a history is. What a model makes of it is kept by the ranker.

One event makes every other of the user's events older by comparison, so that no single group can be
brought up to date alone: the groups of whoever did something are made anew from the lists.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dgin_tf.schema import FIRST_ID
from dgin_tf.stores.behavior_blocks import TIME, Events, newest_per_key
from dgin_tf.stores.behavior_index import BehaviorIndex, IndexMetadata
from dgin_tf.stores.behavior_overlay import equal_to_any, take
from dgin_tf.stores.behavior_totals import Account, BehaviorTotals

TOTAL = "total_"  # of the statistics of each event's group


class BehaviorEngine:
    """Looks up groups of events and single lists of them, and takes in a stream of new ones.

    Args:
      index: opened without an overlay; late events lie beside the totals, so that both change at once.
      totals: of the same schema and key.

    Raises:
      ValueError: they are of different schemas or keys, or the index has an overlay.
    """

    def __init__(self, index: BehaviorIndex, totals: BehaviorTotals):
        found = index.metadata.schema, index.metadata.key
        if found != (totals.schema, totals.key):
            raise ValueError(
                f"expected totals of the index's schema and key, {found}; got "
                f"{(totals.schema, totals.key)}. Load both from the same data."
            )
        if index.has_overlay:
            raise ValueError(
                "an engine keeps late events beside its totals and reads none of an overlay; open the "
                "index without one."
            )
        self.totals = totals
        self.indexed = index
        self.index = index.beside(lambda users: [totals.account(user).late for user in users])
        checksums = (facts["crc32c"] for facts in index.metadata.files.values())
        self._build = functools.reduce(int.__xor__, checksums)

    @property
    def metadata(self) -> IndexMetadata:
        """Of the index."""
        return self.index.metadata

    def lookup(
        self, user: int, keys: Sequence[int] | np.ndarray, before: int | None = None, ties: int = 0
    ) -> Events:
        """See `BehaviorIndex.lookup`."""
        return self.index.lookup(user, keys, before, ties)

    def history_slice(
        self,
        user: int,
        keys: Sequence[int] | np.ndarray,
        newest: int,
        before: int | None = None,
        ties: int = 0,
    ) -> Events:
        """See `BehaviorIndex.history_slice`."""
        return self.index.history_slice(user, keys, newest, before, ties)

    def version(self, user: int) -> int:
        """A number that changes with what the user did and with the index; 0 for somebody unknown."""
        return self._version(self.totals.account(user))

    def users(self) -> Iterator[int]:
        """Everybody whose groups are known."""
        return self.totals.users()

    def groups(self, user: int, groups: int, events: int) -> tuple[int, Events]:
        """What the user's most recent groups are made of, and the version of it.

        Args:
          user: dense id.
          groups: G, how many groups.
          events: B, how many of the newest events of each.

        Returns:
          `version` as it was read together with the events; and history field -> values, and
          `total_<statistic>` of each event's group, oldest event first, [events].
        """
        account = self.totals.account(user)  # read once: what belongs to one version
        totals = self.totals.total(account)
        known = totals.keys >= FIRST_ID  # those out of vocabulary are no interest
        keys, newest = totals.keys[known], totals.newest[known]
        if len(keys) > groups:
            # Groups whose newest events are of one second: which came last, the events will tell.
            keys = keys[newest >= np.partition(newest, len(keys) - groups)[len(keys) - groups]]
        found = self.index.beside(lambda _: [account.late]).lookup(user, keys)
        found = take(found, newest_per_key(found[self.totals.key], events))
        statistics = totals.statistics(found[self.totals.key], self.totals.types)
        events_of_groups = {**found, **{TOTAL + n: values for n, values in statistics.items()}}
        return self._version(account), events_of_groups

    def append(self, user: int, events: Mapping[str, object], sequence: int) -> bool:
        """Adds events that came since the last batch load, see `BehaviorIndex.append`.

        An event that equals one of the index is that one and counts once. Neither does one count that
        is older than all of a full list of the index, which could not be told from those that were cut.

        Returns:
          Whether the delivery was new.
        """
        arrays = self.index.check_events(user, events)
        return self.totals.append(user, take(arrays, self._fresh(user, arrays)), sequence)

    def catch_up(self) -> int:
        """Looks again, with this index, which late events the last batch load did not have.

        To be called with the index that the batch built. It compares what was appended while the batch
        was loaded, which could not be compared with its histories. Once more, it changes nothing.

        Returns:
          How many late events count beside what was loaded.
        """
        beyond = 0
        for user in list(self.users()):
            self.totals.change(user, functools.partial(self._caught_up, user))
            beyond += int(self.totals.account(user).counted.sum())
        return beyond

    def _caught_up(self, user: int, account: Account) -> Account | None:
        if not np.any(account.counted & ~account.settled):
            return None
        counted = account.counted & (account.settled | self._fresh(user, account.late))
        if np.array_equal(counted, account.counted):
            return None
        return dataclasses.replace(account, counted=counted)

    def _version(self, account: Account) -> int:
        # Another index under an account that stayed as it was may list other events.
        return account.version << 32 | self._build if account.version else 0

    def _fresh(self, user: int, events: Events) -> np.ndarray:
        """Which events no indexed one equals and some indexed list has room for, bool [events]."""
        keys, row = np.unique(events[self.totals.key], return_inverse=True)
        held = self.indexed.lookup(user, keys)
        fresh = ~equal_to_any(events, held)
        for number, key in enumerate(keys):
            times = held[TIME][held[self.totals.key] == key]
            if len(times) >= self.metadata.max_events_per_key:
                fresh &= (row != number) | (events[TIME] >= times.min())
        return fresh
