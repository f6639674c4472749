"""ETA's search by other measures than signatures (ENCODE, Zhou et al., 2024, section 4.6.3, table 4).

ETA-ENCODE compares by the cosine of vectors that a learned projection has made short; ETA-TA by the
scaled inner product of the embeddings themselves, which is target attention's own score.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.dimension_reduction import DimensionReduction
from dgin_tf.layers.events import (
    MASK,
    History,
    State,
    Target,
    embed_history,
    embed_without_gradient,
    stored_history,
)
from dgin_tf.layers.search.unit import Found, SearchUnit, best
from dgin_tf.ops.similarity import normalize

REDUCED = "reduced"


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ReducedSearch(SearchUnit):
    """ETA-ENCODE: the largest cosine of reduced embeddings first.

    State: `reduced`, unit vectors float32 [users, time, m]. Like signatures, stored ones age as the
    tables are trained on. No gradient passes but that of the reduction's own loss.

    Args:
      k: how many events to find at most.
      reduction: a `DimensionReduction`; None for the paper's.
    """

    def __init__(self, k: int = 50, reduction: DimensionReduction | None = None, **kwargs: Any):
        super().__init__(k, **kwargs)
        if isinstance(reduction, dict):
            reduction = tf.keras.layers.deserialize(reduction)
        self.reduction = reduction or DimensionReduction(name="reduction", dtype=self.dtype_policy)
        self.auxiliary_loss_names = ("reduction",) if self.reduction.has_loss else ()

    def prepare(self, history: History, training: bool = False) -> State:
        """Reduces every event."""
        return self.prepare_with_losses(history, training=training)[0]

    def prepare_with_losses(
        self, history: History, training: bool = False
    ) -> tuple[State, dict[str, tf.Tensor]]:
        """Reduces every event; `reduction` is the loss that trains W_h, weighted."""
        del training
        events = embed_without_gradient(history, self.compute_dtype)
        losses = {}
        if self.reduction.has_loss:
            losses["reduction"] = self.reduction.loss(events, history.mask)
        return {REDUCED: tf.stop_gradient(normalize(self.reduction(events)))}, losses

    def search(self, state: State, target: Target, training: bool = False) -> Found:
        """Finds the nearest events; scores are cosines."""
        del training
        wanted = tf.stop_gradient(normalize(self.reduction(target.embedding)))
        cosine = tf.matmul(wanted, state[REDUCED], transpose_b=True)
        scores, places, found = best(cosine, state[MASK][:, tf.newaxis], self.k)
        return Found(places, found, scores)

    def get_config(self) -> dict[str, Any]:
        reduction = tf.keras.layers.serialize(self.reduction)
        return {**super().get_config(), "reduction": reduction}


@tf.keras.utils.register_keras_serializable("dgin_tf")
class InnerProductSearch(SearchUnit):
    """ETA-TA: the largest inner product first; the scale sqrt(d) ranks nothing differently.

    The state holds ids, which are embedded when candidates come, by the newest tables.
    """

    def search(self, state: State, target: Target, training: bool = False) -> Found:
        """Finds events; scores are inner products, through which no gradient passes."""
        del training
        events = embed_history(stored_history(state, target.tables), self.compute_dtype).events
        scores = tf.matmul(target.embedding, events, transpose_b=True)
        scores, places, found = best(tf.stop_gradient(scores), state[MASK][:, tf.newaxis], self.k)
        return Found(places, found, scores)
