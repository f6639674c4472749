"""Soft search (SIM, section 3.2): the past events whose embeddings speak for the candidate.

The relevance of event e_i to candidate e_a is r_i = (W_b e_i) . (W_a e_a), Eq. (1). Its weights learn
from a click prediction of their own, by a network on [U_r, e_a] with U_r = sum_i r_i e_i, Eq. (2),
since no gradient passes through the choice of the k best. The embeddings are those of the whole
model, and both losses train them, Eq. (5).

The authors' code (tttwwy/sim) has no W_a and W_b, pools by the softmax of the products, and retrieves
fewer than k events; that is `dgin_tf.released.sim`.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import KernelLayer, as_layer
from dgin_tf.layers.events import EVENTS, MASK, State, Tables, Target, embed_ids, gather_features
from dgin_tf.layers.interest_encoder import AUXILIARY_LOGITS
from dgin_tf.layers.search.unit import SearchResult, SearchUnit, add_step_counter, draw, top_events
from dgin_tf.layers.tower import Tower
from dgin_tf.ops import sampling
from dgin_tf.ops.fast.relevance_pooling import pool_by_relevance
from dgin_tf.ops.relevance import relevance

_SEED = 104_729  # keeps these draws apart from those of other layers


class BilinearQuery(KernelLayer):
    """Eq. (1)'s two projections as one of the candidate: W_b^T W_a e_a.

    (W_b e_i) . (W_a e_a) = e_i . (W_b^T W_a e_a), so that no event is ever projected.

    Example:

      >>> BilinearQuery(dim=3)(tf.random.normal([2, 5, 8])).shape
      TensorShape([2, 5, 8])

    Args:
      dim: d_p, width of the comparison; None for that of an event.
      kernel_initializer, kernel_regularizer: of W_a and W_b.
    """

    def __init__(self, dim: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.dim = dim

    def build(self, input_shape: Any) -> None:
        width = tf.TensorShape(input_shape)[-1]
        shape = [width, self.dim or width]
        self.target_kernel = target = self.add_kernel("target_kernel", shape)  # W_a, transposed
        self.event_kernel = self.add_kernel("event_kernel", shape, similar_to=target)  # W_b
        super().build(input_shape)

    def call(self, target: tf.Tensor) -> tf.Tensor:
        """Queries of candidates e_a, both [users, candidates, dim of an event]."""
        projected_target = tf.tensordot(target, self.target_kernel, 1)
        return tf.tensordot(projected_target, self.event_kernel, [[-1], [1]])


class SoftSearch(SearchUnit, KernelLayer):
    """Eqs. (1), (2), (5): the k events of the highest inner product, by brute force.

    The state holds ids, which are embedded when candidates come, by the newest tables.

    Example:

      >>> target, events = tf.random.normal([2, 4, 8]), tf.random.normal([2, 100, 8])
      >>> result = SoftSearch(k=3)(target, (events, tf.fill([2, 100], True)))
      >>> result.topk_indices.shape, result.outputs["auxiliary_logits"].shape
      (TensorShape([2, 4, 3]), TensorShape([2, 4]))

    Args:
      k: how many events to retrieve at most.
      dim: d_p, width of the comparison; None for that of an event.
      network: layer from `[U_r, e_a]`, [users, candidates, 2 * dim], to logits [users, candidates],
        called as a `Tower`; None for a `Tower` of the paper's 200 and 80 units.
      auxiliary_weight: alpha of Eq. (5).
      sample: in training, U_r is a sum over this many random events where there are more, others in
        every step; None for all of them. The search always compares all.
      kernel_initializer, kernel_regularizer: of the query, W_a and W_b.
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
        self.dim = dim
        self.query = BilinearQuery(dim, name="query", dtype=self.dtype_policy, **self.kernel_config)
        self.network = as_layer(network) or Tower(name="network", dtype=self.dtype_policy)
        self.auxiliary_weight = self.auxiliary_logits_weight = auxiliary_weight
        self.sample = sample
        if sample:
            self.step = add_step_counter(self)

    def search(self, state: State, target: Target, training: bool = False) -> SearchResult:
        """Retrieves the events of the highest relevance.

        Returns:
          Events with their scores r_i, through which no gradient passes, and `auxiliary_logits`.
        """
        query = self.query(target.embedding)
        events, mask = embed_ids(target.tables, state[EVENTS], self.compute_dtype), state[MASK]
        result = top_events(relevance(query, events), mask[:, tf.newaxis], self.k)
        if training and self.sample:
            events, mask = self._sample_events(state, target)
        pooled_events = pool_by_relevance(query, tf.cast(events, query.dtype), mask)  # U_r, Eq. (2)
        logits = self.network(
            tf.concat([pooled_events, target.embedding], axis=-1),
            mask=target.mask,
            training=training,
        )
        return result._replace(outputs={AUXILIARY_LOGITS: logits})

    def brute_force(self, state: State, query: tf.Tensor, tables: Tables) -> SearchResult:
        """Compares queries [users, candidates, dim] with all events, without the network."""
        events = embed_ids(tables, state[EVENTS], self.compute_dtype)
        return top_events(relevance(query, events), state[MASK][:, tf.newaxis], self.k)

    def _sample_events(self, state: State, target: Target) -> tuple[tf.Tensor, tf.Tensor]:
        """Embeddings of `sample` events of each user, [users, sample, dim], and their mask."""
        mask = state[MASK]
        # An event is known by its ids and by its rank, since the same item may come again.
        ids = [
            value
            for value in state[EVENTS].values()
            if value.dtype.is_integer and value.shape.rank == mask.shape.rank
        ]
        keys = [sampling.counts(mask)[:, tf.newaxis], sampling.ranks(mask), *ids]
        sample = top_events(draw(self.step, keys, _SEED), mask, self.sample or self.k)
        features = gather_features(state[EVENTS], sample.topk_indices)
        return embed_ids(target.tables, features, self.compute_dtype), sample.mask
