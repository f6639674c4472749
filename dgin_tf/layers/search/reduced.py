"""ETA's search by other measures than signatures (ENCODE, Zhou et al., 2024, section 4.6.3, table 4).

ETA-ENCODE compares by the cosine of vectors that a learned projection has made short; ETA-TA by the
scaled inner product of the embeddings themselves, which is target attention's own score.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import as_layer
from dgin_tf.layers.dimension_reduction import DimensionReduction
from dgin_tf.layers.events import (
    EVENTS,
    MASK,
    History,
    State,
    Target,
    embed_ids,
    embed_without_gradient,
)
from dgin_tf.layers.search.unit import SearchResult, SearchUnit, top_events
from dgin_tf.ops.similarity import normalize

REDUCED = "reduced"


class ReducedSearch(SearchUnit):
    """ETA-ENCODE: the largest cosine of reduced embeddings first.

    State: `reduced`, unit vectors float32 [users, time, m]. Like signatures, stored ones age as the
    tables are trained on. No gradient passes but that of the reduction's own loss.

    Example:

      >>> target, events = tf.random.normal([2, 4, 8]), tf.random.normal([2, 100, 8])
      >>> ReducedSearch(k=3)(target, (events, tf.fill([2, 100], True))).topk_indices.shape
      TensorShape([2, 4, 3])

    Args:
      k: how many events to retrieve at most.
      reduction: a `DimensionReduction`; None for the paper's.
    """

    def __init__(self, k: int = 50, reduction: DimensionReduction | None = None, **kwargs: Any):
        super().__init__(k, **kwargs)
        self.reduction = as_layer(reduction) or DimensionReduction(
            name="reduction", dtype=self.dtype_policy
        )
        self.auxiliary_loss_names = ("reduction",) if self.reduction.has_loss else ()

    def prepare(self, history: History, training: bool = False) -> State:
        """Reduces every event."""
        events = embed_without_gradient(history, self.compute_dtype)
        return {REDUCED: tf.stop_gradient(normalize(self.reduction(events)))}

    def prepare_with_losses(
        self, history: History, training: bool = False
    ) -> tuple[State, dict[str, tf.Tensor]]:
        """Reduces every event once; `reduction` is the weighted loss that trains W_h."""
        if not self.reduction.has_loss:
            return self.prepare(history, training=training), {}
        events = embed_without_gradient(history, self.compute_dtype)
        projections = self.reduction(events)
        loss = self.reduction.loss(events, history.mask, projections)
        return {REDUCED: tf.stop_gradient(normalize(projections))}, {"reduction": loss}

    def search(self, state: State, target: Target, training: bool = False) -> SearchResult:
        """Retrieves the nearest events; scores are cosines."""
        query = tf.stop_gradient(normalize(self.reduction(target.embedding)))
        cosine = tf.matmul(query, state[REDUCED], transpose_b=True)
        return top_events(cosine, state[MASK][:, tf.newaxis], self.k)


class InnerProductSearch(SearchUnit):
    """ETA-TA: the largest inner product first; the scale sqrt(d) ranks nothing differently.

    The state holds ids, which are embedded when candidates come, by the newest tables.

    Example:

      >>> target, events = tf.random.normal([2, 4, 8]), tf.random.normal([2, 100, 8])
      >>> InnerProductSearch(k=3)(target, (events, tf.fill([2, 100], True))).topk_indices.shape
      TensorShape([2, 4, 3])
    """

    def search(self, state: State, target: Target, training: bool = False) -> SearchResult:
        """Retrieves events; scores are inner products, through which no gradient passes."""
        events = embed_ids(target.tables, state[EVENTS], self.compute_dtype)
        scores = tf.matmul(target.embedding, tf.stop_gradient(events), transpose_b=True)
        return top_events(scores, state[MASK][:, tf.newaxis], self.k)
