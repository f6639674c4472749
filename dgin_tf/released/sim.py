"""SIM's released code (tttwwy/sim) where it differs from the paper.

Soft search takes plain inner products, and hard search has no limit. The readers are one head of inner
products and a mean. DIN has an 80-40 sigmoid unit and a softmax. The head has PReLU, and its input is
scaled and shifted but not normalized. Time gaps, which the code reads from an unpublished data set, are
left out.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import ConfiguredLayer, as_layer
from dgin_tf.layers.events import EVENTS, MASK, State, Target, embed_ids
from dgin_tf.layers.interest_encoder import AUXILIARY_LOGITS
from dgin_tf.layers.search.hard import HardSearch
from dgin_tf.layers.search.unit import RetrievedEvents, SearchResult, SearchUnit, top_events
from dgin_tf.layers.target_attention import AttendedHistory, sigmoid_attention
from dgin_tf.layers.tower import Tower
from dgin_tf.models.sim import SIM, check_field
from dgin_tf.ops import masking
from dgin_tf.ops.relevance import relevance
from dgin_tf.released.head import released_config


def released_network(**kwargs: Any) -> Tower:
    """The network on [e_a, pooled]: scale and shift, 200 PReLU units, two outputs."""
    return Tower((200,), "prelu", normalization="affine_only", two_way=True, **kwargs)


class ReleasedSoftSearch(SearchUnit):
    """Soft search by inner products of embeddings, through their softmax.

    The released top-k finds the k-th highest of the *different* weights and keeps all events strictly
    above it. These have k - 1 different weights, but may be more than k events. Without events nothing is
    retrieved here, where the release takes a uniform mean over padding.

    Example:

      >>> target, events = tf.random.normal([2, 4, 8]), tf.random.normal([2, 100, 8])
      >>> result = ReleasedSoftSearch(k=3)(target, (events, tf.fill([2, 100], True)))
      >>> result.topk_indices.shape
      TensorShape([2, 4, 100])

    Args:
      k: the number of its `first_att_top_k`.
      network: layer from [e_a, pooled] to logits; None for `released_network()`.
    """

    auxiliary_logits_weight: float | None = 1.0

    def __init__(self, k: int = 50, network: tf.keras.layers.Layer | None = None, **kwargs: Any):
        super().__init__(k, **kwargs)
        self.network = as_layer(network) or released_network(
            name="network", dtype=self.dtype_policy
        )

    def search(self, state: State, target: Target, training: bool = False) -> SearchResult:
        """Retrieves events; indices are as many as time, since any number may share a weight."""
        mask = state[MASK][:, tf.newaxis]
        events = embed_ids(target.tables, state[EVENTS], self.compute_dtype, state[MASK])
        weights = masking.masked_softmax(relevance(target.embedding, events), mask)
        pooled_events = tf.matmul(tf.cast(weights, events.dtype), events)
        inputs = tf.concat([target.embedding, pooled_events], axis=-1)
        logits = self.network(inputs, mask=target.mask, training=training)
        # A weight that underflowed to zero is not above the k-th one either, whatever that is.
        ranking = top_events(weights, mask & (weights > 0), 2**31 - 1)
        values: tf.Tensor = ranking.scores
        is_lower = tf.pad(values[..., 1:] < values[..., :-1], [[0, 0], [0, 0], [1, 0]])
        is_lower = is_lower[..., : tf.shape(values)[-1]]
        higher_weights = tf.cumsum(tf.cast(is_lower, tf.int32), axis=-1)  # different ones
        return SearchResult(
            ranking.topk_indices,
            ranking.mask & (higher_weights < self.k - 1),
            values,
            {AUXILIARY_LOGITS: logits},
        )


class ReleasedExactSearchUnit(ConfiguredLayer):
    """One head of plain inner products, and a mean whose count is one too high.

    Where no event is retrieved, weights are zero here; in the release they are uniform over the history.

    Example:

      >>> target, events = tf.random.normal([2, 3, 8]), tf.random.normal([2, 3, 5, 8])
      >>> retrieval = RetrievedEvents(events, tf.fill([2, 3, 5], True))
      >>> ReleasedExactSearchUnit()(target, retrieval)["interest"].shape
      TensorShape([2, 3, 16])
    """

    def call(self, target: tf.Tensor, retrieval: RetrievedEvents, training: bool = False) -> State:
        """`interest` [users, candidates, 2 * dim] and `attention` [users, candidates, 1, k]."""
        events, mask = retrieval.events, retrieval.mask
        query = tf.cast(target[:, :, tf.newaxis], events.dtype)
        scores = tf.matmul(query, events, transpose_b=True)  # [users, candidates, 1, k]
        weights = masking.masked_softmax(scores, mask[:, :, tf.newaxis])
        interest = tf.matmul(tf.cast(weights, events.dtype), events)[:, :, 0]
        count = tf.math.count_nonzero(mask, axis=-1, keepdims=True, dtype=tf.int32)
        mean = masking.masked_sum(events, mask) / tf.cast(count + 1, interest.dtype)
        return {"interest": tf.concat([interest, mean], axis=-1), "attention": weights}


class _ReleasedSIM(SIM):
    """The released readers and head."""

    @classmethod
    def from_settings(cls, schema, config=None, settings=None):
        """Builds blocks and the released head, which unlike DIEN's has no user id."""
        return super().from_settings(schema, released_config(config, "prelu", ()), settings)

    @classmethod
    def blocks(cls, schema, config, settings):
        """The readers; subclasses add the search unit."""
        attention = sigmoid_attention((80, 40), "attention")
        return {
            "reader": ReleasedExactSearchUnit(name="reader"),
            "short": AttendedHistory(attention, name="short"),
        }


class SIMHardReleased(_ReleasedSIM, registry_name="sim_hard_released"):
    """Hard search in the release: all events of the category."""

    @dataclasses.dataclass(frozen=True)
    class Settings:
        """Settings of the blocks.

        Attributes:
          field: the attribute to search by.
          short_events: how many of the newest events DIN reads; the others are searched.
        """

        field: str = "category_id"
        short_events: int = 10

    @classmethod
    def blocks(cls, schema, config, settings):
        """Hard search without a limit, and the released readers."""
        check_field(schema, settings.field)
        search = HardSearch(schema.max_history, settings.field, name="search")
        return {"search": search, **super().blocks(schema, config, settings)}


class SIMSoftReleased(_ReleasedSIM, registry_name="sim_soft_released"):
    """Soft search in the release."""

    @dataclasses.dataclass(frozen=True)
    class Settings:
        """Settings of the blocks.

        Attributes:
          k: see `ReleasedSoftSearch`.
          short_events: how many of the newest events DIN reads; the others are searched.
        """

        k: int = 50
        short_events: int = 10

    @classmethod
    def blocks(cls, schema, config, settings):
        """The released soft search and readers."""
        search = ReleasedSoftSearch(settings.k, name="search")
        return {"search": search, **super().blocks(schema, config, settings)}
