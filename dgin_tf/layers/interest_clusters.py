"""ENCODE's interests: a history as few clusters, extracted offline, read online (Zhou et al., 2024).

The long history is reduced (Eq. 4), clustered, and summed within each cluster by attention to the
cluster's center (Eqs. 8, 9): that is `encode`, and no candidate plays a part in it. A candidate then
attends to the clusters as it would to events (Eq. 10): that is `interest`.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import as_layer
from dgin_tf.layers.dimension_reduction import DimensionReduction
from dgin_tf.layers.events import (
    History,
    State,
    Target,
    embed_history,
    embed_without_gradient,
    event_fields,
)
from dgin_tf.layers.interest_encoder import INTEREST, InterestEncoder
from dgin_tf.ops import clustering as plain
from dgin_tf.ops import masking
from dgin_tf.ops.clustering import Clustering, Clusters
from dgin_tf.ops.fast.clustering import cluster_with_weights, sum_interests
from dgin_tf.ops.similarity import Relevance

INTERESTS, INTEREST_MASK, INTEREST_WEIGHTS = "interests", "interest_mask", "interest_weights"
REDUCTION = "reduction"

_CLUSTERING, _RELEVANCE = Clustering(), Relevance()  # of the paper


class InterestClusters(InterestEncoder):
    """Algorithm 1 as `encode`, Eq. (10) as `interest`.

    State: `interests` u_i, float32 [users, clusters, dim], and `interest_mask` bool [users, clusters];
    its size does not depend on the history.

    Gradients reach the events through the sums of Eqs. (8) and (10). Which cluster an event is in is a
    constant, and so is its weight there, so that W_h learns from its own loss alone; Algorithm 1 stops
    nothing, which is `stop_gradient=False`.

    Example:

      >>> layer = InterestClusters(clustering=Clustering(clusters=5))
      >>> target, events = tf.random.normal([2, 3, 8]), tf.random.normal([2, 100, 8])
      >>> outputs = layer(target, (events, tf.fill([2, 100], True)))
      >>> outputs["interest"].shape, outputs["interest_weights"].shape
      (TensorShape([2, 3, 8]), TensorShape([2, 3, 5]))

    Args:
      reduction: a `DimensionReduction`; None for the paper's.
      clustering: K and the algorithm; () for the paper's.
      relevance: the similarity of both attentions; () for the paper's. Clusters are always by cosine.
      stop_gradient: whether the weights of Eq. (8) pass no gradient; False lets it through centers and
        reduced events to W_h and the embeddings.

    Raises:
      ValueError: there is no such algorithm or metric, or a number is too small.
    """

    def __init__(
        self,
        reduction: DimensionReduction | None = None,
        clustering: Clustering | tuple = _CLUSTERING,
        relevance: Relevance | tuple = _RELEVANCE,
        stop_gradient: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.reduction = as_layer(reduction) or DimensionReduction(
            name=REDUCTION, dtype=self.dtype_policy
        )
        self.clustering = Clustering(*clustering).check()
        self.relevance = Relevance(*relevance).check()
        self.stop_gradient = stop_gradient
        self.auxiliary_loss_names = (REDUCTION,) if self.reduction.has_loss else ()

    def extract(self, history: History) -> tuple[Clusters, tf.Tensor]:
        """The clusters of a history's events and the events' weights in them, [users, time]."""
        return self._cluster(self.reduction(self._vectors(history)), history.mask)

    def encode(self, history: History, training: bool = False) -> State:
        """Clusters the events and sums each cluster."""
        history = embed_history(history, self.compute_dtype)
        return self._sum(history, *self.extract(history))

    def encode_with_losses(
        self, history: History, training: bool = False
    ) -> tuple[State, dict[str, tf.Tensor]]:
        """Encodes; `reduction` [users] is the weighted loss that trains W_h.

        Events are embedded and reduced once for both.
        """
        if not self.reduction.has_loss:
            return self.encode(history, training=training), {}
        history = embed_history(history, self.compute_dtype)
        events = self._vectors(history)  # s
        projections = self.reduction(events)  # h, Eq. (4)
        state = self._sum(history, *self._cluster(projections, history.mask))
        # Of h with a gradient to s, the loss makes its own: it trains W_h alone.
        projections = projections if self.stop_gradient else None
        return state, {REDUCTION: self.reduction.loss(events, history.mask, projections)}

    def _vectors(self, history):
        if self.stop_gradient:
            return embed_without_gradient(history, self.compute_dtype)
        return embed_history(history, self.compute_dtype).events

    def _cluster(self, projections, mask):
        clusters, weights = cluster_with_weights(self.clustering, self.relevance, projections, mask)
        if not self.stop_gradient:
            clusters = plain.centered(clusters, projections)
            weights = plain.weights_in_clusters(projections, clusters, self.relevance)
        return clusters, weights

    def _sum(self, history, clusters, weights):
        """Eq. (8)."""
        fields = event_fields(history, self.compute_dtype)
        count = self.clustering.clusters
        add = sum_interests if self.stop_gradient else plain.sum_interests
        interests = add(fields, weights, clusters.assignment, count)
        return {INTERESTS: interests, INTEREST_MASK: clusters.mask}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Eq. (10).

        Returns:
          `interest` [users, candidates, dim] and `interest_weights`, float32
          [users, candidates, clusters].
        """
        interests = tf.cast(state[INTERESTS], tf.float32)
        scores = self.relevance.pairwise(tf.cast(target.embedding, tf.float32), interests)
        weights = masking.masked_softmax(scores, state[INTEREST_MASK][:, tf.newaxis])
        interest = tf.cast(tf.matmul(weights, interests), target.embedding.dtype)
        return {INTEREST: interest, INTEREST_WEIGHTS: weights}
