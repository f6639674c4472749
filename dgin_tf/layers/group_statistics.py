"""Statistics of groups of events, cut into classes and embedded (DGIN, Eq. 3)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dgin_tf.layers.events import History, State
from dgin_tf.ops.grouping import EventGroups, count_distinct, count_values, mean_amounts
from dgin_tf.ops.tables import read_few
from dgin_tf.schema import BEHAVIOR_TYPE, FIRST_ID

COUNT, TYPES, MEAN = "count", "types", "mean_"
_HIGHEST = 10_000  # the longest history of the paper
_HIGHEST_MEAN = 1 << 30  # as means are stored, about a million


def log_edges(highest: int = _HIGHEST) -> list[int]:
    """Two classes for every doubling: 1, 2, 3, 4, 6, 8, 12, 16, ... up to `highest`.

    Below the first edge is zero. Small counts, which most are, have classes of their own.
    """
    powers = 2 ** np.arange(0, np.log2(highest) + 1)
    edges = np.unique(np.concatenate([powers, 3 * powers // 2])).astype(int)
    return [int(edge) for edge in edges if 1 <= edge <= highest]


def quantile_edges(values: np.ndarray, classes: int = 16) -> list[int]:
    """Edges between classes that are about equally frequent in a sample of a training split.

    Args:
      values: counts of any shape.
      classes: how many classes at most; values that are frequent in themselves make fewer.

    Raises:
      ValueError: there are no values, or fewer than two classes are wanted.
    """
    if not np.size(values) or classes < 2:
        raise ValueError(
            f"edges need values and at least 2 classes; got {np.size(values)} values and {classes}."
        )
    inner = np.quantile(values, np.arange(1, classes) / classes, method="higher")
    edges = np.unique(inner.astype(int))
    return [int(edge) for edge in edges if edge > np.min(values)]


@tf.keras.utils.register_keras_serializable("dgin_tf")
class GroupStatistics(tf.keras.layers.Layer):
    """Embeds how many events a group has, of how many types, of each type, of how many items, and means.

    Means are of the numeric_features that the records hold, such as dwell time and what was paid, over those
    events of which they are known. What the records do not hold is left out and never taken for zero;
    a group without a known amount has a class of its own.

    Args:
      dim: width of one statistic's embedding.
      behavior_types: names of the counted types, in the order of their ids; () for none.
      type_ids: their ids; () for all types of a schema, from the first id on.
      distinct: names of fields whose different values are counted, such as `item_id` where groups
        are categories.
      numeric_features: names of the amounts whose means are taken, see `dgin_tf.numeric_features`; () for none.
      edges: statistic -> first value of every class but the lowest, rising; `log_edges` for those
        that are not named.

    Raises:
      ValueError: edges are given for an unknown statistic or do not rise.
    """

    def __init__(
        self,
        dim: int = 18,
        behavior_types: Sequence[str] = (),
        type_ids: Sequence[int] = (),
        distinct: Sequence[str] = (),
        numeric_features: Sequence[str] = (),
        edges: Mapping[str, Sequence[int]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.dim = dim
        self.behavior_types = tuple(behavior_types)
        self.type_ids = tuple(type_ids) or tuple(
            range(FIRST_ID, FIRST_ID + len(self.behavior_types))
        )
        self.distinct = tuple(distinct)
        self.numeric_features = tuple(numeric_features)
        self.edges = {name: list(values) for name, values in (edges or {}).items()}
        unknown = sorted(set(self.edges) - set(self.names))
        if unknown:
            raise ValueError(f"edges are for statistics among {self.names}; got {unknown}.")
        for name, values in self.edges.items():
            if any(after <= before for before, after in zip(values, values[1:], strict=False)):
                raise ValueError(f"edges of {name!r} must rise; got {values}.")

    @property
    def names(self) -> list[str]:
        """The statistics, in the order of their embeddings."""
        types = [TYPES, *(f"{COUNT}_{name}" for name in self.behavior_types)]
        return [
            COUNT,
            *(types if self.behavior_types else []),
            *(f"distinct_{name}" for name in self.distinct),
            *(MEAN + name for name in self.numeric_features),
        ]

    @property
    def event_features(self) -> tuple[str, ...]:
        """Names of the raw history features that are counted, keys left out."""
        types = (BEHAVIOR_TYPE,) if self.behavior_types else ()
        return (*types, *(f"hist_{name}" for name in (*self.distinct, *self.numeric_features)))

    def count(self, groups: EventGroups, keys: tf.Tensor, history: History) -> State:
        """Counts all events of each group, also those beyond its newest.

        Args:
          groups: what was made of the keys.
          keys: interest keys, [users, time].
          history: its raw features hold `event_features`.

        Returns:
          Statistic -> int32 [users, groups].
        """
        found = {COUNT: groups.counts}
        if self.behavior_types:
            types = history.features[BEHAVIOR_TYPE]
            per_type = count_values(groups, types, self.type_ids)
            found[TYPES] = tf.math.count_nonzero(per_type, axis=-1, dtype=tf.int32)
            for name, value in zip(self.behavior_types, tf.unstack(per_type, axis=-1), strict=True):
                found[f"{COUNT}_{name}"] = value
        for name in self.distinct:
            values = history.features[f"hist_{name}"]
            found[f"distinct_{name}"] = count_distinct(groups, keys, history.mask, values)
        for name in self.numeric_features:
            amounts = tf.where(history.mask, tf.cast(history.features[f"hist_{name}"], tf.int64), 0)
            found[MEAN + name] = mean_amounts(groups, amounts)
        return found

    def build(self, input_shape: Any) -> None:
        highest = [_HIGHEST_MEAN if name.startswith(MEAN) else _HIGHEST for name in self.names]
        self._edges = [
            self.edges.get(name) or log_edges(most)
            for name, most in zip(self.names, highest, strict=True)
        ]
        sizes = [len(edges) + 1 for edges in self._edges]
        self._offsets = [0, *np.cumsum(sizes)[:-1].tolist()]
        self.table = self.add_weight("table", [sum(sizes), self.dim], initializer="glorot_uniform")
        super().build(input_shape)

    def call(self, statistics: State, mask: tf.Tensor) -> tf.Tensor:
        """Embeds what `count` gave.

        Args:
          statistics: statistic -> integers [users, groups].
          mask: True where there is a group, bool [users, groups].

        Returns:
          [users, groups, width]; zero where there is no group.
        """
        rows = []
        for name, edges, offset in zip(self.names, self._edges, self._offsets, strict=True):
            value = statistics[name]
            bucket = tf.searchsorted(
                tf.constant(edges, value.dtype), tf.reshape(value, [-1]), side="right"
            )
            rows.append(offset + tf.reshape(bucket, tf.shape(value)))
        table = tf.convert_to_tensor(self.table)
        nothing = table.shape[0]  # of a row of zeros: ids are cheaper to mask than embeddings
        chosen = tf.where(mask[..., tf.newaxis], tf.stack(rows, axis=-1), nothing)
        found = read_few(tf.pad(table, [[0, 1], [0, 0]]), chosen)
        shape = [*tf.unstack(tf.shape(found)[:-2]), len(rows) * self.dim]
        return tf.reshape(found, shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dim": self.dim,
            "behavior_types": self.behavior_types,
            "type_ids": self.type_ids,
            "distinct": self.distinct,
            "numeric_features": self.numeric_features,
            "edges": {name: list(values) for name, values in self.edges.items()},
        }
