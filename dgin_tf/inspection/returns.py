"""Days till the last event of the candidate's category (SIM, section 4.5, figure 4 and table 6).

A model of long histories should choose more of what somebody has not come back to for weeks. The
paper compares what people clicked under two models; offline, what two models rank first for the same
people is compared.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DAY = 86_400
SHORT_TERM_DAYS = 14  # the paper's short-term features reach back so far
NEVER = -1


def days_since(features: Mapping[str, Any], field: str = "category_id") -> np.ndarray:
    """d_category of each candidate.

    Args:
      features: a batch with `hist_<field>`, `hist_timestamp`, `hist_mask` [users, time],
        `cand_<field>` and `cand_timestamp` [users, candidates].
      field: what makes two things the same.

    Returns:
      Whole days since the last such event, int64 [users, candidates]; -1 where there is none. A
      history that was cut to its newest events knows nothing of those before.
    """
    past, wanted = np.asarray(features[f"hist_{field}"]), np.asarray(features[f"cand_{field}"])
    same = past[:, None] == wanted[..., None]
    same &= np.asarray(features["hist_mask"])[:, None]
    times = np.where(same, np.asarray(features["hist_timestamp"])[:, None], np.iinfo(np.int64).min)
    last = times.max(axis=-1, initial=np.iinfo(np.int64).min)
    gap = np.asarray(features["cand_timestamp"]) - np.where(same.any(axis=-1), last, 0)
    return np.where(same.any(axis=-1), gap // DAY, NEVER)


@dataclasses.dataclass(frozen=True)
class Returns:
    """Statistics of d_category over a set of samples, as in table 6.

    Attributes:
      mean: average days over the samples that have such an event.
      known: share of those samples, p(d_category > -1).
      long_term: share of samples whose last such event is 14 days or more ago.
      samples: how many there are.
    """

    mean: float
    known: float
    long_term: float
    samples: int


def summarize(days: np.ndarray) -> Returns:
    """Statistics of `days_since` of any number of samples; NaN where there are none."""
    known = days[days > NEVER]
    share = len(known) / len(days) if len(days) else np.nan
    return Returns(
        mean=float(known.mean()) if len(known) else np.nan,
        known=share,
        long_term=float(np.mean(days >= SHORT_TERM_DAYS)) if len(days) else np.nan,
        samples=len(days),
    )


def distribution(
    days: np.ndarray, edges: Sequence[int] = (0, 1, 2, 4, 7, 14, 30, 90)
) -> np.ndarray:
    """Figure 4: shares of samples by days, [1 + edges]: without such an event, then up to each edge.

    Args:
      days: of `days_since`, [samples].
      edges: ascending, from zero; the last interval is open.
    """
    slots = np.where(days <= NEVER, 0, np.searchsorted(edges, days, side="right"))
    return np.bincount(slots, minlength=len(edges) + 1) / max(len(days), 1)


def ranked_first(logits: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Which candidate of each row a model ranks first, bool [users, candidates]; none where masked."""
    best = np.where(mask, logits, -np.inf).argmax(axis=-1)
    return (np.arange(mask.shape[-1]) == best[:, None]) & mask
