"""How a model weighs past events for a candidate, and how near that is to full target attention.

ENCODE (Zhou et al., 2024, section 4.6.1) calls it the relevance indicator: the cross-entropy of a
model's weights over the long history against those of DIN-L, which attends to every event. Models that
read few events weigh the others zero; ENCODE's weights are those within a cluster times the cluster's;
SDIM's are how many hash tables an event shares with the candidate.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from dgin_tf.inspection import searches
from dgin_tf.inspection.traces import Trace, trace
from dgin_tf.layers.events import History
from dgin_tf.layers.interest_clusters import INTEREST_WEIGHTS, InterestClusters
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.pooling import Pooling
from dgin_tf.layers.search.sdim import HashedInterest
from dgin_tf.layers.short_and_long import ShortAndLong, all_but_newest
from dgin_tf.models.base import CTRModel

FLOOR = 1e-6

_ATTENTION, _FOUND, _FOUND_MASK = "long_attention", "long_found", "long_found_mask"


def long_weights(model: CTRModel, features: Mapping[str, tf.Tensor]) -> np.ndarray:
    """The weight of each event of the long history for each candidate.

    Args:
      model: of two parts, whose long one weighs events: `din_long`, `encode`, the searching models,
        `sdim`, `avg_pooling_long_din`.
      features: a batch.

    Returns:
      [users, candidates, time], summing to one over time, or to zero where nothing is weighed.

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
    found = trace(model, features)
    if isinstance(encoder.long, InterestClusters):
        weights = _clustered(encoder.long, history, found)
    elif isinstance(encoder.long, HashedInterest):
        target = model.embedding.target(features).embedding
        weights = _colliding(encoder.long, history, target)
    elif isinstance(encoder.long, Pooling):
        real = history.mask.numpy().astype(np.float64)[:, np.newaxis]
        weights = np.repeat(real, found.features["cand_mask"].shape[1], axis=1)
    elif _FOUND in found.outputs:
        weights = _found(found, history.mask.shape[1])
    elif _ATTENTION in found.outputs:
        weights = searches.long_attention(found).astype(np.float64)
    else:
        raise ValueError(f"the long part of {model.name!r} names no weights of events.")
    weights = searches.padded(weights, found.features["hist_mask"].shape[1])
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total > 0, total, 1.0)


def relevance_indicator(
    weights: np.ndarray, reference: np.ndarray, mask: np.ndarray, floor: float = FLOOR
) -> float:
    """Table 3: cross-entropy of weights against those of DIN-L, averaged over candidates; low is near.

    The paper does not say what becomes of events of weight zero, whose logarithm is infinite. Here
    every real event is lifted by a floor before the weights are made to sum to one again.

    Args:
      weights: of a model, [users, candidates, time].
      reference: of full target attention, in the same shape.
      mask: which candidates count, bool [users, candidates]; without a long history none does.
      floor: added to every weight on events that the reference weighs.

    Returns:
      -sum_t reference_t log(weight_t); NaN where no candidate counts.
    """
    real = reference > 0
    lifted = np.where(real, weights + floor, 0.0)
    total = lifted.sum(axis=-1, keepdims=True)
    logs = np.log(np.where(real, lifted / np.where(total > 0, total, 1.0), 1.0))
    entropy = -(reference * logs).sum(axis=-1)
    counted = mask & real.any(axis=-1)
    return float(entropy[counted].mean()) if counted.any() else float("nan")


def clusters_of(
    model: CTRModel, features: Mapping[str, tf.Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """ENCODE's clusters of the long history, and the events that they are of.

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
    history = model.embedding.history(features)
    found, _ = long.extract(all_but_newest(history, encoder.short_events))
    assignment = np.full(history.mask.shape, -1, np.int32)
    assignment[:, : found.assignment.shape[1]] = found.assignment.numpy()
    return assignment, tf.cast(history.events, tf.float32).numpy()


def _clustered(long: InterestClusters, history: History, found: Trace) -> np.ndarray:
    """Within times between."""
    clusters, within = long.extract(history)
    between = found.outputs[f"long_{INTEREST_WEIGHTS}"].astype(np.float64)
    place = np.maximum(clusters.assignment.numpy(), 0)[:, np.newaxis]
    place = np.broadcast_to(place, (*between.shape[:2], place.shape[-1]))
    return np.take_along_axis(between, place, axis=2) * within.numpy()[:, np.newaxis]


def _colliding(long: HashedInterest, history: History, target: tf.Tensor) -> np.ndarray:
    """The share of hash tables in which event and candidate collide."""
    events, picked = long.buckets(history.events), long.buckets(target)
    same = tf.equal(picked[:, :, tf.newaxis], events[:, tf.newaxis])
    share = np.mean(same.numpy(), axis=-1)
    return share * history.mask.numpy()[:, np.newaxis]


def _found(found: Trace, time: int) -> np.ndarray:
    """The reader's weights of the found events, averaged over its heads; equal where it has none."""
    places, mask = found.outputs[_FOUND], found.outputs[_FOUND_MASK]
    weights = found.outputs.get(_ATTENTION)
    if weights is None:
        weights = mask.astype(np.float64)
    elif places.ndim == 3:
        weights = weights.mean(axis=2)
    places, mask, weights = (
        array.reshape(*array.shape[:2], -1) for array in (places, mask, weights)
    )
    total = np.zeros((*places.shape[:2], time + 1))
    users, candidates = np.indices(places.shape)[:2]
    np.add.at(total, (users, candidates, np.where(mask, places, time)), weights * mask)
    return total[..., :time]
