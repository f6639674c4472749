"""Attention on the events that caused a click, on synthetic logs, whose causes are on record.

A synthetic log comes with the truth: which earlier events caused each event, by position in the
user's own sequence. Records keep that position, batches do not; the user and the time of the
candidate identify it.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from dgin_tf.inspection import traces
from dgin_tf.models.base import CTRModel
from dgin_tf.records import LABEL, POSITION, Manifest, decode_record, read_records, shard_paths
from dgin_tf.schema import (
    CANDIDATE,
    CANDIDATE_MASK,
    FIRST_ID,
    HISTORY_MASK,
    PREFIX,
    TIMESTAMP,
    USER_ID,
    Schema,
)

_TIME = PREFIX[CANDIDATE] + TIMESTAMP


class Truth(Protocol):
    """Causes of every event of a log, as in `data_prep.synthetic.Truth`."""

    def causes(self, user_id: int, position: int) -> np.ndarray:
        """Positions of the events that caused the one at `position`, both in the user's sequence."""


def cause_share(attention: np.ndarray, mask: np.ndarray, causes: np.ndarray) -> np.ndarray:
    """Share of the attention that lies on the causes.

    Args:
      attention: [users, candidates, time]; negative scores count by their size.
      mask: True where the event is real, bool [users, time].
      causes: True where an event caused the candidate's click, bool [users, candidates, time].

    Returns:
      [users, candidates] in [0, 1]; NaN where no event of the history is a cause or nothing is
      attended to.
    """
    if attention.shape != causes.shape or mask.shape != (attention.shape[0], attention.shape[2]):
        raise ValueError(
            "expected attention and causes [users, candidates, time] and mask [users, time]; got "
            f"{attention.shape}, {causes.shape} and {mask.shape}."
        )
    weights = np.abs(attention) * mask[:, None]  # [users, candidates, time]
    causes = causes & mask[:, None]
    total = weights.sum(axis=-1)  # [users, candidates]
    is_defined = causes.any(axis=-1) & (total > 0)
    share = np.where(causes, weights, 0.0).sum(axis=-1) / np.where(is_defined, total, 1.0)
    return np.where(is_defined, share, np.nan)


def chance_share(mask: np.ndarray, causes: np.ndarray) -> np.ndarray:
    """`cause_share` of equal attention, [users, candidates], as a baseline."""
    return cause_share(np.ones(causes.shape), mask, causes)


class CauseFinder:
    """Marks the causes of every click in batches of a split.

    The log must have been prepared whole: every event kept, and histories stored in full
    (`--max_history=0`), so that positions are those of the truth.

    Args:
      data_dir: the prepared data set, with `vocabulary/user_id.txt`.
      split: name of the split that the batches are of.
      truth: of the log that it was prepared from.
    """

    def __init__(self, data_dir: str | os.PathLike, split: str, truth: Truth):
        schema = Schema.load(data_dir)
        lines = (pathlib.Path(data_dir) / "vocabulary" / f"{USER_ID}.txt").read_text().split()
        self._raw_user: Sequence[str] = lines
        self._truth = truth
        # (user, second of the click) -> position in the user's sequence
        self._position: dict[tuple[int, int], int] = {}
        for path in shard_paths(data_dir, Manifest.load(data_dir, schema).splits[split]):
            for payload in read_records(path):
                record = decode_record(schema, payload)
                user = int(record[USER_ID][0])
                is_click = record[LABEL] > 0
                clicks = (record[name][is_click] for name in (_TIME, POSITION))
                for second, position in zip(*clicks, strict=True):
                    self._position[user, int(second)] = int(position)

    def masks(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """True where an event caused a candidate's click.

        Args:
          features: a batch of the split, padded at the end.

        Returns:
          bool [users, candidates, time]; all False for candidates that were not clicked and for
          clicks without a cause.
        """
        is_click = np.asarray(features[LABEL]) > 0
        length = np.asarray(features[HISTORY_MASK]).sum(axis=1)
        is_cause = np.zeros((*is_click.shape, np.asarray(features[HISTORY_MASK]).shape[1]), bool)
        for row, column in np.argwhere(is_click & np.asarray(features[CANDIDATE_MASK])):
            user = int(features[USER_ID][row])
            position = self._position[user, int(features[_TIME][row, column])]
            first = position - length[row]  # events before it were cut off
            raw = int(self._raw_user[user - FIRST_ID])
            causes = self._truth.causes(raw, position) - first
            is_cause[row, column, causes[causes >= 0]] = True
        return is_cause


@dataclasses.dataclass(frozen=True)
class CauseShares:
    """Attention of a model on the true causes of clicks, means over the clicks that have a cause.

    Attributes:
      share: of the attention that lies on the causes.
      chance: the share that equal attention would have.
      clicks: how many there are.
    """

    share: float
    chance: float
    clicks: int


def mean_shares(
    model: CTRModel, batches: Iterable[Mapping[str, tf.Tensor]], finder: CauseFinder
) -> CauseShares:
    """Measures how much of a model's attention lies on the true causes of clicks.

    Args:
      model: one that attends to past events.
      batches: of the finder's split.
      finder: of the causes.

    Raises:
      ValueError: the model has no attention.
    """
    shares, chances = [], []
    for batch in batches:
        trace = traces.trace(model, batch)
        if trace.attention is None:
            raise ValueError(f"expected a model with attention; {model.name} has none.")
        is_cause = finder.masks(trace.features)  # [users, candidates, time]
        mask = trace.features[HISTORY_MASK]
        shares.append(cause_share(trace.attention, mask, is_cause).ravel())
        chances.append(chance_share(mask, is_cause).ravel())
    share, chance = np.concatenate(shares), np.concatenate(chances)
    has_cause = np.isfinite(share)
    return CauseShares(
        float(share[has_cause].mean()), float(chance[has_cause].mean()), int(has_cause.sum())
    )
