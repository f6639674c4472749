"""The group module of DGIN (Liu et al., 2023), section 3.3: a long history as a few interest groups.

Events are grouped by an interest key. A group is described by what its events share (identity), by
how many they are (statistics, Eq. 3) and by when and of which kind each was (Eqs. 4-6); a candidate
then attends to the groups (Eq. 7).

Grouping knows ids and seconds alone and has no weights. It runs where batches are read, or on an
index of behaviors, or, where nobody did it before, here: one function. What it gives holds the few
events that are looked at, so that the others are never embedded. Describing the groups depends on the
user alone and is what serving keeps.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from dgin_tf.layers.event_attributes import (
    GAP,
    EventAttributes,
)
from dgin_tf.layers.events import History, State, Target
from dgin_tf.layers.group_statistics import GroupStatistics
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.self_attention import MultiHeadSelfAttention
from dgin_tf.ops.grouping import EventGroups, group_events, session_keys
from dgin_tf.ops.sets import put_back, split_by_size
from dgin_tf.ops.tables import read_few
from dgin_tf.schema import FIRST_ID, HISTORY, PREFIX, TIMESTAMP

ITEM, SESSION = "item_id", "session"
GROUPED = PREFIX[HISTORY] + "group_"  # of the features of a batch that is grouped already
GROUP_MASK, GROUP_KEYS = GROUPED + "mask", GROUPED + "keys"
EVENT_MASK, EVENT = GROUPED + "event_mask", GROUPED + "event_"
NEWEST = GROUPED + "newest_"
TOTAL = PREFIX[HISTORY] + "total_"  # of the running statistics of each event's group
_SIZES = (1, 2, 4, 6, 8)  # of groups that are read together
_MOST_CLASSES = 512  # of attributes, whose pairs have a table


@tf.keras.utils.register_keras_serializable("dgin_tf")
class GroupAggregation(tf.keras.layers.Layer):
    """Eqs. (4)-(6): self-attention within a group over what tells its events apart, and the mean.

    Args:
      attributes: embeds age and behavior type; None for neither.
      heads: h.
    """

    def __init__(self, attributes: EventAttributes | None = None, heads: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        if isinstance(attributes, dict):
            attributes = tf.keras.layers.deserialize(attributes)
        self.attributes = attributes
        self.heads = heads
        self.attention = MultiHeadSelfAttention(heads, name="attention", dtype=self.dtype_policy)

    def call(self, features: State, mask: tf.Tensor, fields: tf.Tensor | None = None) -> tf.Tensor:
        """attr_a of every group.

        Args:
          features: raw attributes of the events of each group, see `EventAttributes.call`,
            [users, groups, events].
          mask: True where there is an event, bool [users, groups, events]; real ones come first.
          fields: embedded fields in which a group's events differ, [users, groups, events, dim].

        Returns:
          [users, groups, width]; zero where a group has no events.

        Raises:
          ValueError: there is nothing in which events differ.
        """
        attributes = self.attributes if fields is None else None
        if attributes is not None and attributes.class_count <= _MOST_CLASSES:
            return self._of_classes(attributes, features, mask)
        found, split = [], split_by_size(mask, _SIZES)
        for sets in split:
            raw = {name: sets.members(values) for name, values in features.items()}
            events = self._described(raw, None if fields is None else sets.members(fields))
            if sets.size == 1:
                found.append(self.attention.of_lone_events(events[:, 0]))
            else:
                found.append(self.attention.mean_of_sets(events, sets.members(mask)))
        return put_back(split, found, mask)

    def _of_classes(
        self, attributes: EventAttributes, features: State, mask: tf.Tensor
    ) -> tf.Tensor:
        """Where events differ in attributes alone: the groups' events as classes of such."""
        classes, table = attributes.classes(features), attributes.class_table()
        found, split = [], split_by_size(mask, _SIZES)
        for sets in split:
            members = sets.members(classes)
            if sets.size == 1:
                found.append(read_few(self.attention.of_lone_events(table), members[:, 0]))
            else:
                real = sets.members(mask)
                found.append(self.attention.mean_of_class_sets(table, members, real))
        return put_back(split, found, mask)

    def _described(self, features: State, fields: tf.Tensor | None) -> tf.Tensor:
        """All in which events of a group differ, [sets, events, width]."""
        parts = [] if fields is None else [tf.cast(fields, self.compute_dtype)]
        if self.attributes is not None:
            parts.append(tf.cast(self.attributes(features), self.compute_dtype))
        if not parts:
            raise ValueError(
                "events of a group differ in nothing here: there are neither times nor behavior "
                "types. Leave the aggregated attribute out."
            )
        return tf.concat(parts, axis=-1)

    def get_config(self) -> dict[str, Any]:
        attributes = self.attributes
        return {
            **super().get_config(),
            "attributes": None if attributes is None else tf.keras.layers.serialize(attributes),
            "heads": self.heads,
        }


@tf.keras.utils.register_keras_serializable("dgin_tf")
class GroupModule(InterestEncoder):
    """Eqs. (3)-(7): groups of the whole history, and multi-head target attention over them.

    The ages of events are counted back from the user's newest event: groups are cached before there
    is a candidate. Events whose key is out of vocabulary are a group like any other here; DGIN leaves
    them out (`events_of_known_keys`).

    State: `groups` e_g [users, groups, dim], `mask` bool and `keys` [users, groups]; the group of the
    newest event comes first.

    Args:
      key: what events are grouped by: `item_id`, another field of the history, or `session`.
      groups: G, how many groups are kept, the most recent ones.
      events: B, how many of a group's newest events the self-attention reads.
      statistics: embeds attr_s; None for none.
      aggregation: makes attr_a; None for none.
      attention: of the candidate over the groups; None for two heads.
    """

    def __init__(
        self,
        key: str = ITEM,
        groups: int = 100,
        events: int = 10,
        statistics: GroupStatistics | None = None,
        aggregation: GroupAggregation | None = None,
        attention: MultiHeadAttention | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        statistics, aggregation, attention = (
            tf.keras.layers.deserialize(layer) if isinstance(layer, dict) else layer
            for layer in (statistics, aggregation, attention)
        )
        self.key = key
        self.groups = groups
        self.events = events
        self.statistics = statistics
        self.aggregation = aggregation
        self.attention = attention or MultiHeadAttention(name="attention", dtype=self.dtype_policy)

    def encode(self, history: History, training: bool = False) -> State:
        """Describes the groups, which the history's features hold (`group`) or which are made here.

        Raises:
          ValueError: the history lacks the key or its embedding, or nothing describes a group.
        """
        del training
        if GROUP_MASK in history.features:
            return self.describe(history.features, history.embed, history.embedded_features)
        grouped = self.group(self.sorted_into_groups(history), history)
        return self.describe(grouped, history.embed, history.embedded_features)

    def sorted_into_groups(self, history: History) -> EventGroups:
        """The most recent groups of the interest key."""
        return group_events(self.keys(history), history.mask, self.groups, self.events)

    def group(self, groups: EventGroups, history: History) -> State:
        """What is looked at of the groups: ids, seconds and counts, nothing that is learned.

        Args:
          groups: what `sorted_into_groups` gave.
          history: raw features [users, time]. Where events are the newest of their groups alone, as an
            index holds them, `hist_total_<statistic>` are the statistics of each event's group.

        Returns:
          Features of a batch, `hist_group_*`: `mask` bool and `keys` [users, groups]; every statistic
          [users, groups]; where a group shares fields, `newest_<field>` [users, groups], its newest
          event's; and of the newest events, where there is an aggregated attribute, `event_mask` bool
          and `event_<attribute>`, [users, groups, events], oldest first.
        """
        found = {GROUP_MASK: groups.mask, GROUP_KEYS: groups.keys}
        shared, differing = self._fields(history.embedded_features)
        names = history.embedded_features
        if shared:
            for name in names:
                value = _of_events(history.features[name], groups.newest)
                found[NEWEST + _field(name)] = tf.where(groups.mask, value, 0)
        if self.statistics is not None:
            for name, value in self._counted(self.statistics, groups, history).items():
                found[GROUPED + name] = value
        if self.aggregation is not None:
            raw = _attributes(history, self.aggregation.attributes)
            if differing:
                raw.update({_field(name): history.features[name] for name in names})
            for name, value in raw.items():
                value = _of_events(value, groups.places)
                found[EVENT + name] = tf.where(groups.event_mask, value, 0)
            found[EVENT_MASK] = groups.event_mask
        return found

    def _counted(
        self, statistics: GroupStatistics, groups: EventGroups, history: History
    ) -> dict[str, tf.Tensor]:
        """The statistics: running ones where events carry them, otherwise of the events themselves."""
        names = statistics.names
        if TOTAL + names[0] not in history.features:
            return statistics.count(groups, self.keys(history), history)
        found = {name: _of_events(history.features[TOTAL + name], groups.newest) for name in names}
        return {name: tf.where(groups.mask, value, 0) for name, value in found.items()}

    def describe(
        self, grouped: Mapping[str, tf.Tensor], embed: Any, names: tuple[str, ...]
    ) -> State:
        """e_g of every group: everything that is learned, of what `group` gave.

        Args:
          grouped: `hist_group_*`.
          embed: embeds raw history features, see `History.embed`.
          names: of the raw features that `embed` reads.
        """
        shared, differing = self._fields(names)
        mask, parts = grouped[GROUP_MASK], []
        if shared:
            identity = _embedded(grouped, NEWEST, embed, names, shared)  # attr_i
            parts.append(tf.where(mask[..., tf.newaxis], identity, tf.zeros([], identity.dtype)))
        if self.statistics is not None:
            statistics = self.statistics.names
            counted = {name: grouped[GROUPED + name] for name in statistics}
            parts.append(self.statistics(counted, mask))
        if self.aggregation is not None:
            fields = _embedded(grouped, EVENT, embed, names, differing) if differing else None
            attributes = self.aggregation.attributes
            raw = {
                name: grouped[EVENT + name]
                for name in (attributes.names if attributes is not None else ())
            }
            parts.append(self.aggregation(raw, grouped[EVENT_MASK], fields))
        if not parts:
            raise ValueError(
                f"groups by {self.key!r} share no field; describe them by statistics or aggregation."
            )
        described = tf.concat([tf.cast(part, self.compute_dtype) for part in parts], axis=-1)
        return {"groups": described, "mask": mask, "keys": grouped[GROUP_KEYS]}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Eq. (7).

        Returns:
          `interest` [users, candidates, dim of a group] and `attention`
          [users, candidates, heads, groups]; both zero for an empty history.
        """
        del training
        interest, weights = self.attention(target.embedding, state["groups"], state["mask"])
        return {"interest": interest, "attention": weights}

    def keys(self, history: History) -> tf.Tensor:
        """The interest key of every event, [users, time]."""
        name = TIMESTAMP if self.key == SESSION else f"hist_{self.key}"
        if name not in history.features:
            raise ValueError(
                f"grouping by {self.key!r} needs the feature {name!r}; the history has "
                f"{sorted(history.features)}. Name another field of the schema."
            )
        if self.key == SESSION:
            return session_keys(history.features[name], history.mask)
        return history.features[name]

    def _fields(self, names):
        """Places of the embedded fields that a group's events share, and of the others.

        An item has one category; other keys say nothing of the other fields.
        """
        if self.key == ITEM:
            return list(range(len(names))), []
        shared = [place for place, name in enumerate(names) if name == f"hist_{self.key}"]
        return shared, [place for place in range(len(names)) if place not in shared]

    def get_config(self) -> dict[str, Any]:
        def serialize(layer):
            return None if layer is None else tf.keras.layers.serialize(layer)

        return {
            **super().get_config(),
            "key": self.key,
            "groups": self.groups,
            "events": self.events,
            "statistics": serialize(self.statistics),
            "aggregation": serialize(self.aggregation),
            "attention": serialize(self.attention),
        }


def events_of_known_keys(history: History, key: str) -> History:
    """The same arrays with the events masked whose key is out of vocabulary."""
    mask = history.mask & (history.features[f"hist_{key}"] >= FIRST_ID)
    return history_of(history.features, mask, history.embed, history.embedded_features)


def _attributes(history: History, attributes: EventAttributes | None) -> State:
    """Raw attributes of the events, [users, time], as `attributes` wants them."""
    found: State = {}
    if attributes is not None and attributes.times:
        times = tf.where(history.mask, history.features[TIMESTAMP], 0)
        found[GAP] = _since_newest(times)
    for name in attributes.event_features if attributes is not None else ():
        found[_field(name)] = history.features[name]
    return found


def _since_newest(times: tf.Tensor) -> tf.Tensor:
    """Seconds from each event to the newest one, [users, time]."""
    newest = tf.reduce_max(tf.pad(times, [[0, 0], [0, 1]]), axis=1, keepdims=True)
    return newest - times


def _embedded(
    grouped: Mapping[str, tf.Tensor],
    prefix: str,
    embed: Any,
    names: tuple[str, ...],
    fields: list[int],
) -> tf.Tensor:
    """Embeddings of some fields of the events under a prefix, ids' shape + [width]."""
    if embed is None:
        raise ValueError("groups are made of ids; they need History.embed to be embedded.")
    found = embed({name: grouped[prefix + _field(name)] for name in names})
    by_field = tf.split(found, len(names), axis=-1)
    return tf.concat([by_field[field] for field in fields], axis=-1)


def _field(name: str) -> str:
    return name.removeprefix(PREFIX[HISTORY])


def _of_events(values: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Values [users, time] at `places` [users, ...]; zero behind the last event."""
    # One event more, so that a time axis of no length can be read.
    return tf.gather(tf.pad(values, [[0, 0], [0, 1]]), places, batch_dims=1)
