"""ENCODE's interests: a history as few clusters, extracted offline, read online (Zhou et al., 2024).

The long history is reduced (Eq. 4), clustered, and summed within each cluster by attention to the
cluster's center (Eqs. 8, 9): that is `encode`, and no candidate plays a part in it. A candidate then
attends to the clusters as it would to events (Eq. 10): that is `interest`.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.dimension_reduction import DimensionReduction
from dgin_tf.layers.events import History, State, Target, embed_without_gradient, event_fields
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.ops import clustering, masking
from dgin_tf.ops.clustering import CLUSTERINGS, Clusters
from dgin_tf.ops.compiling import graph_function, should_compile
from dgin_tf.ops.similarity import Relevance

INTERESTS, INTEREST_MASK, INTEREST_WEIGHTS = "interests", "interest_mask", "interest_weights"
REDUCTION = "reduction"


def weights_in_clusters(vectors: tf.Tensor, found: Clusters, relevance: Relevance) -> tf.Tensor:
    """Eq. (8): the softmax, within each cluster, of the similarity of event and center.

    Args:
      vectors: h, [users, time, m].
      found: their clusters.
      relevance: of an event to its center.

    Returns:
      float32 [users, time]; sums to one over each cluster's members, zero where masked.
    """
    assignment, count = found.assignment, found.centers.shape[1]
    ids = clustering.cluster_ids(assignment, count)
    users = tf.shape(assignment)[0]
    scores = relevance.between(vectors, clustering.of_clusters(found.centers, assignment))
    highest = tf.math.unsorted_segment_max(tf.reshape(scores, [-1]), ids, users * count)
    highest = tf.reshape(highest, [users, count])
    real = assignment >= 0
    scores = tf.where(real, scores - clustering.of_clusters(highest, assignment), 0.0)
    raised = tf.where(real, tf.exp(scores), 0.0)
    total = clustering.sum_in_clusters(raised[..., tf.newaxis], assignment, count)[..., 0]
    return tf.where(real, raised / tf.maximum(clustering.of_clusters(total, assignment), 1.0), 0.0)


def sum_interests(
    events: Sequence[tf.Tensor], weights: tf.Tensor, assignment: tf.Tensor, clusters: int
) -> tf.Tensor:
    """Eq. (8): u_i, the weighted sum of each cluster's events; differentiable in the events.

    XLA compiles it where it compiles clustering: the weighted events are never written then.

    Args:
      events: s, one or several fields side by side, each [users, time, dim of one].
      weights: of the events, [users, time], zero where masked; constants.
      assignment: int32 [users, time], -1 where masked.
      clusters: K.

    Returns:
      float32 [users, clusters, dim].
    """
    widths, dtype = tuple(field.shape[-1] for field in events), events[0].dtype
    jit, signature = (
        should_compile(events[0].shape[0]),
        (*events[0].shape, *widths, clusters, dtype),
    )

    @tf.custom_gradient
    def weighted_sum(*fields):
        def gradient(into):
            # The built-in gradient of a segment sum passes four times over [users, time, dim].
            spread = graph_function(_spread, (widths, dtype), jit, signature)(
                into, weights, assignment
            )
            return spread if len(widths) > 1 else spread[0]

        summed = graph_function(_summed, (clusters,), jit, signature)
        return summed(weights, assignment, *fields), gradient

    return weighted_sum(*events)


def _summed(clusters, weights, assignment, *fields):
    events = tf.cast(tf.concat(fields, axis=-1), weights.dtype)
    return clustering.sum_in_clusters(events * weights[..., tf.newaxis], assignment, clusters)


def _spread(widths, dtype, interests, weights, assignment):
    return [
        tf.cast(clustering.of_clusters(part, assignment) * weights[..., tf.newaxis], dtype)
        for part in tf.split(interests, widths, axis=-1)
    ]


@tf.keras.utils.register_keras_serializable("dgin_tf")
class InterestClusters(InterestEncoder):
    """Algorithm 1 as `encode`, Eq. (10) as `interest`.

    State: `interests` u_i, float32 [users, clusters, dim], and `interest_mask` bool [users, clusters];
    its size does not depend on the history.

    Gradients reach the events through the sums of Eqs. (8) and (10). Clusters and the weights within
    them are constants, so that W_h learns from its own loss alone.

    Args:
      reduction: a `DimensionReduction`; None for the paper's.
      clusters: K.
      clustering: "k_means", "random", "dynamic_routing" or "agglomerative".
      rounds: T of K-means and dynamic routing.
      seed: of the clustering.
      metric, beta, multiply: of both attentions, see `Relevance`. Clusters are always by cosine.

    Raises:
      ValueError: there is no such clustering or metric, or a number is too small.
    """

    def __init__(
        self,
        reduction: DimensionReduction | None = None,
        clusters: int = 30,
        clustering: str = "k_means",
        rounds: int = 15,
        seed: int = 1,
        metric: str = "cosine",
        beta: float = 20.0,
        multiply: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if isinstance(reduction, dict):
            reduction = tf.keras.layers.deserialize(reduction)
        if clustering not in CLUSTERINGS:
            known = ", ".join(CLUSTERINGS)
            raise ValueError(f"clustering must be one of {known}; got {clustering!r}.")
        if clusters < 1 or rounds < 1:
            raise ValueError(
                f"clusters and rounds must be at least 1; got {clusters} and {rounds}."
            )
        self.reduction = reduction or DimensionReduction(name=REDUCTION, dtype=self.dtype_policy)
        self.clusters = clusters
        self.clustering = clustering
        self.rounds = rounds
        self.seed = seed
        self.relevance = Relevance(metric, beta, multiply).check()
        self.auxiliary_loss_names = (REDUCTION,) if self.reduction.has_loss else ()

    def extract(self, history: History) -> tuple[Clusters, tf.Tensor]:
        """The clusters of a history's events and the events' weights in them, [users, time].

        XLA compiles it, for each shape anew, in graphs of a known number of users, if they are enough.
        """
        reduced = tf.stop_gradient(
            self.reduction(embed_without_gradient(history, self.compute_dtype))
        )
        settings = (self.clustering, self.clusters, self.rounds, self.seed, self.relevance)
        if should_compile(reduced.shape[0]):
            run = graph_function(_clustered, settings, True, tuple(reduced.shape))
            found, weights = run(reduced, history.mask)
        else:
            found, weights = _clustered(*settings, reduced, history.mask)
        return found, tf.stop_gradient(weights)

    def encode(self, history: History, training: bool = False) -> State:
        """Clusters the events and sums each cluster."""
        del training
        found, weights = self.extract(history)
        events = event_fields(history, self.compute_dtype)
        interests = sum_interests(events, weights, found.assignment, self.clusters)
        return {INTERESTS: interests, INTEREST_MASK: found.mask}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Eq. (10).

        Returns:
          `interest` [users, candidates, dim] and `interest_weights`, float32
          [users, candidates, clusters].
        """
        del training
        interests = tf.cast(state[INTERESTS], tf.float32)
        scores = self.relevance.pairwise(tf.cast(target.embedding, tf.float32), interests)
        weights = masking.masked_softmax(scores, state[INTEREST_MASK][:, tf.newaxis])
        interest = tf.cast(tf.matmul(weights, interests), target.embedding.dtype)
        return {"interest": interest, INTEREST_WEIGHTS: weights}

    def encode_with_losses(
        self, history: History, training: bool = False
    ) -> tuple[State, dict[str, tf.Tensor]]:
        """Encodes; `reduction` [users] is the loss that trains W_h, weighted."""
        state, losses = self.encode(history, training=training), {}
        if self.reduction.has_loss:
            events = embed_without_gradient(history, self.compute_dtype)
            losses[REDUCTION] = self.reduction.loss(events, history.mask)
        return state, losses

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reduction": tf.keras.layers.serialize(self.reduction),
            "clusters": self.clusters,
            "clustering": self.clustering,
            "rounds": self.rounds,
            "seed": self.seed,
            **self.relevance._asdict(),
        }


def _clustered(clustering_name, clusters, rounds, seed, relevance, reduced, mask):
    cluster = CLUSTERINGS[clustering_name]
    found = cluster(reduced, mask, clusters, rounds=rounds, seed=seed)
    return found, weights_in_clusters(reduced, found, relevance)
