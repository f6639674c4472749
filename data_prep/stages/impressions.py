"""Impressions: labeled samples of requests, each seen from the past events before its request.

A log of impressions holds both what is predicted and, unless past events have a log of their own, what
came before. Rows of both are sorted together once, so that the cut of an impression is a count of the
past events among the rows before it.
"""

import dataclasses

import numpy as np
import pandas as pd

from data_prep.events import IMPRESSION_COLUMNS, MICROSECOND, NO_IMPRESSION, SPLIT, TIME
from data_prep.stages.examples import Candidates
from data_prep.stages.hashing import mix, stream
from data_prep.stages.histories import Histories
from data_prep.stages.negatives import pack
from data_prep.stages.splits import split_of_times
from data_prep.stages.targets import Targets, first_of_time, run_starts
from dgin_tf.records import LABEL
from dgin_tf.schema import NEGATIVE_RATE, REQUEST, SAMPLE_WEIGHT

#: Fields of candidates that impressions may have besides.
CANDIDATE_COLUMNS = (SAMPLE_WEIGHT, NEGATIVE_RATE)


@dataclasses.dataclass(frozen=True)
class Impressions:
    """The impressions of a bucket, in the order of the log's rows: by user and time.

    Attributes:
      row: of the impression in the log, int64 [impressions].
      first: row of the first impression of the same request, int64 [impressions].
      user: row of the user, int64 [impressions].
      cut: how many past events of the user are before the request began, int64 [impressions].
      split: 0 train, 1 validation, 2 test, int8 [impressions].
    """

    row: np.ndarray
    first: np.ndarray
    user: np.ndarray
    cut: np.ndarray
    split: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: np.ndarray) -> "Impressions":
        """The impressions at `index` (indices or a mask)."""
        fields = dataclasses.fields(self)
        return Impressions(*(getattr(self, field.name)[index] for field in fields))


def past_events(log: Histories, is_past: np.ndarray) -> Histories:
    """The histories of the rows that are past events, of all users; some may be empty.

    Args:
      log: rows of impressions and past events.
      is_past: True for past events, bool [rows].
    """
    offsets = _past_before(is_past)[log.offsets]
    rows = np.flatnonzero(is_past)
    names = set(log.events) - set(IMPRESSION_COLUMNS)
    events = {name: log.events[name][rows] for name in sorted(names)}
    return Histories(log.users, offsets, events)


def find_impressions(
    log: Histories, is_past: np.ndarray, cuts: tuple[int, ...], user_split: np.ndarray | None
) -> Impressions:
    """The impressions of a log with their requests, cuts and splits.

    Args:
      log: rows of impressions and past events; a log without requests has one for each user and second.
      is_past: True for past events, bool [rows].
      cuts: seconds at which validation and test begin; for a log without given splits.
      user_split: split of each user, [users], instead of the cuts; None where the split is by time.
    """
    owner, times = log.owner, log.events[TIME]
    row = np.flatnonzero(log.events[LABEL] != NO_IMPRESSION)
    user = owner[row]
    # Impressions of a request are neighbors, mostly: what they share is found once for each run of them.
    if REQUEST in log.events:
        start, first = _runs(log.events[REQUEST][row])
    else:
        start = run_starts(user, times[row])
        first = start
    size = np.diff(np.append(start, len(row)))
    first = row[first]
    before = _past_before(is_past)
    # Past events before the time at which the request began, among those of the user.
    cut = before[first_of_time(log, first)] - before[log.offsets[owner[first]]]
    if SPLIT in log.events:
        split = log.events[SPLIT][row].astype(np.int8)
    elif user_split is not None:
        split = user_split[user]
    else:
        split = np.repeat(split_of_times(times[first], cuts), size)
    first, cut = np.repeat(first, size), np.repeat(cut, size)
    return Impressions(row, first, user, cut, split)


def request_keys(log: Histories, impressions: Impressions) -> np.ndarray:
    """Key of the request of each impression, int64 [impressions].

    A log without requests has one for each user and second.
    """
    if REQUEST in log.events:
        return log.events[REQUEST][impressions.row]
    seeds = mix(log.users, stream(0, REQUEST))[impressions.user]
    keys = mix(log.events[TIME][impressions.row], 0) ^ seeds
    return keys.astype(np.int64) & np.iinfo(np.int64).max


def training_rows(log: Histories, is_past: np.ndarray, impressions: Impressions) -> np.ndarray:
    """True for training impressions and for the past events that any of them sees, bool [rows]."""
    is_training = impressions.split == 0
    newest = np.zeros(len(log.users), np.int64)
    np.maximum.at(newest, impressions.user[is_training], impressions.cut[is_training])
    # Number of each row's past event within the user's history.
    before = _past_before(is_past)
    place = before[:-1] - np.repeat(before[log.offsets[:-1]], log.lengths)
    training = is_past & (place < np.repeat(newest, log.lengths))
    training[impressions.row[is_training]] = True
    return training


def impression_candidates(
    log: Histories, impressions: Impressions, item_rows: np.ndarray
) -> tuple[Candidates, np.ndarray]:
    """Candidates by split, user, request and row, and the row in the log of each.

    Args:
      log: rows of impressions and past events.
      impressions: of the log.
      item_rows: catalogue row of each row's item, int64 [rows].
    """
    # Requests rise by user and time, and rows rise already.
    if (impressions.first[1:] < impressions.first[:-1]).any():
        impressions = impressions.take(np.argsort(impressions.first, kind="stable"))
    if (impressions.split[1:] < impressions.split[:-1]).any():
        impressions = impressions.take(np.argsort(impressions.split, kind="stable"))
    # An impression is no event of the history: it stands behind all that it sees.
    targets = Targets(impressions.user, impressions.cut, impressions.cut, impressions.split)
    candidates = Candidates(
        targets,
        item_rows[impressions.row],
        log.events[TIME][impressions.first],
        log.events[LABEL][impressions.row].astype(np.int32),
        request_keys(log, impressions),
        None if MICROSECOND not in log.events else log.events[MICROSECOND][impressions.first],
        {n: log.events[n][impressions.row] for n in CANDIDATE_COLUMNS if n in log.events},
    )
    return candidates, impressions.row


def count_impressions(
    log: Histories, impressions: Impressions, item_rows: np.ndarray
) -> dict[str, int]:
    """Figures of the impressions for the data card; `item_rows` as in `impression_candidates`."""
    labels = log.events[LABEL][impressions.row]
    # The same item twice in one request: neighbors once sorted by request, item and label.
    keys = (pack(impressions.first, item_rows[impressions.row]) << 1) | labels
    keys.sort(kind="stable")  # fast where requests rise already
    repeated = (keys[1:] >> 1) == (keys[:-1] >> 1)
    return {
        "impressions": len(impressions),
        "positives": int(labels.sum()),
        "requests": int((impressions.row == impressions.first).sum()),
        "repeated_impressions": int(repeated.sum()),
        "contradictory_impressions": int((repeated & (keys[1:] != keys[:-1])).sum()),
    }


def _runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index at which each run of equal values starts, and that of the first such value of all, int64 [runs]."""
    starts = run_starts(values)
    first = starts
    if pd.Series(values[starts]).duplicated().any():
        _, index, inverse = np.unique(values[starts], return_index=True, return_inverse=True)
        first = starts[index][inverse]
    return starts, first


def _past_before(is_past: np.ndarray) -> np.ndarray:
    """Number of past events before each row, then in all, int64 [rows + 1]."""
    before = np.zeros(len(is_past) + 1, np.int64)
    np.cumsum(is_past, out=before[1:])
    return before
