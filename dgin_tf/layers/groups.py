"""The group module of DGIN (Liu et al., 2023), section 3.3: a long history as a few interest groups.

Events are grouped by an interest key. A group is described by what its events share (identity), by
how many they are (statistics, Eq. 3) and by when and of which kind each was (Eqs. 4-6); a candidate
then attends to the groups (Eq. 7). All but the last step depends on the user alone and is what
serving keeps.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.event_attributes import (
    BEHAVIOR_TYPE,
    GAP,
    HIST_BEHAVIOR_TYPE,
    EventAttributes,
)
from dgin_tf.layers.group_statistics import GroupStatistics
from dgin_tf.layers.interest_encoder import History, InterestEncoder, State, Target
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.self_attention import MultiHeadSelfAttention
from dgin_tf.layers.stored_events import TIMESTAMP
from dgin_tf.ops.grouping import EventGroups, group_events, newest_members, session_keys

ITEM, SESSION = "item_id", "session"


@tf.keras.utils.register_keras_serializable("dgin_tf")
class GroupAggregation(tf.keras.layers.Layer):
    """Eqs. (4)-(6): self-attention within a group over what tells its events apart, and the mean.

    Args:
      attributes: embeds age and behaviour type; None for neither.
      heads: h.
    """

    def __init__(self, attributes: EventAttributes | None = None, heads: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        if isinstance(attributes, dict):
            attributes = tf.keras.layers.deserialize(attributes)
        self.attributes = attributes
        self.heads = heads
        self.attention = MultiHeadSelfAttention(heads, name="attention", dtype=self.dtype_policy)

    def call(
        self, features: State, member: tf.Tensor, longest: int, fields: tf.Tensor | None = None
    ) -> tf.Tensor:
        """attr_a of every group.

        Args:
          features: raw `gap` and `behavior_type` of the events by group, [users, time].
          member: which events are in which group, bool [users, groups, time].
          longest: no group has more events than this.
          fields: embedded fields in which a group's events differ, [users, time, dim].

        Returns:
          [users, groups, width]; zero where a group has no events.

        Raises:
          ValueError: there is nothing in which events differ.
        """
        parts = [] if fields is None else [tf.cast(fields, self.compute_dtype)]
        if self.attributes is not None:
            parts.append(tf.cast(self.attributes(features), self.compute_dtype))
        if not parts:
            raise ValueError(
                "events of a group differ in nothing here: there are neither times nor behaviour "
                "types. Leave the aggregated attribute out."
            )
        return self.attention.mean_of_sets(tf.concat(parts, axis=-1), member, longest)

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
    is a candidate. Events whose key is out of vocabulary are one group.

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
        """Describes the groups.

        Raises:
          ValueError: the history lacks the key or its embedding, or nothing describes a group.
        """
        del training
        keys = self.keys(history)
        groups = group_events(keys, history.mask, self.groups, self.events)
        shared, differing = self._fields(history)
        parts = []
        if shared:
            parts.append(_embedded(history, groups.newest, shared))  # attr_i
        if self.statistics is not None:
            parts.append(self.statistics(self.statistics.count(groups, keys, history)))
        if self.aggregation is not None:
            fields = _embedded(history, groups.order, differing) if differing else None
            attributes = _attributes(history, groups, self.aggregation.attributes)
            member = newest_members(groups, self.events)
            parts.append(self.aggregation(attributes, member, self.events, fields))
        if not parts:
            raise ValueError(
                f"groups by {self.key!r} share no field; describe them by statistics or aggregation."
            )
        described = tf.concat([tf.cast(part, self.compute_dtype) for part in parts], axis=-1)
        described = tf.where(groups.mask[..., tf.newaxis], described, tf.zeros([], described.dtype))
        return {"groups": described, "mask": groups.mask, "keys": groups.keys}

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

    def _fields(self, history):
        """Places of the embedded fields that a group's events share, and of the others.

        An item has one category; other keys say nothing of the other fields.
        """
        names = history.embedded_features
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


def _attributes(history: History, groups: EventGroups, attributes: EventAttributes | None) -> State:
    """Raw attributes of the events by group, as `attributes` wants them."""
    found: State = {}
    if attributes is not None and attributes.times:
        times = tf.where(history.mask, history.features[TIMESTAMP], 0)
        found[GAP] = _since_newest(times)
    if attributes is not None and attributes.behavior_types:
        found[BEHAVIOR_TYPE] = history.features[HIST_BEHAVIOR_TYPE]
    return {name: _of_events(value, groups.order) for name, value in found.items()}


def _since_newest(times: tf.Tensor) -> tf.Tensor:
    """Seconds from each event to the newest one, [users, time]."""
    newest = tf.reduce_max(tf.pad(times, [[0, 0], [0, 1]]), axis=1, keepdims=True)
    return newest - times


def _embedded(history: History, places: tf.Tensor, fields: list[int]) -> tf.Tensor:
    """Embeddings of some fields of the events at `places` [users, ...], [users, ..., width]."""
    if history.embed is None:
        raise ValueError("groups are made of ids; they need History.embed to be embedded.")
    names = history.embedded_features
    found = history.embed({name: _of_events(history.features[name], places) for name in names})
    by_field = tf.split(found, len(names), axis=-1)
    return tf.concat([by_field[field] for field in fields], axis=-1)


def _of_events(values: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Values [users, time] at `places` [users, ...]; zero behind the last event."""
    # One event more, so that a time axis of no length can be read.
    return tf.gather(tf.pad(values, [[0, 0], [0, 1]]), places, batch_dims=1)
