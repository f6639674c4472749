"""Attributes that events have and candidates have not: when and where, and of which type (DGIN, 3.3.2)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.group_spec import GAP
from dgin_tf.layers.configured import ConfiguredLayer
from dgin_tf.layers.events import History, only
from dgin_tf.layers.time_gap import BUCKETS, GapEmbedding, gap_buckets, gap_starts
from dgin_tf.ops.masking import is_among
from dgin_tf.ops.tables import read_few
from dgin_tf.schema import BEHAVIOR_TYPE, HISTORY, check_features


class EventAttributes(ConfiguredLayer):
    """Embeds age, behavior type and side features of events, side by side, from tables of its own.

    Args:
      dim: width of one attribute's embedding.
      times: whether ages are embedded, in buckets whose width grows with them (`gap_buckets`).
      behavior_types: ids of behavior types with the reserved ones, 0 where there are no types.
      side_features: name -> ids, with the reserved ones, of what else tells events apart, such as
        `location`.

    Raises:
      ValueError: there is no attribute to embed.

    Example:

      >>> layer = EventAttributes(dim=4, side_features={"location": 9})
      >>> hours = tf.constant([[3600, 0]])
      >>> layer({"gap": hours, "location": tf.constant([[2, 5]])}).shape
      TensorShape([1, 2, 8])
    """

    def __init__(
        self,
        dim: int = 18,
        times: bool = True,
        behavior_types: int = 0,
        side_features: Mapping[str, int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not (times or behavior_types or side_features):
            raise ValueError(
                "events have neither times nor behavior types nor side features here; leave the "
                "attributes out."
            )
        self.dim = dim
        self.times = times
        self.behavior_types = behavior_types
        self.side_features = dict(side_features or {})
        self.gaps = GapEmbedding(dim, name=GAP, dtype=self.dtype_policy) if times else None

    @property
    def width(self) -> int:
        """Width of an event's attributes."""
        return self.dim * (self.times + len(self._ids))

    @property
    def _ids(self) -> dict[str, int]:
        """Attribute -> number of its ids, of all but the age."""
        types = {BEHAVIOR_TYPE: self.behavior_types} if self.behavior_types else {}
        return {**types, **self.side_features}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the attributes that `call` takes."""
        return (*([GAP] if self.times else []), *self._ids)

    @property
    def event_features(self) -> tuple[str, ...]:
        """Names of the raw history features that are read, times left out."""
        return tuple(self._ids)

    def build(self, input_shape: Any) -> None:
        tables = {
            name: self.add_weight(name, [size, self.dim], initializer="glorot_uniform")
            for name, size in self._ids.items()
        }
        self.table = tables.pop(BEHAVIOR_TYPE, None)  # where checkpoints have always had it
        self.side_tables = tables
        super().build(input_shape)

    def call(self, attributes: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Embeds attributes.

        Args:
          attributes: `gap`, seconds, where times are embedded, and ids of `behavior_type` and of side
            features, where those are; integers [...].

        Returns:
          [..., width].
        """
        parts = []
        if self.gaps is not None:
            parts.append(self.gaps(attributes[GAP]))
        for name in self._ids:
            table = self.table if name == BEHAVIOR_TYPE else self.side_tables[name]
            parts.append(read_few(tf.convert_to_tensor(table), attributes[name]))
        return tf.concat(parts, axis=-1)

    @property
    def class_count(self) -> int:
        """Number of different embeddings: buckets of ages times ids of every other attribute."""
        return (BUCKETS if self.times else 1) * math.prod(self._ids.values())

    def classes(self, attributes: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Rows of `class_table` that hold each event's embedding, int32 [...]; see `call`."""
        row = gap_buckets(attributes[GAP]) if self.times else tf.zeros([], tf.int32)
        for name, size in self._ids.items():  # digits of a number, the age first
            row = row * size + tf.cast(attributes[name], tf.int32)
        return row

    def class_table(self) -> tf.Tensor:
        """The embeddings of all classes, [class_count, width]."""
        rest, attributes = tf.range(self.class_count), {}
        for name, size in reversed(self._ids.items()):
            rest, attributes[name] = rest // size, rest % size
        if self.times:
            attributes[GAP] = tf.gather(tf.constant(gap_starts(), tf.int64), rest)
        return self(attributes)


def events_of_types(history: History, type_ids: Sequence[int]) -> History:
    """Masks the events of other behavior types."""
    check_features(history.features, [BEHAVIOR_TYPE], HISTORY)
    return only(history, is_among(history.features[BEHAVIOR_TYPE], type_ids))
