"""Sorts the events of a bucket into histories, and loads them for the later stages."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from data_prep.columns import DeclaredColumns
from data_prep.engines.local import Result
from data_prep.events import BEHAVIOR, IMPRESSION_COLUMNS, NO_IMPRESSION, TIME, concatenate
from data_prep.protocol import GIVEN, LAST_TIME, Protocol
from data_prep.protocol import TIME as BY_TIME
from data_prep.stages.histories import Histories, build_histories
from data_prep.stages.impressions import Impressions, find_impressions
from data_prep.stages.splits import split_of_times, split_of_users, time_histogram
from data_prep.stages.targets import last_times
from data_prep.storage import load_columns, narrow, save_columns
from dgin_tf.records import LABEL


@dataclasses.dataclass(frozen=True)
class HistoryTask:
    """One bucket, to be sorted.

    Attributes:
      bucket: its number.
      segments: (file, first row, row after the last) of the bucket's events.
      target: file to write.
      span: earliest and latest second of the whole log, for the time histogram; None leaves it out.
      last_of: behavior types of which the histogram counts each user's last event alone; None counts
        all events.
      keeps_order: leaves a user's events of one time in the order of the log.
      targets_from: second before which no event is a target, nor counted in the histogram.
    """

    bucket: int
    segments: tuple[tuple[pathlib.Path, int, int], ...]
    target: pathlib.Path
    span: tuple[int, int] | None
    last_of: tuple[int, ...] | None = None
    keeps_order: bool = False
    targets_from: int = 0


def build_bucket(task: HistoryTask) -> Result:
    """Writes the bucket's sorted histories."""
    task.target.parent.mkdir(exist_ok=True)
    # A bucket is one range of rows in every segment.
    parts = [load_columns(path, rows=(first, last)) for path, first, last in task.segments]
    events = concatenate(parts)
    del parts  # a bucket is as large as memory allows
    histories, duplicates = build_histories(events, keeps_order=task.keeps_order)
    columns = {
        name: narrow(column.astype(np.int64)) if name != BEHAVIOR else column
        for name, column in histories.to_columns().items()
    }
    times = histories.events[TIME]
    if task.span is not None:
        target_times = times
        if LABEL in histories.events:
            target_times = times[histories.events[LABEL] != NO_IMPRESSION]
        elif task.last_of is not None:
            target_times = last_times(histories, is_of_type(histories, task.last_of))
        if task.targets_from:
            target_times = target_times[target_times >= task.targets_from]
        columns["histogram"] = time_histogram(target_times, *task.span)
    save_columns(task.target, columns)
    return {
        "users": len(histories.users),
        "events": len(times),
        "duplicates": duplicates,
        "single_event_users": int((histories.lengths == 1).sum()),
        "longest": int(histories.lengths.max(initial=0)),
        "behaviors": np.bincount(histories.events[BEHAVIOR], minlength=1).tolist(),
    }


@dataclasses.dataclass(frozen=True)
class BucketTask:
    """One bucket of sorted histories, for the stages that count and write it.

    Attributes:
      bucket: its number.
      folder: of the intermediate files.
      protocol: rules of the examples.
      seed: of the run.
      cuts: seconds at which validation and test begin, where the split is by time.
      positive_types: behavior types of positives, by number; empty for all.
      side_features: of the log.
      history_types: behavior types of past events beside impressions, by number; empty where the protocol
        chooses none.
      has_behavior_log: True where the past events beside impressions have a log of their own.
      first_test: second of the first test impression of a given split; None where there is none.
      declared: columns of the log.
    """

    bucket: int
    folder: pathlib.Path
    protocol: Protocol
    seed: int
    cuts: tuple[int, ...]
    positive_types: tuple[int, ...] = ()
    side_features: tuple[str, ...] = ()
    history_types: tuple[int, ...] = ()
    has_behavior_log: bool = False
    first_test: int | None = None
    declared: DeclaredColumns = DeclaredColumns()

    def path(self, content: str) -> pathlib.Path:
        """The bucket's file of `histories`, `examples`, `pairs`, `users`, `requests`,
        `side_feature.<name>` or `column.<name>`.
        """
        return self.folder / content / f"{self.bucket:05d}.columns"


def load_histories(task: BucketTask, more: Sequence[str] = ()) -> Histories:
    """The bucket's histories, with some of the columns that not every log has."""
    columns = load_columns(task.path("histories"))
    return Histories.from_columns(
        {n: c if n == BEHAVIOR else c.astype(np.int64, copy=False) for n, c in columns.items()},
        more,
    )


def load_impressions(
    task: BucketTask, more: Sequence[str] = ()
) -> tuple[Histories, np.ndarray, Impressions]:
    """Rows of a bucket of protocol `impressions`, which of them are past events, and the impressions."""
    log = load_histories(task, (*more, *IMPRESSION_COLUMNS))
    label = log.events[LABEL]
    if task.has_behavior_log:
        is_past = (label == NO_IMPRESSION) & is_of_type(log, task.history_types)
    elif task.history_types:
        is_past = is_of_type(log, task.history_types)
    else:
        is_past = label == 1
    user_split = None
    if task.protocol.split_by not in (BY_TIME, GIVEN):
        user_split = split_of_users(log.users, task.protocol.fractions, task.seed)
    return log, is_past, find_impressions(log, is_past, task.cuts, user_split)


def is_of_type(histories: Histories, types: Sequence[int]) -> np.ndarray:
    """True for events of some behavior types, for all events if none is listed, bool [events]."""
    included_types = np.zeros(1 << 8, bool)
    included_types[list(types) or slice(None)] = True
    return included_types[histories.events[BEHAVIOR]]


def event_splits(task: BucketTask, histories: Histories) -> np.ndarray:
    """Split of each event under every protocol but `examples_file` and `impressions`, int8 [events]."""
    if task.protocol.split_by == BY_TIME:
        return split_of_times(histories.events[TIME], task.cuts)
    if task.protocol.split_by == LAST_TIME:
        # [users] -> [events]: all events of a user are in the split of the last target.
        last = last_times(histories, is_of_type(histories, task.positive_types))
        return np.repeat(split_of_times(last, task.cuts), histories.lengths)
    of_user = split_of_users(histories.users, task.protocol.fractions, task.seed)
    return np.repeat(of_user, histories.lengths)
