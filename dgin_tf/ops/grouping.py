"""Long histories as few groups of events that share an interest key (DGIN, section 3.3).

Events are sorted by key once; a group is then a run of neighbors, and every count in it is a
difference of two running sums. Counts are of all events of a group; only the newest few of them are
named one by one.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from dgin_tf.group_spec import (
    COUNT,
    DISTINCT,
    GAP,
    MEAN,
    SESSION,
    SESSION_GAP,
    TOTAL,
    TYPES,
    GroupSpec,
    StatisticsSpec,
)
from dgin_tf.ops.event_order import EventOrder, order_events
from dgin_tf.schema import BEHAVIOR_TYPE, FIRST_ID, HISTORY, TIMESTAMP, check_features


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


class EventGroups(NamedTuple):
    """The most recent groups of every user, the one with the newest event first.

    Attributes:
      keys: what a group's events share, in the type of the keys, [users, groups]; zero where there
        is no group.
      mask: True where there is a group, bool [users, groups].
      places: where in time a group's newest events are, oldest first, int32 [users, groups, events];
        zero where there is none.
      event_mask: True where there is an event, bool [users, groups, events].
      newest: where in time a group's newest event is, int32 [users, groups].
      order: all events by key and, within a key, by time.
      start, end: which part of `order` is the group's, int32 [users, groups]; both zero where there
        is no group.
    """

    keys: tf.Tensor
    mask: tf.Tensor
    places: tf.Tensor
    event_mask: tf.Tensor
    newest: tf.Tensor
    order: EventOrder
    start: tf.Tensor
    end: tf.Tensor

    @property
    def counts(self) -> tf.Tensor:
        """Number of all events of each group, int32 [users, groups]."""
        return self.end - self.start

    @property
    def kept_of_all(self) -> tf.Tensor:
        """Number of events of the groups that remain, and of all groups, int32 [users, 2]."""
        has_key = self.order.keys < self.order.keys.dtype.max
        events = tf.math.count_nonzero(has_key, axis=1, dtype=tf.int32)
        return tf.stack([tf.reduce_sum(self.counts, axis=1), events], axis=1)


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
    return group_with_order(features, mask, spec)[0]


def group_with_order(
    features: Mapping[str, tf.Tensor], mask: tf.Tensor, spec: GroupSpec
) -> tuple[Groups, EventGroups]:
    """`group_history`, and where in time its groups are."""
    features = {
        # A history of ids alone has no events.
        name: tf.convert_to_tensor(value)
        for name, value in features.items()
        if value is not None
    }
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
    names = [*spec.identity, *(TIMESTAMP if name == GAP else name for name in spec.attributes)]
    check_features(features, names, HISTORY)
    groups = group_events(keys, mask, spec.groups, spec.events)
    statistics: Mapping[str, tf.Tensor] = {}
    if spec.statistics is not None:
        statistics = group_statistics(groups, keys, mask, features, spec.statistics)
    if GAP in spec.attributes:
        times = tf.where(mask, features[TIMESTAMP], 0)
        newest = tf.reduce_max(tf.pad(times, [[0, 0], [0, 1]]), axis=1, keepdims=True)
        features = {**features, GAP: newest - times}
    identity = {n: _gather(features[n], groups.newest, groups.mask) for n in spec.identity}
    attributes = {
        n: _gather(features[n], groups.places, groups.event_mask) for n in spec.attributes
    }
    described = (groups.mask, groups.keys, identity, statistics, groups.event_mask, attributes)
    return Groups(*described), groups


def group_events(keys: tf.Tensor, mask: tf.Tensor, groups: int | None, events: int) -> EventGroups:
    """Groups events by their keys.

    Args:
      keys: interest keys, integers [users, time] below the highest number of their type.
      mask: True where the event is real, bool [users, time]. Padding may be anywhere.
      groups: G, how many groups to keep, those with the newest events; None for as many as there are
        events, so that all remain.
      events: B, how many of a group's newest events to name.

    Raises:
      ValueError: `groups` or `events` is below 1.
    """
    if (groups is not None and groups < 1) or events < 1:
        raise ValueError(f"groups and events must be at least 1; got {groups} and {events}.")
    if groups is None:
        groups = keys.shape[1]
        groups = tf.maximum(tf.shape(keys)[1], 1) if groups is None else max(groups, 1)
    order = order_events(keys, mask)
    # One more event behind all others: nothing is gathered from an axis of no length.
    sentinel = keys.dtype.max
    key = tf.pad(order.keys, [[0, 0], [0, 1]], constant_values=sentinel)
    places = tf.pad(order.places, [[0, 0], [0, 1]])
    is_last = (order.keys != key[:, 1:]) & (order.keys < sentinel)
    # Where in time each group ends says how recent it is; places are all different, so are these.
    missing = tf.maximum(groups - tf.shape(keys)[1], 0)  # columns of no event, up to G
    recency = tf.where(is_last, order.places, -1)
    recency = tf.pad(recency, [[0, 0], [0, missing]], constant_values=-1)
    newest, last = tf.math.top_k(recency, groups)  # [users, groups]
    is_group = newest >= 0
    last = tf.where(is_group, last, 0)
    group_key = tf.gather(key, last, batch_dims=1)
    start = tf.where(is_group, tf.searchsorted(key, group_key, side="left"), 0)
    end = tf.where(is_group, last + 1, 0)
    # The newest events of a group are the last ones of its run.
    length = tf.minimum(end - start, events)
    step = tf.range(events)
    event_mask = step < length[..., tf.newaxis]
    member = tf.where(event_mask, (end - length)[..., tf.newaxis] + step, 0)
    return EventGroups(
        keys=tf.where(is_group, group_key, 0),
        mask=is_group,
        places=tf.where(event_mask, tf.gather(places, member, batch_dims=1), 0),
        event_mask=event_mask,
        newest=tf.where(is_group, newest, 0),
        order=order,
        start=start,
        end=end,
    )


def group_statistics(
    groups: EventGroups,
    keys: tf.Tensor,
    mask: tf.Tensor,
    features: Mapping[str, tf.Tensor],
    spec: StatisticsSpec,
) -> dict[str, tf.Tensor]:
    """Statistics over all events of each group, those beyond the newest ones too (DGIN, Eq. 3).

    Args:
      groups: what `group_events` made of `keys` and `mask`.
      keys: interest keys, [users, time].
      mask: True where the event is real, bool [users, time].
      features: by field name, those of the specification among them, each [users, time]; where an index
        holds few of the events, `total_<statistic>` are the running statistics of each event's group.
      spec: the statistics.

    Returns:
      By name, each int32 [users, groups].
    """
    if TOTAL + COUNT in features:
        return {n: _gather(features[TOTAL + n], groups.newest, groups.mask) for n in spec.names}
    statistics = {COUNT: groups.counts}
    if spec.behavior_types:
        names, ids = zip(*spec.behavior_types, strict=True)
        per_type = count_values(groups, features[BEHAVIOR_TYPE], ids)  # [users, groups, types]
        statistics[TYPES] = tf.math.count_nonzero(per_type, axis=-1, dtype=tf.int32)
        for name, value in zip(names, tf.unstack(per_type, axis=-1), strict=True):
            statistics[f"{COUNT}_{name}"] = value
    for name in spec.distinct:
        statistics[DISTINCT + name] = count_distinct(groups, keys, mask, features[name])
    for name in spec.numeric_features:
        values = tf.where(mask, tf.cast(features[name], tf.int64), 0)
        statistics[MEAN + name] = mean_of_known(groups, values)
    return statistics


def sum_in_groups(groups: EventGroups, values: tf.Tensor) -> tf.Tensor:
    """Sums over all events of each group.

    Args:
      groups: the groups.
      values: numbers of every event, integers so that running sums are exact, [users, time, ...].

    Returns:
      [users, groups, ...]; zero where there is no group.
    """
    return _sum_of_runs(groups, tf.gather(values, groups.order.places, batch_dims=1))


def count_values(groups: EventGroups, values: tf.Tensor, ids: Sequence[int]) -> tf.Tensor:
    """Number of a group's events that have each of some values (Eq. 3, counts of every type).

    Args:
      groups: the groups.
      values: ids of every event, [users, time].
      ids: the values to count.

    Returns:
      int32 [users, groups, ids].
    """
    is_id = values[..., tf.newaxis] == tf.constant(list(ids), values.dtype)
    return sum_in_groups(groups, tf.cast(is_id, tf.int32))


def count_distinct(
    groups: EventGroups, keys: tf.Tensor, mask: tf.Tensor, values: tf.Tensor
) -> tf.Tensor:
    """Number of different values that a group's events have.

    Args:
      groups: what `group_events` made of `keys` and `mask`.
      keys: interest keys, [users, time].
      mask: True where the event is real, bool [users, time].
      values: ids of every event, [users, time].

    Returns:
      int32 [users, groups].
    """
    # Sorted by value and then, stably, by key: the groups are the same runs as in `groups.order`.
    value = tf.where(mask, values, values.dtype.max)
    key = tf.where(mask, keys, keys.dtype.max)
    by_value = tf.argsort(value, axis=1, stable=True)
    key = tf.gather(key, by_value, batch_dims=1)
    by_key = tf.argsort(key, axis=1, stable=True)
    key = tf.gather(key, by_key, batch_dims=1)
    value = tf.gather(value, tf.gather(by_value, by_key, batch_dims=1), batch_dims=1)
    is_new = (value[:, 1:] != value[:, :-1]) | (key[:, 1:] != key[:, :-1])
    first = tf.ones_like(value[:, :1], tf.int32)
    return _sum_of_runs(groups, tf.concat([first, tf.cast(is_new, tf.int32)], axis=1))


def mean_of_known(groups: EventGroups, values: tf.Tensor) -> tf.Tensor:
    """Mean of a numeric feature over the events of a group of which it is known.

    Args:
      groups: the groups.
      values: of every event as `dgin_tf.numeric_features` stores them, 0 where unknown, int64
        [users, time].

    Returns:
      int32 [users, groups], as values are stored; 0 where none is known.
    """
    sums = sum_in_groups(groups, values)
    count = sum_in_groups(groups, tf.cast(values > 0, tf.int64))
    mean = tf.math.floordiv(sums, tf.maximum(count, 1))
    return tf.cast(tf.minimum(mean, tf.int32.max), tf.int32)


def session_keys(timestamps: tf.Tensor, mask: tf.Tensor, gap: int = SESSION_GAP) -> tf.Tensor:
    """Numbers of sessions: a longer break than `gap` begins a new one (DSIN, section 3.2).

    Args:
      timestamps: seconds, rising, integers [users, time].
      mask: True where the event is real, bool [users, time].
      gap: seconds; 30 minutes in DSIN.

    Returns:
      The number of each event's session, from 0, int32 [users, time]; of no meaning under padding.
    """
    # The real events side by side, whatever lies between them.
    places = tf.argsort(tf.cast(~mask, tf.int32), axis=1, stable=True)
    times = tf.gather(timestamps, places, batch_dims=1)
    begins = tf.cast(times[:, 1:] - times[:, :-1] > gap, tf.int32)
    number = tf.pad(tf.cumsum(begins, axis=1), [[0, 0], [1, 0]])
    rank = tf.cumsum(tf.cast(mask, tf.int32), axis=1, exclusive=True)
    return tf.gather(number, rank, batch_dims=1)


def _sum_of_runs(groups: EventGroups, values: tf.Tensor) -> tf.Tensor:
    """Sums of the groups' parts of values [users, time, ...] that are in the groups' order."""
    padding = [[0, 0], [1, 0]] + [[0, 0]] * (len(values.shape) - 2)
    # A run's sum is the running sum at its end less that before its start.
    total = tf.pad(tf.cumsum(values, axis=1), padding)
    until_end = tf.gather(total, groups.end, batch_dims=1)
    return until_end - tf.gather(total, groups.start, batch_dims=1)


def gather_at(values: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Values [users, time, ...] at places [users, ...]; zero behind the last event."""
    # One event more, so that a time axis of length zero can be read.
    behind = [[0, 0], [0, 1]] + [[0, 0]] * (values.shape.rank - 2)
    return tf.gather(tf.pad(values, behind), places, batch_dims=1)


def _gather(values: tf.Tensor, places: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Values [users, time, ...] at places in time, zero where masked."""
    values = gather_at(values, places)
    for _ in range(values.shape.rank - mask.shape.rank):  # more axes than ids: they are embedded
        mask = mask[..., tf.newaxis]
    return tf.where(mask, values, tf.zeros([], values.dtype))
