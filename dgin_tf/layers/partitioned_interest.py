"""Interests by parts of a history, whatever its order: the encoder of NINN (Zhao et al., 2021)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from dgin_tf.layers.events import History, State, Target, embed_events_at
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.self_attention import SelfAttentionEncoder
from dgin_tf.layers.target_attention import ActivationUnit, TargetAttention
from dgin_tf.ops.event_order import order_events
from dgin_tf.schema import check_positive

EVENTS, MASK, PART = "events", "mask", "part"
PART_NAMES, PART_MASK = "part_names", "part_mask"


class PartitionedInterest(InterestEncoder):
    """Different items, weighed as DIN weighs events and summed in each category; the sums interact by
    self-attention, and the candidate reads them.

    State: `events` [users, time, dim]; `mask` bool, True for the newest event of every item, and
    `part` int32 [users, time]; `part_names` [users, parts + 1, width] and `part_mask` bool.

    Args:
      dim: width of an event.
      key: field of which every value counts once.
      field: field that parts share; one of those that are embedded.
      parts: P, how many parts are kept, the largest; all others are one more.
      units: hidden layers of DIN's activation unit.
      heads: of both attentions.

    Example:

      >>> table = tf.Variable(tf.random.normal([9, 4]))
      >>> items = tf.constant([[3, 5, 3, 8]])
      >>> features = {"item_id": items, "category_id": 2 + items % 3}
      >>> events = tf.gather(table, features["category_id"])
      >>> history = History(events, items > 0, features, tables={"category_id": table})
      >>> PartitionedInterest(4, parts=2)(tf.random.normal([1, 3, 4]), history)["interest"].shape
      TensorShape([1, 3, 4])
    """

    def __init__(
        self,
        dim: int,
        key: str = "item_id",
        field: str = "category_id",
        parts: int = 50,
        units: Sequence[int] = (36,),
        heads: int = 2,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.dim = dim
        self.key = key
        self.field = field
        self.parts = parts
        self.units = tuple(units)
        self.heads = heads
        unit = ActivationUnit(self.units, name="unit", dtype=policy)
        self.weighing = TargetAttention(unit, name="weighing", dtype=policy)
        self.naming = tf.keras.layers.Dense(dim, use_bias=False, name="naming", dtype=policy)
        self.encoder = SelfAttentionEncoder(heads, name="encoder", dtype=policy)
        self.attention = MultiHeadAttention(heads, name="attention", dtype=policy)

    def encode(self, history: History, training: bool = False) -> State:
        """Drops repetitions and cuts what is left into parts.

        Raises:
          ValueError: the history lacks one of the fields.
        """
        names = [self.key, self.field]
        if names[0] not in history.features or names[1] not in history.tables:
            raise ValueError(
                f"parts by {self.field!r} of different {self.key!r} need the features {names}; the "
                f"history has {sorted(history.features)}. Name other fields of the schema."
            )
        mask = newest_of_each(history.features[names[0]], history.mask)
        cut = partition(history.features[names[1]], mask, self.parts)
        firsts = embed_events_at(history, cut.places, cut.mask[:, :-1], self.compute_dtype)
        fields = tf.split(firsts, len(history.tables), axis=-1)
        own = fields[list(history.tables).index(names[1])]
        return {
            EVENTS: history.events,
            MASK: mask,
            PART: cut.part,
            PART_NAMES: tf.pad(own, [[0, 0], [0, 1], [0, 0]]),  # all others have no name
            PART_MASK: cut.mask,
        }

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Weighs, sums and reads.

        Returns:
          `interest` [users, candidates, dim], `attention` [users, candidates, heads, parts + 1] and
          `weights` [users, candidates, time]; all zero for an empty history.
        """
        events = state[EVENTS]
        weights = self.weighing(
            target.embedding, events, state[MASK], query_mask=target.mask, training=training
        )
        sums = sum_in_parts(tf.cast(weights, events.dtype), events, state[PART], self.parts + 1)
        mask = tf.broadcast_to(state[PART_MASK][:, tf.newaxis], tf.shape(sums)[:-1])
        tokens = sums + self.naming(state[PART_NAMES])[:, tf.newaxis]
        interest, attention = self.attention(target.embedding, self.encoder(tokens, mask), mask)
        return {"interest": interest, "attention": attention, "weights": weights}


class Partition(NamedTuple):
    """The largest parts of every history and, last, one for all others.

    Attributes:
      part: which part each event is in, int32 [users, time]; `parts` is that of all others, and of no
        meaning under the mask.
      mask: True where there is a part, bool [users, parts + 1].
      places: where in time an event of each part is, int32 [users, parts]; zero where there is none.
    """

    part: tf.Tensor
    mask: tf.Tensor
    places: tf.Tensor


def newest_of_each(keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mask of the events that are the newest with their key, bool [users, time].

    Args:
      keys: integers below the highest number of their type, [users, time].
      mask: True where the event is real, bool [users, time].
    """
    order = order_events(keys, mask)
    behind = tf.pad(order.keys[:, 1:], [[0, 0], [0, 1]], constant_values=keys.dtype.max)
    is_last = order.keys != behind
    back = tf.argsort(order.places, axis=1)  # from the order by key to that in time
    return tf.gather(is_last, back, batch_dims=1) & mask


def partition(values: tf.Tensor, mask: tf.Tensor, parts: int) -> Partition:
    """Cuts histories into the parts whose events share a value.

    Args:
      values: integers below the highest number of their type, [users, time].
      mask: True where the event counts, bool [users, time].
      parts: P, how many parts to keep, the largest; of equal ones that of the lower value.

    Raises:
      ValueError: `parts` is below 1.
    """
    check_positive(parts=parts)
    by_value = order_events(values, mask)
    sentinel = values.dtype.max
    key = tf.pad(by_value.keys, [[0, 0], [0, parts]], constant_values=sentinel)
    place = tf.pad(by_value.places, [[0, 0], [0, parts]])
    start = tf.searchsorted(key, key, side="left")
    size = tf.searchsorted(key, key, side="right") - start
    is_first = (start == tf.range(tf.shape(key)[1])) & (key < sentinel)
    sizes, first = tf.math.top_k(tf.where(is_first, size, 0), parts)
    real = sizes > 0
    value = tf.where(real, tf.gather(key, first, batch_dims=1), sentinel)
    # Parts in the order of their values, so that an event finds its own by binary search.
    order = tf.argsort(value, axis=1, stable=True)
    value, first, real = (tf.gather(v, order, batch_dims=1) for v in (value, first, real))
    near = tf.minimum(tf.searchsorted(value, values, side="left"), parts - 1)
    is_own = tf.gather(value, near, batch_dims=1) == values
    part = tf.where(is_own, near, parts)
    rest = tf.reduce_any(mask & ~is_own, axis=1, keepdims=True)
    places = tf.where(real, tf.gather(place, tf.where(real, first, 0), batch_dims=1), 0)
    return Partition(part, tf.concat([real, rest], axis=1), places)


def sum_in_parts(weights: tf.Tensor, values: tf.Tensor, part: tf.Tensor, parts: int) -> tf.Tensor:
    """Weighted sums of the events of each part, for every candidate.

    Args:
      weights: [users, candidates, time], zero where an event does not count.
      values: [users, time, dim].
      part: int32 [users, time].
      parts: how many there are.

    Returns:
      [users, candidates, parts, dim].
    """
    member = tf.one_hot(part, parts, dtype=weights.dtype, axis=1)  # [users, parts, time]
    users, candidates, time = tf.unstack(tf.shape(weights))
    rows = weights[:, :, tf.newaxis] * member[:, tf.newaxis]
    rows = tf.reshape(rows, [users, candidates * parts, time])
    return tf.reshape(tf.matmul(rows, values), [users, candidates, parts, values.shape[-1]])
