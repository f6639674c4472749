"""Clicks with what happened around them: the encoder of TEM4CTR (Zhang et al., 2023)."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.event_attributes import events_of_types
from dgin_tf.layers.events import History, State, Target, embed_events_at
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.target_attention import ActivationUnit, TargetAttention, attend, read_each
from dgin_tf.ops.event_order import newest_events
from dgin_tf.schema import BEHAVIOR_TYPE, check_positive

CLICKS, AROUND, MASK = "clicks", "around", "mask"
_TINY = 1e-12  # of the released code; the projection onto nothing is nothing


class AlignedEvents(InterestEncoder):
    """Every click c_t summarizes the other events around it by attention, u_t; what of u_t lies along
    c_t is added to the click, and a candidate attends to both sequences.

    Without other types there is nothing to summarize, and the interest is that of DIN with a softmax.

    State: `clicks` c_t + shared_t and, with other types, `around` u_t [users, clicks, dim]; `mask` bool
    [users, clicks].

    Args:
      click_types: ids of the behavior types that are clicks; () where all events are.
      other_types: ids of those that are aligned with them; () for none.
      clicks: T, how many of the newest clicks are read.
      nearest: R, how many other events on either side of a click.
      units: hidden layers of the three attention networks, ReLU in between.

    Raises:
      ValueError: `clicks` or `nearest` is below 1.

    Example:

      >>> layer = AlignedEvents(clicks=4)
      >>> history = tf.random.normal([2, 6, 8]), tf.ones([2, 6], tf.bool)
      >>> layer(tf.random.normal([2, 3, 8]), history)["interest"].shape
      TensorShape([2, 3, 8])
    """

    def __init__(
        self,
        click_types: Sequence[int] = (),
        other_types: Sequence[int] = (),
        clicks: int = 30,
        nearest: int = 5,
        units: Sequence[int] = (80, 40),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_positive(clicks=clicks, nearest=nearest)
        self.click_types = tuple(click_types)
        self.other_types = tuple(other_types)
        self.clicks = clicks
        self.nearest = nearest
        self.units = tuple(units)
        self.event_features = (BEHAVIOR_TYPE,) if self.click_types else ()

        def attention(name: str) -> TargetAttention:
            unit = ActivationUnit(self.units, "relu", name="unit", dtype=self.dtype_policy)
            return TargetAttention(unit, softmax=True, name=name, dtype=self.dtype_policy)

        self.click_attention = attention("click_attention")
        if self.other_types:
            self.alignment = attention("alignment")
            self.around_attention = attention("around_attention")

    def encode(self, history: History, training: bool = False) -> State:
        """Gathers clicks and the events around them."""
        own = events_of_types(history, self.click_types) if self.click_types else history
        places, mask = newest_events(own.mask, self.clicks)
        clicks = embed_events_at(history, places, mask, self.compute_dtype)
        if not self.other_types:
            return {CLICKS: clicks, MASK: mask}
        others = events_of_types(history, self.other_types).mask
        near, is_near = nearest_events(places, others, self.nearest)
        is_near &= mask[..., tf.newaxis]
        events = embed_events_at(history, near, is_near, self.compute_dtype)
        dim = clicks.shape[-1]
        # Every click is a user of its own, with one query.
        query = tf.reshape(clicks, [-1, 1, dim])
        keys = tf.reshape(events, [-1, 2 * self.nearest, dim])
        is_near = tf.reshape(is_near, [-1, 2 * self.nearest])
        weights = self.alignment(query, keys, is_near, training=training)
        around = tf.reshape(attend(weights, keys), tf.shape(clicks))
        return {CLICKS: clicks + project_onto(around, clicks), AROUND: around, MASK: mask}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Interests of the clicks, and of the events around them.

        Returns:
          `interest` [users, candidates, dim], or twice as wide with other types, and the weights of
          the clicks, `attention` and `around_attention` [users, candidates, clicks]; all zero where
          there are no clicks.
        """
        layers = {"attention": (self.click_attention, state[CLICKS])}
        if self.other_types:
            layers["around_attention"] = self.around_attention, state[AROUND]
        return read_each(layers, state[MASK], target, training)


def nearest_events(places: tf.Tensor, others: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Other events right before and right after some events.

    Args:
      places: where in time the events are, int32 [users, events].
      others: which events are others, bool [users, time]; none of the former is among them.
      count: R, how many to take on either side.

    Returns:
      Places, oldest first, int32 [users, events, 2 * count], zero where there is nothing; and whether
      there is something, bool.
    """
    # One event more, so that a time axis of no length can be read.
    number = tf.pad(tf.cumsum(tf.cast(others, tf.int32), axis=1), [[0, 0], [1, 0]])
    before = tf.gather(number, places, batch_dims=1)
    rank = before[..., tf.newaxis] + tf.range(1 - count, count + 1)  # [users, events, 2 * count]
    is_event = (rank >= 1) & (rank <= number[:, -1, tf.newaxis, tf.newaxis])
    # The n-th of the others is where their number reaches n.
    flat = tf.reshape(rank, [tf.shape(rank)[0], -1])
    near = tf.searchsorted(number, flat, side="left") - 1
    return tf.where(is_event, tf.reshape(near, tf.shape(rank)), 0), is_event


def project_onto(vectors: tf.Tensor, onto: tf.Tensor) -> tf.Tensor:
    """The components of vectors [..., dim] along others [..., dim]; zero along zero."""
    product = tf.reduce_sum(vectors * onto, axis=-1, keepdims=True)
    square = tf.reduce_sum(tf.square(onto), axis=-1, keepdims=True)
    return product / (square + _TINY) * onto
