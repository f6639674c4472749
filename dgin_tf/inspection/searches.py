"""Events that search units retrieve, compared with each other and with full target attention.

SIM (Pi et al., 2020, section 5.3) reports that hard search covers 75% of the events that soft search
selects; TWIN (Chang et al., 2023) measures a unit by its recall of the events that have the highest
attention. Both figures are here for any models that name the events they retrieve.
"""

from collections.abc import Mapping

import numpy as np

from dgin_tf.inspection.traces import Trace
from dgin_tf.layers.search.unit import TOPK_INDICES, TOPK_MASK
from dgin_tf.schema import CANDIDATE_MASK, HISTORY_MASK

_LONG, _ATTENTION = "long", "attention"


def retrieved_events(trace: Trace) -> np.ndarray:
    """Mask of the past events that a model's search unit retrieves for each candidate.

    Args:
      trace: of a model with a search unit.

    Returns:
      bool [users, candidates, time].

    Raises:
      ValueError: the model searches nothing.
    """
    indices = trace.array(TOPK_INDICES)  # [users, candidates, top_k], in time
    mask = trace.array(TOPK_MASK) & trace.features[CANDIDATE_MASK][..., np.newaxis]
    time = trace.features[HISTORY_MASK].shape[1]
    # Padding among the indices is written to one column more, which is cut off.
    is_retrieved = np.zeros((*indices.shape[:2], time + 1), bool)
    np.put_along_axis(is_retrieved, np.where(mask, indices, time), True, axis=2)
    return is_retrieved[..., :time]


def long_attention(trace: Trace) -> np.ndarray:
    """Attention over all but the newest events, [users, candidates, time], of a `din_long`.

    Zero for the newest events, which the long part does not have, and for padding candidates.

    Raises:
      ValueError: the model has no such attention.
    """
    attention = trace.array(_LONG, _ATTENTION)
    if attention.ndim != 3 or trace.find(TOPK_INDICES) is not None:
        raise ValueError(
            "expected attention over all events, as a din_long has it; got one over "
            f"{list(attention.shape[2:])} retrieved events. Give a run of din_long."
        )
    # Padding candidates attend too; nothing is retrieved for them, and so nothing may be relevant.
    attention = np.where(trace.features[CANDIDATE_MASK][..., np.newaxis], attention, 0.0)
    return pad_time(attention, trace.features[HISTORY_MASK].shape[1])


def pad_time(weights: np.ndarray, time: int) -> np.ndarray:
    """Pads the last axis of weights with zeros, [..., events] -> [..., time]."""
    missing = time - weights.shape[-1]
    return np.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(0, missing)])


def top_attention(attention: np.ndarray, k: int) -> np.ndarray:
    """Mask of the k events of the highest attention, bool like `attention`; none where it is zero."""
    order = np.argsort(-attention, axis=-1, kind="stable")[..., :k]  # ties: the older event first
    is_top = np.zeros(attention.shape, bool)
    np.put_along_axis(is_top, order, True, axis=-1)
    return is_top & (attention > 0)


def coverage(retrieval: np.ndarray, relevant: np.ndarray) -> float:
    """Share of the relevant events that were retrieved, averaged over candidates.

    Args:
      retrieval: mask of the retrieved events, bool [users, candidates, time].
      relevant: mask of the relevant ones, bool in the same shape.

    Returns:
      Between 0 and 1; NaN where no candidate has a relevant event.
    """
    count = relevant.sum(axis=-1)  # [users, candidates]
    share = (retrieval & relevant).sum(axis=-1)[count > 0] / count[count > 0]
    return _mean(share)


def attention_mass(retrieval: np.ndarray, attention: np.ndarray) -> float:
    """Attention on the retrieved events, averaged over candidates that attend to any event.

    Args:
      retrieval: mask of the retrieved events, bool [users, candidates, time].
      attention: in the same shape, summing to one over time or to zero.
    """
    has_attention = attention.sum(axis=-1) > 0
    return _mean(np.where(retrieval, attention, 0.0).sum(axis=-1)[has_attention])


def overlap(retrievals: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Unit -> other unit -> share of the other's events that the first retrieves too."""
    return {
        name: {other: coverage(mine, theirs) for other, theirs in retrievals.items()}
        for name, mine in retrievals.items()
    }


def recall(
    retrievals: Mapping[str, np.ndarray], attention: np.ndarray, k: int
) -> dict[str, dict[str, float]]:
    """Recall of full target attention by each unit.

    Args:
      retrievals: unit -> bool [users, candidates, time].
      attention: of a model that attends to all events, in the same shape.
      k: number of events of the highest attention that count as relevant.

    Returns:
      Unit -> `recall`, the share of the relevant events that it retrieves; `attention`, the share of
      the attention on its events; `found`, the number of events for a candidate.
    """
    relevant, has_attention = top_attention(attention, k), attention.sum(axis=-1) > 0
    return {
        name: {
            "recall": coverage(mine, relevant),
            "attention": attention_mass(mine, attention),
            "found": _mean(mine.sum(axis=-1)[has_attention]),
        }
        for name, mine in retrievals.items()
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
