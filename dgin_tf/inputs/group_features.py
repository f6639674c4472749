"""Grouping as a transform of batches: a long history becomes a few interest groups (DGIN, section 3.3).

Grouping knows ids and seconds alone and has no weights. It runs where batches are read, so that a step
of training never sees the events that no score depends on; a model groups by the same function what
comes to it ungrouped.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from dgin_tf.group_spec import (
    COUNT,
    DISTINCT,
    GAP,
    MEAN,
    SESSION,
    TOTAL,
    TYPES,
    GroupSpec,
    StatisticsSpec,
)
from dgin_tf.ops.event_order import gather_at, newest_of_keys
from dgin_tf.ops.grouping import (
    EventGroups,
    count_distinct,
    count_values,
    group_events,
    mean_of_known,
    session_keys,
)
from dgin_tf.schema import BEHAVIOR_TYPE, CANDIDATE, FIRST_ID, HISTORY, PREFIX, TIMESTAMP

Batch = Mapping[str, Any]

GROUPS = "groups"  # of a batch: its `Groups`
HISTORY_LENGTH = "history_length"  # of a batch whose history was cut: events that it had before
HISTORY_MASK, CANDIDATE_MASK = PREFIX[HISTORY] + "mask", PREFIX[CANDIDATE] + "mask"


class Groups(NamedTuple):
    """The most recent groups of every user, the one with the newest event first.

    Attributes:
      mask: True where there is a group, bool [users, groups].
      keys: values of the interest key, [users, groups].
      identity: fields that a group's events share, by name, each [users, groups].
      statistics: by name, each int32 [users, groups].
      event_mask: True where there is an event, bool [users, groups, events]; real ones come first.
      attributes: of a group's newest events, oldest first, by name, each [users, groups, events].
    """

    mask: tf.Tensor
    keys: tf.Tensor
    identity: Mapping[str, tf.Tensor]
    statistics: Mapping[str, tf.Tensor]
    event_mask: tf.Tensor
    attributes: Mapping[str, tf.Tensor]


def group_features(batch: Batch, spec: GroupSpec) -> dict[str, Any]:
    """Groups the events of a batch.

    Args:
      batch: `hist_*` and `hist_mask` [users, time]. Where events are the newest of their groups alone,
        as an index holds them, `hist_total_<statistic>` are the statistics of each event's group.
      spec: of the groups.

    Returns:
      The batch and, under `groups`, its `Groups`.

    Raises:
      ValueError: events lack the key.
    """
    features = history_features(batch)
    return {**batch, GROUPS: group_history(features, batch[HISTORY_MASK], spec)}


def group_history(features: Mapping[str, tf.Tensor], mask: tf.Tensor, spec: GroupSpec) -> Groups:
    """Groups histories, one a user.

    Events whose key is out of vocabulary have nothing in common and are left out.

    Args:
      features: of events by field name, each [users, time, ...].
      mask: True where the event is real, bool [users, time].
      spec: of the groups.

    Raises:
      ValueError: events lack the key.

    Example:

      >>> items = tf.constant([[7, 5, 7, 9, 7]])
      >>> spec = GroupSpec("item_id", groups=2, events=2, statistics=StatisticsSpec())
      >>> groups = group_history({"item_id": items}, items > 0, spec)
      >>> groups.keys.numpy(), groups.statistics["count"].numpy()
      (array([[7, 9]], dtype=int32), array([[3, 1]], dtype=int32))
    """
    return _group(features, mask, spec)[0]


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
        """A batch with `groups`, and with `history_length` where its history was cut."""
        mask = mask_of_types(batch, self.type_ids)
        groups, runs = _group(history_features(batch), mask, self.spec)
        if self.per_key is None:
            return {**batch, HISTORY_MASK: mask, GROUPS: groups}
        places, is_event = runs.newest[:, :1], runs.mask[:, :1]
        if self.per_key:
            ids = batch[PREFIX[CANDIDATE] + self.spec.key]
            # No event has the highest number, so that padding and unknown candidates find none.
            ids = tf.where(batch[CANDIDATE_MASK] & (ids >= FIRST_ID), ids, ids.dtype.max)
            places, is_event = newest_of_keys(runs.order, ids, self.per_key)
        events = {
            name: tf.where(is_event, tf.gather(value, places, batch_dims=1), 0)
            for name, value in batch.items()
            if name.startswith(PREFIX[HISTORY]) and name != HISTORY_MASK
        }
        length = tf.math.count_nonzero(batch[HISTORY_MASK], axis=1, dtype=tf.int32)
        return {
            **batch,
            **events,
            HISTORY_MASK: is_event,
            HISTORY_LENGTH: length,
            GROUPS: groups,
        }


def mask_of_types(batch: Batch, type_ids: Sequence[int]) -> tf.Tensor:
    """Mask of the events of some behavior types, bool [users, time]; () for all types."""
    mask = batch[HISTORY_MASK]
    if not type_ids:
        return mask
    types = batch[PREFIX[HISTORY] + BEHAVIOR_TYPE][..., tf.newaxis]
    return mask & tf.reduce_any(types == tf.constant(list(type_ids), types.dtype), axis=-1)


def _group(features, mask, spec) -> tuple[Groups, EventGroups]:
    """The groups, and the order of all events that they were made from."""
    name = TIMESTAMP if spec.key == SESSION else spec.key
    if name not in features:
        raise ValueError(
            f"grouping by {spec.key!r} needs the feature {name!r}; the history has "
            f"{sorted(features)}. Name another field of the schema."
        )
    if spec.key == SESSION:
        keys = session_keys(features[name], mask)
    else:
        keys = features[name]
        mask = mask & (keys >= FIRST_ID)
    runs = group_events(keys, mask, spec.groups, spec.events)
    statistics = {}
    if spec.statistics is not None:
        statistics = _statistics(runs, keys, mask, features, spec.statistics)
    if GAP in spec.attributes:
        times = tf.where(mask, features[TIMESTAMP], 0)
        newest = tf.reduce_max(tf.pad(times, [[0, 0], [0, 1]]), axis=1, keepdims=True)
        features = {**features, GAP: newest - times}
    groups = Groups(
        mask=runs.mask,
        keys=runs.keys,
        identity={n: _gather(features[n], runs.newest, runs.mask) for n in spec.identity},
        statistics=statistics,
        event_mask=runs.event_mask,
        attributes={n: _gather(features[n], runs.places, runs.event_mask) for n in spec.attributes},
    )
    return groups, runs


def _statistics(runs, keys, mask, features, spec: StatisticsSpec) -> dict[str, tf.Tensor]:
    """Statistics over all events of each group, those beyond the newest ones too (Eq. 3)."""
    if TOTAL + COUNT in features:  # an index holds few of the events, and counts of all
        return {n: _gather(features[TOTAL + n], runs.newest, runs.mask) for n in spec.names}
    statistics = {COUNT: runs.counts}
    if spec.behavior_types:
        names, ids = zip(*spec.behavior_types, strict=True)
        per_type = count_values(runs, features[BEHAVIOR_TYPE], ids)  # [users, groups, types]
        statistics[TYPES] = tf.math.count_nonzero(per_type, axis=-1, dtype=tf.int32)
        for name, value in zip(names, tf.unstack(per_type, axis=-1), strict=True):
            statistics[f"{COUNT}_{name}"] = value
    for name in spec.distinct:
        statistics[DISTINCT + name] = count_distinct(runs, keys, mask, features[name])
    for name in spec.numeric_features:
        values = tf.where(mask, tf.cast(features[name], tf.int64), 0)
        statistics[MEAN + name] = mean_of_known(runs, values)
    return statistics


def _gather(values: tf.Tensor, places: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Values [users, time, ...] at places in time, zero where masked."""
    for _ in range(values.shape.rank - 2):  # embedded events have one more axis than ids
        mask = mask[..., tf.newaxis]
    return tf.where(mask, gather_at(values, places), tf.zeros([], values.dtype))
