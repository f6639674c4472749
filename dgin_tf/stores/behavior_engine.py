"""DGIN's User Behavior Processing Engine, UBPE (Liu et al., 2023, section 3.5): lists and statistics.

A behavior index lists every user's newest events under each interest key, and `BehaviorTotals` counts
all of them and holds the pending ones, which came since. Together they hold the inputs of a group's
representation, however long a history is. The representations are cached by the ranker.

The age of all events changes with every new one, so that no group can be updated alone: all groups of a
user who did something are encoded anew from the lists.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from dgin_tf.group_spec import TOTAL
from dgin_tf.schema import FIRST_ID
from dgin_tf.stores.behavior_blocks import TIME, Events, newest_per_key
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.behavior_overlay import equal_to_any, take
from dgin_tf.stores.behavior_totals import Account, BehaviorTotals


class BehaviorEngine:
    """Groups of events and single lists of them, and a stream of new events.

    Args:
      index: opened without an overlay; pending events lie beside the totals, so that both change at once.
      totals: of the same schema and key.

    Raises:
      ValueError: they are of different schemas or keys, or the index has an overlay.
    """

    def __init__(self, index: BehaviorIndex, totals: BehaviorTotals):
        schema_and_key = index.metadata.schema, index.metadata.key
        if schema_and_key != (totals.schema, totals.key):
            raise ValueError(
                f"expected totals of the index's schema and key, {schema_and_key}; got "
                f"{(totals.schema, totals.key)}. Load both from the same data."
            )
        if index.has_overlay:
            raise ValueError(
                "an engine has pending events beside its totals and reads none of an overlay; open the "
                "index without one."
            )
        self.totals = totals
        self.users, self.drop = totals.users, totals.drop
        self.damaged_users = totals.damaged_users
        self.indexed = index
        self.index = index.beside(lambda users: [totals.account(user).late for user in users])
        # What the index knows alone.
        self.lookup, self.history_slice = self.index.lookup, self.index.history_slice
        self.metadata = self.index.metadata
        checksums = (facts["crc32c"] for facts in index.metadata.files.values())
        self._build = functools.reduce(int.__xor__, checksums)

    def version(self, user: int) -> int:
        """A number that changes with the user's events and with the index; 0 for an unknown user."""
        return self._version(self.totals.account(user))

    def groups(self, user: int, groups: int | None, events: int) -> tuple[int, Events]:
        """Newest events and statistics of the user's most recent groups, and their version.

        Args:
          user: dense id.
          groups: G, how many groups; None for all.
          events: B, how many of the newest events of each.

        Returns:
          `version` as it was read together with the events; and history field -> values, and
          `total_<statistic>` of each event's group, oldest event first, [events].
        """
        account = self.totals.account(user)  # read once: all of one version
        totals = self.totals.total(account)
        in_vocabulary = totals.keys >= FIRST_ID  # events out of vocabulary share no interest
        keys, newest = totals.keys[in_vocabulary], totals.newest[in_vocabulary]
        if groups is not None and len(keys) > groups:
            # More than `groups` where several end in one second: the model sees their order.
            keys = keys[newest >= np.partition(newest, len(keys) - groups)[len(keys) - groups]]
        group_events = self.index.beside(lambda _: [account.late]).lookup(user, keys)
        group_events = take(group_events, newest_per_key(group_events[self.totals.key], events))
        statistics = totals.statistics(group_events[self.totals.key], self.totals.types)
        events_of_groups = {**group_events, **{TOTAL + n: v for n, v in statistics.items()}}
        return self._version(account), events_of_groups

    def append(self, user: int, events: Mapping[str, object], sequence: int) -> bool:
        """Adds events that came since the last batch load, see `BehaviorIndex.append`.

        An event that equals one of the index is taken for that one and not counted again. An event that
        is older than all of a full list is not counted either: it may be one that was cut from the list.

        Returns:
          Whether the delivery was new.
        """
        arrays = self.index.check_events(user, events)
        return self.totals.append(user, take(arrays, self._fresh(user, arrays)), sequence)

    def catch_up(self) -> int:
        """Finds the pending events that are in the index, and counts them no longer.

        Call it with the index that the last batch load built: events that were appended during the load
        could not be compared with its histories. A second call changes nothing. Damaged accounts stay.

        Returns:
          Number of pending events that count beside the batch.
        """
        pending = 0
        damaged_users = set(self.damaged_users())
        for user in sorted(set(self.users()) - damaged_users):
            self.totals.change(user, functools.partial(self._caught_up, user))
            pending += int(self.totals.account(user).counted.sum())
        return pending

    def _caught_up(self, user: int, account: Account) -> Account | None:
        if not np.any(account.counted & ~account.settled):
            return None
        is_fresh = account.counted & (account.settled | self._fresh(user, account.late))
        if np.array_equal(is_fresh, account.counted):
            return None
        return dataclasses.replace(account, counted=is_fresh)

    def _version(self, account: Account) -> int:
        # Another index under an account that stayed as it was may list other events.
        return account.version << 32 | self._build if account.version else 0

    def _fresh(self, user: int, events: Events) -> np.ndarray:
        """Mask of the events that the index neither has nor has cut from a full list, bool [events]."""
        keys, row = np.unique(events[self.totals.key], return_inverse=True)
        indexed_events = self.indexed.lookup(user, keys)
        fresh = ~equal_to_any(events, indexed_events)
        for number, key in enumerate(keys):
            # A full list may have cut events that are older than its oldest one.
            times = indexed_events[TIME][indexed_events[self.totals.key] == key]
            if len(times) >= self.metadata.max_events_per_key:
                fresh &= (row != number) | (events[TIME] >= times.min())
        return fresh
