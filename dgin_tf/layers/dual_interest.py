"""What is special to each behavior type and what they share: the encoder of DMBIN, as we read it."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.event_attributes import events_of_types
from dgin_tf.layers.events import History, State, Target, embed_events_at
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.self_attention import SelfAttentionEncoder
from dgin_tf.ops import masking
from dgin_tf.ops.contrast import contrastive_loss
from dgin_tf.ops.event_order import newest_events
from dgin_tf.schema import BEHAVIOR_TYPE

CONTRAST = "contrast"


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ContrastProjection(tf.keras.layers.Layer):
    """Two layers as wide as their input, ReLU in between, ending in vectors of length one."""

    def build(self, input_shape: Any) -> None:
        dim, policy = tf.TensorShape(input_shape)[-1], self.dtype_policy
        self.hidden = tf.keras.layers.Dense(dim, "relu", name="hidden", dtype=policy)
        self.output_layer = tf.keras.layers.Dense(dim, name="output", dtype=policy)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """[..., dim] -> [..., dim], float32."""
        found = tf.cast(self.output_layer(self.hidden(inputs)), tf.float32)
        return tf.math.l2_normalize(found, axis=-1)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class DualInterest(InterestEncoder):
    """A sequence for every type, read by layers of its own and by layers that all types share.

    The contrast is between means over events, which no candidate changes, so that one user of many
    candidates is one row of it. With a single type there are no pairs, and no contrast.

    State, for the n-th type: `specific<n>` and `common<n>` [users, events, dim], refined, and
    `mask<n>` bool [users, events].

    Args:
      types: ids of the behavior types of each sequence; one empty tuple for all events.
      lengths: how many of the newest events of each sequence are read.
      heads: of the self-attentions and of the attentions of the candidate.
      weight: lambda, of the contrastive loss; 0 for none.
      temperature: tau, what similarities are divided by.

    Raises:
      ValueError: there are not as many lengths as types.
    """

    def __init__(
        self,
        types: Sequence[Sequence[int]] = ((),),
        lengths: Sequence[int] = (50,),
        heads: int = 2,
        weight: float = 0.1,
        temperature: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not types or len(types) != len(lengths):
            raise ValueError(f"every sequence needs a length; got {types} and {lengths}.")
        self.types = tuple(map(tuple, types))
        self.lengths = tuple(lengths)
        self.heads = heads
        self.weight = weight
        self.temperature = temperature
        self.event_features = (BEHAVIOR_TYPE,) if any(self.types) else ()
        policy = self.dtype_policy

        def encoder(name: str) -> SelfAttentionEncoder:
            return SelfAttentionEncoder(heads, name=name, dtype=policy)

        def attention(name: str) -> MultiHeadAttention:
            return MultiHeadAttention(heads, name=name, dtype=policy)

        self.encoders = [encoder(f"encoder{n}") for n in range(len(types))]
        self.attentions = [attention(f"attention{n}") for n in range(len(types))]
        self.common_encoder = encoder("common_encoder")
        self.common_attention = attention("common_attention")
        self.has_pairs = len(types) > 1
        if self.has_pairs:
            self.fusion = MultiHeadAttention(1, project=False, name="fusion", dtype=policy)
        self.auxiliary_loss_names = (CONTRAST,) if self.has_pairs and weight else ()
        self.projection = ContrastProjection(name="projection", dtype=policy)

    def encode(self, history: History, training: bool = False) -> State:
        """Refines every sequence twice."""
        del training
        state = {}
        for n, (types, length) in enumerate(zip(self.types, self.lengths, strict=True)):
            own = events_of_types(history, types) if types else history
            places, mask = newest_events(own.mask, length)
            events = embed_events_at(history, places, mask, self.compute_dtype)
            for kind, encoder in (("specific", self.encoders[n]), ("common", self.common_encoder)):
                refined = encoder(events, mask)
                zero = tf.zeros([], refined.dtype)
                state[f"{kind}{n}"] = tf.where(mask[..., tf.newaxis], refined, zero)
            state[f"mask{n}"] = mask
        return state

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """What a candidate finds in every sequence.

        Returns:
          `interest` [g, s^1, s^2, ...], [users, candidates, (1 + types) * dim], where g is the sum of
          what is common to the types under `fusion` [users, candidates, types]; zero for what a user
          has no events of.
        """
        del training
        asked = target.embedding
        specific, common, present = [], [], []
        for n, attention in enumerate(self.attentions):
            mask = state[f"mask{n}"]
            specific.append(attention(asked, state[f"specific{n}"], mask)[0])
            common.append(self.common_attention(asked, state[f"common{n}"], mask)[0])
            present.append(tf.reduce_any(mask, axis=1))
        if not self.has_pairs:
            return {"interest": tf.concat([*common, *specific], axis=-1)}
        shared = tf.stack(common, axis=2)
        is_there = tf.broadcast_to(tf.stack(present, axis=1)[:, tf.newaxis], tf.shape(shared)[:-1])
        fused, weights = self.fusion(asked, shared, is_there)
        interest = tf.concat([fused, *specific], axis=-1)
        return {"interest": interest, "fusion": weights[:, :, 0]}

    def encode_with_losses(
        self, history: History, training: bool = False
    ) -> tuple[State, dict[str, tf.Tensor]]:
        """Encodes; `contrast` [users] is the weighted loss, where there are several types."""
        state = self.encode(history, training=training)
        if not self.auxiliary_loss_names:
            return state, {}
        masks = [state[f"mask{n}"] for n in range(len(self.types))]
        common, specific = (
            self.projection(
                tf.stack(
                    [
                        masking.masked_mean(state[f"{kind}{n}"], mask)
                        for n, mask in enumerate(masks)
                    ],
                    axis=1,
                )
            )
            for kind in ("common", "specific")
        )
        present = tf.stack([tf.reduce_any(mask, axis=1) for mask in masks], axis=1)
        loss = contrastive_loss(common, specific, present, self.temperature)
        return state, {CONTRAST: self.weight * loss}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "types": self.types,
            "lengths": self.lengths,
            "heads": self.heads,
            "weight": self.weight,
            "temperature": self.temperature,
        }
