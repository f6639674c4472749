"""Grouping as a transform of batches: a long history becomes a few interest groups (DGIN, section 3.3).

Grouping knows ids and seconds alone and has no weights. It runs where batches are read, so that a step
of training never sees the events that no score depends on; a model groups by the same function what
comes to it ungrouped.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from dgin_tf.group_spec import GroupSpec
from dgin_tf.inputs.cutting import zero_padding
from dgin_tf.ops.event_order import newest_of_keys
from dgin_tf.ops.grouping import group_with_order
from dgin_tf.ops.masking import is_among
from dgin_tf.schema import (
    BEHAVIOR_TYPE,
    CANDIDATE,
    CANDIDATE_MASK,
    FIRST_ID,
    HISTORY,
    HISTORY_MASK,
    PREFIX,
)

Batch = Mapping[str, Any]

GROUPS = "groups"  # of a batch: its `Groups`
HISTORY_LENGTH = "history_length"  # of a batch whose history was cut: events that it had before
KEPT_OF_ALL = "kept_of_all"  # of a batch whose groups are limited: `EventGroups.kept_of_all`


def history_features(batch: Batch) -> dict[str, tf.Tensor]:
    """Features of past events by field name, without the mask."""
    prefix = PREFIX[HISTORY]
    return {
        name.removeprefix(prefix): value
        for name, value in batch.items()
        if name.startswith(prefix) and name != HISTORY_MASK
    }


@dataclasses.dataclass(frozen=True)
class GroupTransform:
    """Replaces long histories by groups, and by the few events that candidates search for.

    Attributes:
      spec: of the groups.
      per_key: how many of the newest events of every candidate's key remain in the history; 0 for none,
        where the newest event remains since a history is not empty, and None for all events.
      type_ids: ids of the behavior types that are read; () for all.
    """

    spec: GroupSpec
    per_key: int | None = None
    type_ids: tuple[int, ...] = ()

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """A batch with `groups`, `history_length` where it was cut, `kept_of_all` where groups are limited."""
        mask = batch[HISTORY_MASK]
        if self.type_ids:
            mask &= is_among(batch[PREFIX[HISTORY] + BEHAVIOR_TYPE], self.type_ids)
        groups, event_groups = group_with_order(history_features(batch), mask, self.spec)
        if self.spec.groups is not None:
            batch = {**batch, KEPT_OF_ALL: event_groups.kept_of_all}
        if self.per_key is None:
            return {**batch, HISTORY_MASK: mask, GROUPS: groups}
        places, is_event = event_groups.newest[:, :1], event_groups.mask[:, :1]
        if self.per_key:
            ids = batch[PREFIX[CANDIDATE] + self.spec.key]
            # No event has the highest number, so that padding and unknown candidates find none.
            ids = tf.where(batch[CANDIDATE_MASK] & (ids >= FIRST_ID), ids, ids.dtype.max)
            places, is_event = newest_of_keys(event_groups.order, ids, self.per_key)
        events = {
            name: zero_padding(tf.gather(value, places, batch_dims=1), is_event)
            for name, value in batch.items()
            if name.startswith(PREFIX[HISTORY]) and name != HISTORY_MASK
        }
        length = tf.math.count_nonzero(batch[HISTORY_MASK], axis=1, dtype=tf.int32)
        history = {**events, HISTORY_MASK: is_event, HISTORY_LENGTH: length}
        return {**batch, **history, GROUPS: groups}
