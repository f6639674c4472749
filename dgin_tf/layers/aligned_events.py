"""Clicks with what happened around them: the encoder of TEM4CTR (Zhang et al., 2023)."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.event_attributes import events_of_types
from dgin_tf.layers.events import History, State, Target, embed_events_at
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.target_attention import ActivationUnit, TargetAttention, attend, read_each
from dgin_tf.ops.alignment import nearest_events, project_onto
from dgin_tf.ops.event_order import newest_events
from dgin_tf.schema import BEHAVIOR_TYPE

CLICKS, AROUND, MASK = "clicks", "around", "mask"


@tf.keras.utils.register_keras_serializable("dgin_tf")
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
        if min(clicks, nearest) < 1:
            raise ValueError(f"clicks and nearest must be at least 1; got {clicks} and {nearest}.")
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
        """Finds clicks and what is around them."""
        own = events_of_types(history, self.click_types) if self.click_types else history
        places, mask = newest_events(own.mask, self.clicks)
        clicks = embed_events_at(history, places, mask, self.compute_dtype)
        if not self.other_types:
            return {CLICKS: clicks, MASK: mask}
        others = events_of_types(history, self.other_types).mask
        near, found = nearest_events(places, others, self.nearest)
        found &= mask[..., tf.newaxis]
        events = embed_events_at(history, near, found, self.compute_dtype)
        dim = clicks.shape[-1]
        query = tf.reshape(clicks, [-1, 1, dim])
        keys = tf.reshape(events, [-1, 2 * self.nearest, dim])
        found = tf.reshape(found, [-1, 2 * self.nearest])
        weights = self.alignment(query, keys, found, training=training)
        around = tf.reshape(attend(weights, keys), tf.shape(clicks))
        return {CLICKS: clicks + project_onto(around, clicks), AROUND: around, MASK: mask}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """What clicks and what is around them say of candidates.

        Returns:
          `interest` [users, candidates, dim], or twice as wide with other types, and the weights of
          the clicks, `attention` and `around_attention` [users, candidates, clicks]; all zero where
          there are no clicks.
        """
        layers = {"attention": (self.click_attention, state[CLICKS])}
        if self.other_types:
            layers["around_attention"] = self.around_attention, state[AROUND]
        return read_each(layers, state[MASK], target, training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "click_types": self.click_types,
            "other_types": self.other_types,
            "clicks": self.clicks,
            "nearest": self.nearest,
            "units": self.units,
        }
