"""The group module of DGIN (Liu et al., 2023), section 3.3: a long history as a few interest groups.

A group's representation has three parts: the fields that its events share (identity), statistics such as
their count (Eq. 3), and their aggregated times and types (Eqs. 4-6). A candidate attends to the groups
(Eq. 7). Representations depend on the user alone, so that serving caches them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.group_spec import ITEM, GroupSpec
from dgin_tf.layers.configured import ConfiguredLayer, as_layer
from dgin_tf.layers.event_attributes import EventAttributes
from dgin_tf.layers.events import EVENTS, History, State, Tables, Target, mask_padding
from dgin_tf.layers.field_tables import read_values
from dgin_tf.layers.group_statistics import GroupStatistics
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.self_attention import MultiHeadSelfAttention
from dgin_tf.ops import self_attention
from dgin_tf.ops.fast import self_attention as fast_self_attention
from dgin_tf.ops.fast.sets import map_sets
from dgin_tf.ops.grouping import Groups, group_history

_MOST_CLASSES = 512  # of attributes, whose pairs have a table


class GroupAggregation(ConfiguredLayer):
    """Eqs. (4)-(6): self-attention within a group over the attributes of its events, and their mean.

        head_i = softmax(e_b W_Q,i (e_b W_K,i)^T / sqrt(d')) e_b W_V,i
        attr_a = mean(concat(head_1, ..., head_h) W_O)

    In its place a group module takes any layer that is called alike.

    Args:
      heads: h.
      fast: whether products are reordered for many small groups (`ops.fast.self_attention`), which gives
        the same numbers sooner; False computes the equations as they stand (`ops.self_attention`).

    Example:

      >>> layer = GroupAggregation(heads=2)
      >>> layer(tf.random.normal([7, 3, 8]), tf.ones([7, 3], tf.bool)).shape
      TensorShape([7, 8])
    """

    def __init__(self, heads: int = 2, fast: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = heads
        self.fast = fast
        self.attention = MultiHeadSelfAttention(heads, name="attention", dtype=self.dtype_policy)

    @property
    def reads_classes(self) -> bool:
        """True where `call` takes events as classes, which is faster where these are few."""
        return self.fast

    def build(self, input_shape: Any) -> None:
        self.attention.build(input_shape)
        super().build(input_shape)

    def call(
        self, events: tf.Tensor, mask: tf.Tensor, classes: tf.Tensor | None = None
    ) -> tf.Tensor:
        """attr_a of every group.

        Args:
          events: e_b, the newest events of each group, [groups, events, dim]; with `classes` an event of
            each class, [classes, dim].
          mask: True where there is an event, bool [groups, events].
          classes: which of these the events are, int32 [groups, events].

        Returns:
          [groups, dim]; zero for groups without events.
        """
        events, kernels = tf.cast(events, self.compute_dtype), self.attention.kernels
        if classes is not None:
            return fast_self_attention.mean_self_attention_of_classes(
                events, classes, mask, kernels
            )
        ops = fast_self_attention if self.fast else self_attention
        return ops.mean_self_attention(events, mask, kernels)


class GroupModule(InterestEncoder):
    """Eqs. (3)-(7): groups of the whole history, and multi-head target attention over them.

    The ages of events are counted back from the user's newest event: groups are cached before there
    is a candidate. Events whose key is padding or out of vocabulary are in no group.

    State: `groups` e_g [users, groups, dim], `mask` bool and `keys` [users, groups]; the group of the
    newest event comes first.

    Args:
      key: what events are grouped by: `item_id`, another field of the history, or `session`.
      groups: G, the most recent groups that remain; None for all, so that no event is discarded.
      events: B, a group's newest events that are aggregated.
      statistics: embeds attr_s; None for none.
      attributes: embeds what events have and candidates have not, for `aggregation`; None for nothing.
      aggregation: makes attr_a of a group's events e_b, called as `aggregation(events, mask)` with
        [groups, events, dim] and returning [groups, any width], such as `GroupAggregation`; None for
        none.
      attention: of the candidate over the groups; None for two heads.

    Raises:
      ValueError: there are attributes and nothing aggregates them.

    Example:

      >>> items = tf.constant([[7, 5, 7], [9, 9, 0]])
      >>> history = History(tf.random.normal([2, 3, 8]), items > 0, {"item_id": items})
      >>> outputs = GroupModule(key="item_id", groups=4)(tf.random.normal([2, 5, 8]), history)
      >>> outputs["interest"].shape, outputs["attention"].shape
      (TensorShape([2, 5, 8]), TensorShape([2, 5, 2, 4]))
    """

    reads_ids = True

    def __init__(
        self,
        key: str = ITEM,
        groups: int | None = None,
        events: int = 10,
        statistics: GroupStatistics | None = None,
        attributes: EventAttributes | None = None,
        aggregation: tf.keras.layers.Layer | None = None,
        attention: MultiHeadAttention | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.statistics: GroupStatistics | None = as_layer(statistics)
        self.attributes: EventAttributes | None = as_layer(attributes)
        self.aggregation: Any = as_layer(aggregation)
        self.attention: MultiHeadAttention = as_layer(attention) or MultiHeadAttention(
            name="attention", dtype=self.dtype_policy
        )
        if self.attributes is not None and self.aggregation is None:
            raise ValueError(
                "attributes of events need an aggregation, such as GroupAggregation()."
            )
        self.key = key
        self.groups = groups
        self.events = events

    def spec(self, fields: Sequence[str]) -> GroupSpec:
        """All that the module reads of a history.

        Args:
          fields: that events share with candidates, in the order in which they are concatenated.
        """
        # An item has one category; other keys say nothing of the other fields.
        identity = [name for name in fields if self.key in (ITEM, name)]
        attributes = []
        if self.aggregation is not None:
            attributes = [name for name in fields if name not in identity]
            attributes += [] if self.attributes is None else self.attributes.names
        statistics = None if self.statistics is None else self.statistics.statistics
        return GroupSpec(
            self.key, self.groups, self.events, tuple(identity), tuple(attributes), statistics
        )

    def prepare(self, history: History) -> History:
        """The history with its groups, which batches from a `GroupTransform` have already.

        Raises:
          ValueError: the history lacks the key, or events are ids without tables.
        """
        if history.groups is not None:
            return history
        if history.events is None and not history.tables:
            raise ValueError(
                "these events are ids and need tables to be embedded; pass History(..., tables=)."
            )
        features = {**history.features, EVENTS: history.events}
        spec = self.spec(_shared_fields(history))
        return history._replace(groups=group_history(features, history.mask, spec))

    def encode(self, history: History, training: bool = False) -> State:
        """e_g = [attr_i, attr_s, attr_a] of every group.

        Raises:
          ValueError: nothing describes a group.
        """
        groups, fields = history.groups, _shared_fields(history)
        if groups is None:
            raise ValueError("expected a history with groups; pass what prepare(history) gives.")
        parts = []
        if groups.identity:
            attr_i = tf.concat(self._embed(fields, groups.identity, history.tables), axis=-1)
            parts += [mask_padding(attr_i, groups.mask)]
        if self.statistics is not None:
            parts += [self.statistics(groups.statistics, groups.mask)]  # attr_s, Eq. (3)
        if self.aggregation is not None:
            parts += [self._aggregate(fields, groups, history.tables)]  # attr_a, Eqs. (4)-(6)
        if not parts:
            raise ValueError(
                f"groups by {self.key!r} share no field; describe them by statistics or aggregation."
            )
        embedding = tf.concat([tf.cast(part, self.compute_dtype) for part in parts], axis=-1)
        return {"groups": embedding, "mask": groups.mask, "keys": groups.keys}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Eq. (7).

        Returns:
          `interest` [users, candidates, dim of a group] and `attention`
          [users, candidates, heads, groups]; both zero for an empty history.
        """
        interest, weights = self.attention(target.embedding, state["groups"], state["mask"])
        return {"interest": interest, "attention": weights}

    def _aggregate(self, fields: Sequence[str], groups: Groups, tables: Tables) -> tf.Tensor:
        """attr_a of every group, [users, groups, width]."""
        if not groups.attributes:
            raise ValueError(
                "events of a group differ in nothing here: there are neither times nor behavior "
                "types. Leave the aggregated attribute out."
            )
        attributes, values = self.attributes, groups.attributes

        def aggregate(values, mask):
            parts = self._embed(fields, values, tables)
            if attributes is not None:
                parts += [tf.cast(attributes(values), self.compute_dtype)]
            return self.aggregation(tf.concat(parts, axis=-1), mask)

        def aggregate_classes(classes, mask):
            return self.aggregation(table, mask, classes=classes)

        if attributes is not None and self._reads_classes(fields, groups):
            table, values = attributes.class_table(), attributes.classes(values)
            aggregate = aggregate_classes
        return map_sets(aggregate, values, groups.event_mask)

    def _reads_classes(self, fields: Sequence[str], groups: Groups) -> bool:
        """True where events are of few classes, and the aggregation is faster for knowing them."""
        return (
            getattr(self.aggregation, "reads_classes", False)
            and not any(name in groups.attributes for name in fields)
            and self.attributes is not None
            and self.attributes.class_count <= _MOST_CLASSES
        )

    def _embed(
        self, fields: Sequence[str], values: Mapping[str, tf.Tensor], tables: Tables
    ) -> list[tf.Tensor]:
        """Those of the fields that there are values of, ids looked up in their tables."""
        parts = [
            read_values(tables[name], values[name]) if name in tables else values[name]
            for name in fields
            if name in values
        ]
        return [tf.cast(part, self.compute_dtype) for part in parts]


def _shared_fields(history: History) -> Sequence[str]:
    """The fields that events share with candidates, in their order.

    Events that came embedded are one field, of which nobody knows which columns are the key's.
    """
    return tuple(history.tables) or (EVENTS,)
