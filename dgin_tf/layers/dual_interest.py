"""Interests special to each behavior type and shared by all: the encoder of DMBIN, as we read it."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import ConfiguredLayer
from dgin_tf.layers.event_attributes import events_of_types
from dgin_tf.layers.events import History, State, Target, embed_events_at, mask_padding
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.self_attention import SelfAttentionEncoder
from dgin_tf.ops import masking
from dgin_tf.ops.event_order import newest_events
from dgin_tf.schema import BEHAVIOR_TYPE

_NEVER = -1e9  # similarity of what is not there; that of vectors is at least -1
CONTRAST = "contrast"


class ContrastProjection(ConfiguredLayer):
    """Two layers as wide as their input, ReLU in between, ending in vectors of length one.

    Example:

      >>> vectors = ContrastProjection()(tf.random.normal([2, 3, 8]))
      >>> np.allclose(tf.norm(vectors, axis=-1), 1.0, atol=1e-5)
      True
    """

    def build(self, input_shape: Any) -> None:
        dim, policy = tf.TensorShape(input_shape)[-1], self.dtype_policy
        self.hidden = tf.keras.layers.Dense(dim, "relu", name="hidden", dtype=policy)
        self.output_layer = tf.keras.layers.Dense(dim, name="output", dtype=policy)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """[..., dim] -> [..., dim], float32."""
        outputs = tf.cast(self.output_layer(self.hidden(inputs)), tf.float32)
        return tf.math.l2_normalize(outputs, axis=-1)


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

    Example:

      >>> layer = DualInterest(lengths=(4,))
      >>> history = tf.random.normal([2, 6, 8]), tf.ones([2, 6], tf.bool)
      >>> layer(tf.random.normal([2, 3, 8]), history)["interest"].shape
      TensorShape([2, 3, 16])
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
        state = {}
        for n, (types, length) in enumerate(zip(self.types, self.lengths, strict=True)):
            own = events_of_types(history, types) if types else history
            places, mask = newest_events(own.mask, length)
            events = embed_events_at(history, places, mask, self.compute_dtype)
            for kind, encoder in (("specific", self.encoders[n]), ("common", self.common_encoder)):
                state[f"{kind}{n}"] = mask_padding(encoder(events, mask), mask)
            state[f"mask{n}"] = mask
        return state

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Interests of every sequence in the candidates.

        Returns:
          `interest` [g, s^1, s^2, ...], [users, candidates, (1 + types) * dim], where g is the sum of
          the interests common to the types under `fusion` [users, candidates, types]; zero for what a user
          has no events of.
        """
        query = target.embedding
        specific, common, present = [], [], []
        for n, attention in enumerate(self.attentions):
            mask = state[f"mask{n}"]
            specific.append(attention(query, state[f"specific{n}"], mask)[0])
            common.append(self.common_attention(query, state[f"common{n}"], mask)[0])
            present.append(tf.reduce_any(mask, axis=1))
        if not self.has_pairs:
            return {"interest": tf.concat([*common, *specific], axis=-1)}
        shared = tf.stack(common, axis=2)
        is_there = tf.broadcast_to(tf.stack(present, axis=1)[:, tf.newaxis], tf.shape(shared)[:-1])
        fusion, weights = self.fusion(query, shared, is_there)
        interest = tf.concat([fusion, *specific], axis=-1)
        return {"interest": interest, "fusion": weights[:, :, 0]}

    def encode_with_losses(
        self, history: History, training: bool = False
    ) -> tuple[State, dict[str, tf.Tensor]]:
        """Encodes; `contrast` [users] is the weighted loss, where there are several types."""
        state = self.encode(history, training=training)
        if not self.auxiliary_loss_names:
            return state, {}
        masks = [state[f"mask{n}"] for n in range(len(self.types))]

        def project(kind: str) -> tf.Tensor:
            interests = [state[f"{kind}{n}"] for n in range(len(masks))]
            return self.projection(
                tf.stack(list(map(masking.masked_mean, interests, masks)), axis=1)
            )

        common, specific = project("common"), project("specific")
        present = tf.stack([tf.reduce_any(mask, axis=1) for mask in masks], axis=1)
        loss = contrastive_loss(common, specific, present, self.temperature)
        return state, {CONTRAST: self.weight * loss}


def contrastive_loss(
    common: tf.Tensor, specific: tf.Tensor, present: tf.Tensor, temperature: float
) -> tf.Tensor:
    """Contrastive loss between the vectors that two types of one user share (our reading of DMBIN).

    For types c and c' of user u the positive is sim(g^c_u, g^c'_u); the negatives are the other
    users' g^c' and the user's own specific vectors. The loss of a pair is the negative logarithm of
    the positive's share, exp(sim / temperature) over all of them. Users of all replicas are
    compared, so that a step of several equals the step of one device; they hold equally many.

    Args:
      common: g, vectors of length one (or zero), [users, types, dim].
      specific: s, as well.
      present: True where the user has events of the type, bool [users, types].
      temperature: tau.

    Returns:
      Mean over the pairs of different types that a user has, float32 [users]; zero for none.
    """
    common, specific = tf.cast(common, tf.float32), tf.cast(specific, tf.float32)
    types = common.shape[1]
    everyone = _of_all_replicas(common)
    is_there = _of_all_replicas(tf.cast(present, tf.float32)) > 0.5
    against = tf.tensordot(common, everyone, [[2], [2]])  # [users, types, everyone, types]
    against = tf.transpose(against, [0, 1, 3, 2])
    against = tf.where(tf.transpose(is_there)[tf.newaxis, tf.newaxis], against, _NEVER)
    own = tf.matmul(common, specific, transpose_b=True)
    own = tf.where(present[:, tf.newaxis], own, _NEVER)[:, :, tf.newaxis]
    own = tf.repeat(own, types, axis=2)
    similarities = tf.concat([against, own], axis=-1) / temperature  # the positive is among them
    positive = tf.matmul(common, common, transpose_b=True) / temperature
    loss = tf.reduce_logsumexp(similarities, axis=-1) - positive
    pairs = present[:, :, tf.newaxis] & present[:, tf.newaxis] & ~tf.eye(types, dtype=tf.bool)
    total = tf.reduce_sum(tf.where(pairs, loss, 0.0), axis=[1, 2])
    return total / tf.maximum(tf.reduce_sum(tf.cast(pairs, tf.float32), axis=[1, 2]), 1.0)


def _of_all_replicas(values: tf.Tensor) -> tf.Tensor:
    """Rows [users, ...] of all replicas behind each other; differentiable."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return values
    count = replica.num_replicas_in_sync
    place = tf.one_hot(replica.replica_id_in_sync_group, count, dtype=values.dtype)
    blocks = masking.sum_over_replicas(tf.tensordot(place, values, 0))
    return tf.reshape(blocks, tf.concat([[-1], tf.shape(values)[1:]], axis=0))
