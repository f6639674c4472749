"""What an event has and a candidate has not: when it was and what was done (DGIN, section 3.3.2)."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.interest_encoder import History, State
from dgin_tf.layers.stored_events import history_of
from dgin_tf.layers.time_gap import BUCKETS, GapEmbedding, gap_buckets, gap_starts
from dgin_tf.ops.tables import read_few

GAP, BEHAVIOR_TYPE = "gap", "behavior_type"
HIST_BEHAVIOR_TYPE = "hist_" + BEHAVIOR_TYPE


@tf.keras.utils.register_keras_serializable("dgin_tf")
class EventAttributes(tf.keras.layers.Layer):
    """Embeds the age and the behaviour type of events, side by side, from tables of its own.

    Args:
      dim: width of one attribute's embedding.
      times: whether ages are embedded, in buckets whose width grows with them (`gap_buckets`).
      behavior_types: ids of behaviour types with the reserved ones, 0 where there are no types.

    Raises:
      ValueError: there is no attribute to embed.
    """

    def __init__(self, dim: int = 18, times: bool = True, behavior_types: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        if not (times or behavior_types):
            raise ValueError(
                "events have neither times nor behaviour types here; leave the attributes out."
            )
        self.dim = dim
        self.times = times
        self.behavior_types = behavior_types
        self.gaps = GapEmbedding(dim, name=GAP, dtype=self.dtype_policy) if times else None

    @property
    def width(self) -> int:
        """Width of what `call` gives."""
        return self.dim * (self.times + (self.behavior_types > 0))

    @property
    def event_features(self) -> tuple[str, ...]:
        """Names of the raw history features that are read, times left out."""
        return (HIST_BEHAVIOR_TYPE,) if self.behavior_types else ()

    def build(self, input_shape: Any) -> None:
        if self.behavior_types:
            self.table = self.add_weight(
                BEHAVIOR_TYPE, [self.behavior_types, self.dim], initializer="glorot_uniform"
            )
        super().build(input_shape)

    def call(self, attributes: State) -> tf.Tensor:
        """Embeds attributes.

        Args:
          attributes: `gap`, seconds, where times are embedded, and `behavior_type`, ids, where those
            are; integers [...].

        Returns:
          [..., width].
        """
        parts = []
        if self.gaps is not None:
            parts.append(self.gaps(attributes[GAP]))
        if self.behavior_types:
            parts.append(read_few(tf.convert_to_tensor(self.table), attributes[BEHAVIOR_TYPE]))
        return tf.concat(parts, axis=-1)

    @property
    def class_count(self) -> int:
        """How many different embeddings there are: ages' buckets times behaviour types."""
        return (BUCKETS if self.times else 1) * max(self.behavior_types, 1)

    def classes(self, attributes: State) -> tf.Tensor:
        """Which of the embeddings of `class_table` each event has, int32 [...]; see `call`."""
        found = gap_buckets(attributes[GAP]) if self.times else tf.zeros([], tf.int32)
        if self.behavior_types:
            found = found * self.behavior_types + tf.cast(attributes[BEHAVIOR_TYPE], tf.int32)
        return found

    def class_table(self) -> tf.Tensor:
        """The embeddings of all classes, [class_count, width]."""
        types = max(self.behavior_types, 1)
        return self(
            {
                GAP: tf.repeat(tf.constant(gap_starts(), tf.int64), types),
                BEHAVIOR_TYPE: tf.tile(tf.range(types), [self.class_count // types]),
            }
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dim": self.dim,
            "times": self.times,
            "behavior_types": self.behavior_types,
        }


def events_of_types(history: History, type_ids: Sequence[int]) -> History:
    """The same arrays with the events of other behaviour types masked."""
    kinds = history.features[HIST_BEHAVIOR_TYPE]
    kept = tf.reduce_any(kinds[..., tf.newaxis] == tf.constant(list(type_ids), kinds.dtype), -1)
    mask = history.mask & kept
    return history_of(history.features, mask, history.embed, history.embedded_features)
