"""Soft search (SIM, section 3.2): the past events whose embeddings speak for the candidate.

The relevance of event e_i to candidate e_a is r_i = (W_b e_i) . (W_a e_a), Eq. (1). Its weights learn
from a click prediction of their own, by a network on [U_r, e_a] with U_r = sum_i r_i e_i, Eq. (2),
since no gradient passes through the choice of the k best. The embeddings are those of the whole
model, and both losses train them, Eq. (5).

The released code (tttwwy/sim) has no W_a and W_b, pools by the softmax of the products, and finds
fewer than k events; that is `ReleasedSoftSearch`.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from dgin_tf.layers.events import (
    EVENTS,
    MASK,
    State,
    Tables,
    Target,
    embed_ids,
    gather_features,
)
from dgin_tf.layers.interest_encoder import AUXILIARY_LOGITS
from dgin_tf.layers.search.unit import Found, SearchUnit, best
from dgin_tf.layers.tower import Tower
from dgin_tf.ops import masking


def relevance(asked: tf.Tensor, events: tf.Tensor) -> tf.Tensor:
    """Eq. (1), soft, [users, candidates, time].

    Args:
      asked: W_b^T W_a e_a, [users, candidates, dim]: the projection of all events, moved to the
        candidate.
      events: e_i, [users, time, dim].
    """
    return tf.matmul(asked, tf.cast(events, asked.dtype), transpose_b=True)


@tf.custom_gradient
def pool_by_relevance(
    asked: tf.Tensor, events: tf.Tensor, mask: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, None]]]:
    """Eq. (2), U_r = sum_i r_i e_i, [users, candidates, dim].

    Events enter twice, by r_i and by themselves. Their gradient, the largest tensor of a step, is one
    product of the two parts side by side rather than a sum of two products.

    Args:
      asked, events: see `relevance`; of one type.
      mask: True where the event is real, bool [users, time].
    """
    mask = mask[:, tf.newaxis]
    zero = tf.zeros([], asked.dtype)
    # Padding is left out by its scores: they are a small part of what the events take.
    scores = tf.where(mask, relevance(asked, events), zero)

    def gradient(pooled: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, None]:
        by_score = tf.where(mask, tf.matmul(pooled, events, transpose_b=True), zero)
        of_events = tf.matmul(
            tf.concat([scores, by_score], 1), tf.concat([pooled, asked], 1), transpose_a=True
        )
        return tf.matmul(by_score, events), of_events, None

    return tf.matmul(scores, events), gradient


@tf.keras.utils.register_keras_serializable("dgin_tf")
class SoftSearch(SearchUnit):
    """Eqs. (1), (2), (5): the k events of the highest inner product, by brute force.

    The state holds ids, which are embedded when candidates come, by the newest tables.

    Args:
      k: how many events to find at most.
      dim: d_p, width of the comparison; None for that of an event.
      network: layer from [U_r, e_a] [users, candidates, 2 * dim] to logits [users, candidates],
        called as a `Tower`; None for a `Tower` of the paper's 200 and 80 units.
      auxiliary_weight: alpha of Eq. (5).
      sample: in training, U_r is a sum over this many randomly chosen events where there are more;
        None for all of them. The search always sees all.
    """

    def __init__(
        self,
        k: int = 50,
        dim: int | None = None,
        network: tf.keras.layers.Layer | None = None,
        auxiliary_weight: float = 1.0,
        sample: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(k, **kwargs)
        if isinstance(network, dict):
            network = tf.keras.layers.deserialize(network)
        self.dim = dim
        self.network = (
            Tower(name="network", dtype=self.dtype_policy) if network is None else network
        )
        self.auxiliary_logits_weight = auxiliary_weight
        self.sample = sample

    def build(self, input_shape: Any) -> None:
        dim = tf.TensorShape(input_shape)[-1]
        shape = [dim, self.dim or dim]
        self.target_kernel = self.add_weight("target_kernel", shape)
        self.event_kernel = self.add_weight("event_kernel", shape)
        super().build(input_shape)

    def call(self, embedding: tf.Tensor) -> tf.Tensor:
        """W_b^T W_a e_a of candidates [users, candidates, dim]."""
        projected = tf.tensordot(embedding, self.target_kernel, 1)
        return tf.tensordot(projected, self.event_kernel, [[-1], [1]])

    def search(self, state: State, target: Target, training: bool = False) -> Found:
        """Finds the events of the highest relevance.

        Returns:
          Events with their scores r_i, through which no gradient passes, and `auxiliary_logits`.
        """
        asked = self(target.embedding)
        events, mask = embed_ids(target.tables, state[EVENTS], self.compute_dtype), state[MASK]
        found = self._best(relevance(asked, events), state)
        if training and self.sample:
            events, mask = self._sampled(state, target)
        pooled = pool_by_relevance(asked, tf.cast(events, asked.dtype), mask)
        logits = self.network(
            tf.concat([pooled, target.embedding], axis=-1), mask=target.mask, training=training
        )
        return found._replace(outputs={AUXILIARY_LOGITS: logits})

    def brute_force(self, state: State, asked: tf.Tensor, tables: Tables) -> Found:
        """Compares every candidate's question [users, candidates, dim] with all events."""
        return self._best(
            relevance(asked, embed_ids(tables, state[EVENTS], self.compute_dtype)), state
        )

    def _best(self, scores: tf.Tensor, state: State) -> Found:
        mask = state[MASK][:, tf.newaxis]
        scores, places, mask = best(tf.stop_gradient(scores), mask, self.k)
        return Found(places, mask, scores)

    def _sampled(self, state: State, target: Target) -> tuple[tf.Tensor, tf.Tensor]:
        """Embeddings of `sample` events of each user, [users, sample, dim], and their mask."""
        mask = state[MASK]
        _, places, is_real = best(tf.random.uniform(tf.shape(mask)), mask, self.sample or self.k)
        features = gather_features(state[EVENTS], places)
        return embed_ids(target.tables, features, self.compute_dtype), is_real

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dim": self.dim,
            "network": tf.keras.layers.serialize(self.network),
            "auxiliary_weight": self.auxiliary_logits_weight,
            "sample": self.sample,
        }


def released_network(**kwargs: Any) -> Tower:
    """The released network on [e_a, pooled]: scale and shift, 200 PReLU units, two outputs."""
    return Tower((200,), "prelu", normalization="affine_only", two_way=True, **kwargs)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ReleasedSoftSearch(SearchUnit):
    """The released soft search: inner products of embeddings, by their softmax.

    Its iterative top-k takes the k-th highest of the *different* weights and keeps what lies strictly
    above it: k - 1 different weights, and all events that share one. A row without events finds
    nothing here; the release then takes a uniform mean over padding.

    Args:
      k: the number of its `first_att_top_k`.
      network: layer from [e_a, pooled] to logits; None for `released_network()`.
    """

    auxiliary_logits_weight: float | None = 1.0

    def __init__(self, k: int = 50, network: tf.keras.layers.Layer | None = None, **kwargs: Any):
        super().__init__(k, **kwargs)
        if isinstance(network, dict):
            network = tf.keras.layers.deserialize(network)
        self.network = (
            released_network(name="network", dtype=self.dtype_policy)
            if network is None
            else network
        )

    def search(self, state: State, target: Target, training: bool = False) -> Found:
        """Finds events; `indices` are as many as time, since any number may share a weight."""
        mask = state[MASK][:, tf.newaxis]
        events = embed_ids(target.tables, state[EVENTS], self.compute_dtype, state[MASK])
        weights = masking.masked_softmax(relevance(target.embedding, events), mask)
        pooled = tf.matmul(tf.cast(weights, events.dtype), events)
        logits = self.network(
            tf.concat([target.embedding, pooled], axis=-1), mask=target.mask, training=training
        )
        # A weight that underflowed to zero is not above the k-th one either, whatever that is.
        weights = tf.stop_gradient(weights)
        values, places, is_real = best(weights, mask & (weights > 0), 2**31 - 1)
        is_new = tf.concat(
            [tf.zeros_like(is_real[..., :1]), values[..., 1:] < values[..., :-1]], -1
        )
        different = tf.cumsum(tf.cast(is_new, tf.int32), axis=-1)  # higher weights than this one
        is_found = is_real & (different < self.k - 1)
        return Found(places, is_found, values, {AUXILIARY_LOGITS: logits})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "network": tf.keras.layers.serialize(self.network)}
