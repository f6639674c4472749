"""What search units find: against each other, and against attention over everything.

SIM (Pi et al., 2020, section 5.3) reports that hard search covers 75% of what soft search selects;
TWIN (Chang et al., 2023) measures a unit by how much of the attention's own favorites it finds. Both
questions are asked here of any models that name what they found.
"""

from collections.abc import Mapping

import numpy as np

from dgin_tf.inspection.traces import Trace

_FOUND, _FOUND_MASK, _ATTENTION = "found", "found_mask", "long_attention"


def found_events(trace: Trace) -> np.ndarray:
    """Which past events a model's search unit found for each candidate.

    Args:
      trace: of a model with a search unit.

    Returns:
      bool [users, candidates, time].

    Raises:
      ValueError: the model searches nothing.
    """
    places = _output(trace, _FOUND)
    mask = _output(trace, _FOUND_MASK) & trace.features["cand_mask"][..., np.newaxis]
    time = trace.features["hist_mask"].shape[1]
    # One column more, in which whatever was not found ends up.
    found = np.zeros((*places.shape[:2], time + 1), bool)
    np.put_along_axis(found, np.where(mask, places, time), True, axis=2)
    return found[..., :time]


def long_attention(trace: Trace) -> np.ndarray:
    """Attention over all but the newest events, [users, candidates, time], of a `din_long`.

    Zero for the newest events, which the long part does not have.

    Raises:
      ValueError: the model has no such attention.
    """
    attention = _output(trace, _ATTENTION)
    if attention.ndim != 3 or any(name.endswith(_FOUND) for name in trace.outputs):
        raise ValueError(
            "expected attention over all events, as a din_long has it; got one over "
            f"{list(attention.shape[2:])} events that were found. Give a run of din_long."
        )
    return padded(attention, trace.features["hist_mask"].shape[1])


def padded(weights: np.ndarray, time: int) -> np.ndarray:
    """Weights of the first events, [..., events], as those of all, [..., time]: zero where they end."""
    missing = time - weights.shape[-1]
    return np.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(0, missing)])


def favorites(attention: np.ndarray, k: int) -> np.ndarray:
    """The k events of the highest attention, bool like `attention`; none where it is zero."""
    order = np.argsort(-attention, axis=-1, kind="stable")[..., :k]
    chosen = np.zeros(attention.shape, bool)
    np.put_along_axis(chosen, order, True, axis=-1)
    return chosen & (attention > 0)


def coverage(found: np.ndarray, wanted: np.ndarray) -> float:
    """Share of the wanted events that were found, averaged over candidates.

    Args:
      found: bool [users, candidates, time].
      wanted: bool in the same shape.

    Returns:
      Between 0 and 1; NaN where no candidate wants anything.
    """
    count = wanted.sum(axis=-1)
    share = (found & wanted).sum(axis=-1)[count > 0] / count[count > 0]
    return float(share.mean()) if share.size else float("nan")


def captured(found: np.ndarray, attention: np.ndarray) -> float:
    """Attention that lies on the found events, averaged over candidates that have any.

    Args:
      found: bool [users, candidates, time].
      attention: in the same shape, summing to one over time or to zero.
    """
    real = attention.sum(axis=-1) > 0
    mass = np.where(found, attention, 0.0).sum(axis=-1)[real]
    return float(mass.mean()) if mass.size else float("nan")


def overlap(found: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Unit -> other unit -> share of what the other found that the first found too."""
    return {
        name: {other: coverage(mine, theirs) for other, theirs in found.items()}
        for name, mine in found.items()
    }


def recall(
    found: Mapping[str, np.ndarray], attention: np.ndarray, k: int
) -> dict[str, dict[str, float]]:
    """How much of full target attention each unit finds.

    Args:
      found: unit -> bool [users, candidates, time].
      attention: of a model that attends to everything, in the same shape.
      k: how many favorites of the attention are asked for.

    Returns:
      Unit -> `recall`, the share of the k favorites that it found; `attention`, the share of the
      attention on what it found; `found`, the number of events found for a candidate.
    """
    wanted, real = favorites(attention, k), attention.sum(axis=-1) > 0
    return {
        name: {
            "recall": coverage(mine, wanted),
            "attention": captured(mine, attention),
            "found": float(mine.sum(axis=-1)[real].mean()) if real.any() else float("nan"),
        }
        for name, mine in found.items()
    }


def _output(trace: Trace, wanted: str) -> np.ndarray:
    for name, value in trace.outputs.items():
        if name == wanted or name.endswith("_" + wanted):
            return value
    raise ValueError(
        f"expected a model that names {wanted!r} among its outputs; this one has "
        f"{sorted(trace.outputs)}."
    )
