"""Relevance indicator of ENCODE (Zhou et al., 2024, section 4.6.1), and the weights it compares.

The indicator is the cross-entropy of a model's weights over the long history against those of DIN-L,
which attends to every event. In models that read few events the others have weight zero; ENCODE's
weights are those within a cluster times the cluster's; SDIM's are the share of hash tables in which an
event collides with the candidate.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from dgin_tf.inspection import searches
from dgin_tf.inspection.traces import Trace
from dgin_tf.inspection.traces import trace as run_trace
from dgin_tf.layers.events import History, embed_history
from dgin_tf.layers.interest_clusters import INTEREST_WEIGHTS, InterestClusters
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.pooling import Pooling
from dgin_tf.layers.search.sdim import HashedInterest
from dgin_tf.layers.search.unit import TOPK_INDICES, TOPK_MASK
from dgin_tf.layers.short_and_long import ShortAndLong, all_but_newest
from dgin_tf.models.base import CTRModel
from dgin_tf.schema import CANDIDATE_MASK, HISTORY_MASK

FLOOR = 1e-6

_LONG = "long"
_ATTENTION, _EVENTS, _EVENT_MASK = (_LONG, "attention"), (_LONG, TOPK_INDICES), (_LONG, TOPK_MASK)


def long_weights(model: CTRModel, features: Mapping[str, tf.Tensor]) -> np.ndarray:
    """Weight of each event of the long history for each candidate.

    Args:
      model: of two parts, whose long one weighs events: `din_long`, `encode`, the searching models,
        `sdim`, `avg_pooling_long_din`.
      features: a batch.

    Returns:
      [users, candidates, time], summing to one over time, or to zero where no event has a weight.

    Raises:
      ValueError: the model has no long part that weighs events.
    """
    encoder = next(iter(model.encoders.values()))
    if not isinstance(encoder, ShortAndLong):
        raise ValueError(
            "expected a model that reads a long history beside a short one, such as encode or "
            f"din_long; got {model.name!r}."
        )
    history = all_but_newest(model.embedding.history(features), encoder.short_events)
    trace = run_trace(model, features)
    if isinstance(encoder.long, InterestClusters):
        weights = _cluster_weights(encoder.long, history, trace)
    elif isinstance(encoder.long, HashedInterest):
        target = model.embedding.target(features).embedding
        weights = _collision_shares(encoder.long, history, target)
    elif isinstance(encoder.long, Pooling):
        real = history.mask.numpy().astype(np.float64)[:, np.newaxis]
        weights = np.repeat(real, trace.features[CANDIDATE_MASK].shape[1], axis=1)
    elif trace.find(*_EVENTS) is not None:
        weights = _retrieval_weights(trace, history.mask.shape[1])
    elif trace.find(*_ATTENTION) is not None:
        weights = searches.long_attention(trace).astype(np.float64)
    else:
        raise ValueError(f"the long part of {model.name!r} names no weights of events.")
    weights = searches.pad_time(weights, trace.features[HISTORY_MASK].shape[1])
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total > 0, total, 1.0)


def relevance_indicator(
    weights: np.ndarray, reference: np.ndarray, mask: np.ndarray, floor: float = FLOOR
) -> float:
    """Cross-entropy of weights against those of DIN-L (table 3), averaged over candidates.

    The lower, the nearer to full target attention. The paper does not treat events of weight zero,
    whose logarithm is infinite. Here a floor is added to the weight of every real event before the
    weights are normalized again.

    Args:
      weights: of a model, [users, candidates, time].
      reference: of full target attention, in the same shape.
      mask: True for candidates that count, bool [users, candidates]; those without a long history
        never do.
      floor: added to every weight on events that the reference weighs.

    Returns:
      -sum_t reference_t log(weight_t); NaN where no candidate counts.
    """
    real = reference > 0
    positive = np.where(real, weights + floor, 0.0)
    total = positive.sum(axis=-1, keepdims=True)
    logs = np.log(np.where(real, positive / np.where(total > 0, total, 1.0), 1.0))
    entropy = -(reference * logs).sum(axis=-1)  # [users, candidates]
    has_long = mask & real.any(axis=-1)
    return float(entropy[has_long].mean()) if has_long.any() else float("nan")


def clusters_of(
    model: CTRModel, features: Mapping[str, tf.Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """ENCODE's clusters of the long history, and the events in them.

    Returns:
      Each event's cluster, int32 [users, time], -1 for the newest events and padding; and the
      embedded events [users, time, dim].

    Raises:
      ValueError: the model does not cluster.
    """
    encoder = next(iter(model.encoders.values()))
    long: InterestEncoder | None = getattr(encoder, "long", None)
    if not isinstance(long, InterestClusters):
        raise ValueError(f"expected a model that clusters events, an encode; got {model.name!r}.")
    history = embed_history(model.embedding.history(features), model.embedding.compute_dtype)
    clusters, _ = long.extract(all_but_newest(history, encoder.short_events))
    # The long part is the first events of the history, so its time axis is shorter at the end.
    assignment = np.full(history.mask.shape, -1, np.int32)
    assignment[:, : clusters.assignment.shape[1]] = clusters.assignment.numpy()
    return assignment, tf.cast(history.events, tf.float32).numpy()


def _cluster_weights(long: InterestClusters, history: History, trace: Trace) -> np.ndarray:
    """Weight of an event within its cluster times the weight of the cluster."""
    clusters, within = long.extract(history)
    # [users, candidates, clusters]
    between = trace.array(_LONG, INTEREST_WEIGHTS).astype(np.float64)
    cluster = np.maximum(clusters.assignment.numpy(), 0)[:, np.newaxis]  # [users, 1, time]
    cluster = np.broadcast_to(cluster, (*between.shape[:2], cluster.shape[-1]))
    return np.take_along_axis(between, cluster, axis=2) * within.numpy()[:, np.newaxis]


def _collision_shares(long: HashedInterest, history: History, target: tf.Tensor) -> np.ndarray:
    """Share of hash tables in which event and candidate collide."""
    history = embed_history(history, long.compute_dtype)
    events, targets = long.buckets(history.events), long.buckets(target)
    # [users, candidates, time, tables]
    same = tf.equal(targets[:, :, tf.newaxis], events[:, tf.newaxis])
    return np.mean(same.numpy(), axis=-1) * history.mask.numpy()[:, np.newaxis]


def _retrieval_weights(trace: Trace, time: int) -> np.ndarray:
    """Weights of the retrieved events, averaged over heads; equal ones where the model has none."""
    indices, mask = trace.array(*_EVENTS), trace.array(*_EVENT_MASK)
    weights = trace.find(*_ATTENTION)
    if weights is None:
        weights = mask.astype(np.float64)
    elif indices.ndim == 3:
        weights = weights.mean(axis=2)
    # Where every head retrieves its own events, [users, candidates, heads, top_k], all are added up.
    indices, mask, weights = (
        array.reshape(*array.shape[:2], -1) for array in (indices, mask, weights)
    )
    total = np.zeros((*indices.shape[:2], time + 1))  # one column more, for padding
    users, candidates = np.indices(indices.shape)[:2]
    np.add.at(total, (users, candidates, np.where(mask, indices, time)), weights * mask)
    return total[..., :time]
