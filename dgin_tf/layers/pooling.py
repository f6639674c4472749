"""Pooled histories: the multi-hot groups of Embedding&MLP (DIN, section 4.2).

A pooled history knows nothing of the candidate, and its state is as small as one event.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.events import History, State, Target, embed_padding, event_fields
from dgin_tf.layers.interest_encoder import InterestEncoder


class Pooling(InterestEncoder):
    """Sum or mean of the past events, the same for every candidate.

    State: `sum` [users, dim] in float32 and `count` [users, 1], so that newer events fold in exactly.

    Example:

      >>> target, events = tf.random.normal([2, 3, 8]), tf.random.normal([2, 100, 8])
      >>> Pooling(mean=True)(target, (events, tf.fill([2, 100], True)))["interest"].shape
      TensorShape([2, 3, 8])

    Args:
      mean: whether to divide by the number of events (1 for none).
      product: whether the candidate's embedding times the pooled one joins the interest, as the
        heads of the released DIEN and the "PNN" of its tables have it.
      count_padding: whether padding is pooled like an event, as in the released DIEN, whose sums run
        over the whole padded length. The sum then depends on how far the batch was padded.
    """

    def __init__(
        self,
        mean: bool = False,
        product: bool = False,
        count_padding: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.mean = mean
        self.product = product
        self.count_padding = count_padding

    def encode(self, history: History, training: bool = False) -> State:
        """Sum and number of the events."""
        # Products with a row of ones and zeros, whose gradients are outer products.
        weights = tf.cast(history.mask, tf.float32)[:, tf.newaxis]
        fields = [tf.cast(field, tf.float32) for field in event_fields(history, self.compute_dtype)]
        total = tf.concat([tf.matmul(weights, field)[:, 0] for field in fields], axis=-1)
        count = tf.reduce_sum(tf.cast(history.mask, tf.float32), axis=1, keepdims=True)
        if self.count_padding:
            padding = embed_padding(history.tables, tf.float32)
            length = tf.cast(tf.shape(history.mask)[1], tf.float32)
            total += (length - count) * padding
            count = tf.ones_like(count) * length
        return {"sum": total, "count": count}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """The pooled history, and with `product` the candidate's product with it.

        Returns:
          `interest` [users, candidates, dim], or [users, candidates, 2 * dim] with `product`.
        """
        pooled_history = (
            state["sum"] / tf.maximum(state["count"], 1.0) if self.mean else state["sum"]
        )
        pooled_history = tf.cast(pooled_history, target.embedding.dtype)[:, tf.newaxis, :]
        candidates = tf.shape(target.embedding)[1]
        pooled_history = tf.repeat(pooled_history, candidates, axis=1)
        if self.product:
            pooled_history = tf.concat([pooled_history, target.embedding * pooled_history], axis=-1)
        return {"interest": pooled_history}

    def update(self, state: State, history: History) -> State:
        """Adds newer events; equal to one `encode` of the whole history up to rounding."""
        newer = self.encode(history)
        return {name: state[name] + newer[name] for name in newer}

    @property
    def is_incremental(self) -> bool:
        """True where `update` ends where `encode` does: not where padding counts."""
        return not self.count_padding
