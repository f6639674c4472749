"""Puts candidates into rows: each target's positive, then its negatives, by user and cut."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from data_prep.events import ITEM, MICROSECOND, TIME
from data_prep.stages.histories import Histories
from data_prep.stages.targets import Targets
from data_prep.storage import Columns


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Candidates ordered by split, user and cut; those of one split and user make one record.

    Attributes:
      target: the target that each belongs to; its user, cut and split hold for the candidate.
      item: row of the item in the catalogue, int64 [candidates].
      time: seconds, those of the target, int64 [candidates].
      label: 1 for the event that happened, int32 [candidates].
      request: key of the request, each of which is one row, int64 [candidates]; None where candidates of
        one cut share rows.
      context: field of the request -> ids or float32 numbers, [candidates, ...]; a row has one context.
      more: further fields of candidates, each int64 [candidates].
      microsecond: of the time within its second, int64 [candidates]; None where the log has none.
    """

    target: Targets
    item: np.ndarray
    time: np.ndarray
    label: np.ndarray
    request: np.ndarray | None = None
    microsecond: np.ndarray | None = None
    more: Columns = dataclasses.field(default_factory=dict)
    context: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.item)

    def group_starts(self) -> np.ndarray:
        """First candidate of every record, int64 [records]."""
        return _changes(self.target.split, self.target.user)

    def row_starts(self, width: int = 0) -> np.ndarray:
        """First candidate of every row, int64 [rows].

        Args:
          width: candidates that a row may have at most; 0 gives one row to each history cut.
        """
        requests = [] if self.request is None else [self.request]
        for values in self.context.values():
            # Bits, since unknown numbers are equal here; each of several ids is a column.
            bits = values.view(np.int32) if values.dtype == np.float32 else values
            requests += list(bits.reshape(len(self), math.prod(bits.shape[1:])).T)
        starts = _changes(self.target.split, self.target.user, self.target.cut, *requests)
        if not width or not len(starts):
            return starts
        count = np.diff(np.append(starts, len(self)))
        # Number of each candidate within its history cut.
        member = np.arange(len(self)) - np.repeat(starts, count)
        return np.flatnonzero(member % width == 0)


def lay_out(
    histories: Histories,
    targets: Targets,
    positives: np.ndarray,
    negatives: np.ndarray,
    labels: np.ndarray | None = None,
) -> Candidates:
    """Orders targets by split, user and event and sets each one's negatives behind its positive.

    Args:
      histories: of the bucket.
      targets: what is predicted.
      positives: catalogue rows, [targets].
      negatives: catalogue rows, [targets, negatives].
      labels: of the targets, where not all of them are positives, [targets].
    """
    # The last key is the first that np.lexsort sorts by.
    order = np.lexsort((targets.event, targets.user, targets.split))
    width = 1 + negatives.shape[1]
    target = targets.take(np.repeat(order, width))
    # [targets, 1 + negatives], the positive first, then flat.
    items = np.column_stack([positives, negatives])[order].reshape(-1)
    # [targets, 1 + negatives]: only the first column can be positive.
    label = np.zeros((len(order), width), np.int32)
    label[:, 0] = 1 if labels is None else labels[order]
    event = histories.offsets[target.user] + target.event
    microsecond = histories.events.get(MICROSECOND)
    return Candidates(
        target,
        items,
        histories.events[TIME][event],
        label.reshape(-1),
        microsecond=None if microsecond is None else microsecond[event],
    )


def positives_of(histories: Histories, targets: Targets) -> np.ndarray:
    """Raw item key of each target, int64 [targets]."""
    return histories.events[ITEM][histories.offsets[targets.user] + targets.event]


def _changes(*columns: np.ndarray) -> np.ndarray:
    """Rows at which any of the columns differs from the row before; the first row is one."""
    differs = np.zeros(len(columns[0]), bool)
    differs[:1] = True
    for column in columns:
        differs[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(differs)
