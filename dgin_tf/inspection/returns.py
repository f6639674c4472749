"""Days since the last event of the candidate's category (SIM, section 4.5, figure 4 and table 6).

A model of long histories should rank higher what a user has not come back to for weeks. The paper
compares the clicks under two models online; offline, the candidates are compared that two models
rank first for the same users.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dgin_tf.schema import CANDIDATE, HISTORY, HISTORY_MASK, PREFIX, TIMESTAMP

DAY = 86_400
SHORT_TERM_DAYS = 14  # span of the paper's short-term features
NEVER = -1


def days_since(features: Mapping[str, Any], field: str = "category_id") -> np.ndarray:
    """d_category of each candidate.

    Args:
      features: a batch with `hist_<field>`, `hist_timestamp`, `hist_mask` [users, time],
        `cand_<field>` and `cand_timestamp` [users, candidates].
      field: by which events and candidates are compared.

    Returns:
      Whole days since the last event that equals the candidate in `field`, int64
      [users, candidates]; -1 where there is none in the history, which may have been cut to its
      newest events.
    """
    past = np.asarray(features[PREFIX[HISTORY] + field])
    target = np.asarray(features[PREFIX[CANDIDATE] + field])
    same = past[:, None] == target[..., None]  # [users, candidates, time]
    same &= np.asarray(features[HISTORY_MASK])[:, None]
    never = np.iinfo(np.int64).min
    times = np.where(same, np.asarray(features[PREFIX[HISTORY] + TIMESTAMP])[:, None], never)
    last = times.max(axis=-1, initial=never)
    gap = np.asarray(features[PREFIX[CANDIDATE] + TIMESTAMP]) - np.where(same.any(axis=-1), last, 0)
    return np.where(same.any(axis=-1), gap // DAY, NEVER)


@dataclasses.dataclass(frozen=True)
class Returns:
    """Statistics of d_category over a set of samples, as in table 6.

    Attributes:
      mean: average days over the samples that have such an event.
      share: of those samples, p(d_category > -1).
      long_term: share of samples whose last such event is 14 days or more ago.
      samples: how many there are.
    """

    mean: float
    share: float
    long_term: float
    samples: int


def summarize(days: np.ndarray) -> Returns:
    """Statistics of `days_since` of any number of samples; NaN where there are none."""
    finite = days[days > NEVER]
    return Returns(
        mean=float(finite.mean()) if len(finite) else np.nan,
        share=len(finite) / len(days) if len(days) else np.nan,
        long_term=float(np.mean(days >= SHORT_TERM_DAYS)) if len(days) else np.nan,
        samples=len(days),
    )


def distribution(
    days: np.ndarray, boundaries: Sequence[int] = (0, 1, 2, 4, 7, 14, 30, 90)
) -> np.ndarray:
    """Figure 4: shares of samples in intervals of days.

    Args:
      days: of `days_since`, [samples].
      boundaries: ascending, from zero; the last interval is open.

    Returns:
      [1 + boundaries]: the share without such an event, then those of the intervals that begin at
      each boundary.
    """
    bucket = np.where(days <= NEVER, 0, np.searchsorted(boundaries, days, side="right"))
    return np.bincount(bucket, minlength=len(boundaries) + 1) / max(len(days), 1)


def ranked_first(logits: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mask of the candidate that a model ranks first in each row, bool [users, candidates]."""
    best = np.where(mask, logits, -np.inf).argmax(axis=-1)
    return (np.arange(mask.shape[-1]) == best[:, None]) & mask  # none in rows that are all padding
