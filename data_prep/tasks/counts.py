"""Counts of items, users and side features in the training events, from which ids are made."""

import dataclasses
import pathlib

import numpy as np

from data_prep.column_tables import count_values
from data_prep.columns import Column
from data_prep.engines.local import Result
from data_prep.events import BEHAVIOR, CATEGORY, ITEM, MISSING, TIME
from data_prep.protocol import EXAMPLES_FILE, IMPRESSIONS
from data_prep.stages.histories import Histories
from data_prep.stages.impressions import Impressions, request_keys, training_rows
from data_prep.stages.splits import TRAIN
from data_prep.stages.vocabulary import count_pairs, merge_pairs
from data_prep.storage import Columns, load_columns, map_columns, save_columns
from data_prep.tasks.histories import BucketTask, event_splits, load_histories, load_impressions
from dgin_tf.schema import REQUEST


def training_events(task: BucketTask, histories: Histories) -> np.ndarray:
    """True for events that the vocabulary counts, bool [events]."""
    events = len(histories.events[TIME])
    if not task.protocol.strict:
        return np.ones(events, bool)
    if task.protocol.name != EXAMPLES_FILE:
        return event_splits(task, histories) == TRAIN
    # With fixed examples, all events of a user up to the newest training target.
    lines = load_columns(task.path("examples"))
    last = np.full(len(histories.users), -1, np.int64)
    user = np.searchsorted(histories.users, lines["user"])
    counts = (lines["split"] == TRAIN) & (user < len(histories.users))
    np.maximum.at(last, user[counts], lines["position"][counts])
    index = np.arange(events) - np.repeat(histories.offsets[:-1], histories.lengths)
    return index <= np.repeat(last, histories.lengths)


def count_bucket(task: BucketTask) -> Result:
    """Writes the bucket's (item, category) counts, its users with theirs, and those of columns."""
    requests: Result = {}
    declared = task.declared
    more = (*task.side_features, *(column.name for column in declared.of_log))
    if task.protocol.name == IMPRESSIONS:
        histories, is_past, impressions = load_impressions(task, more)
        training = training_rows(histories, is_past, impressions)
        # Behavior types and side features are those of past events alone.
        past_training = training & is_past
        training_targets = np.zeros(len(training), bool)
        training_targets[impressions.row[impressions.split == 0]] = True
        if REQUEST in histories.events:
            requests = _save_requests(task, histories, impressions)
    else:
        histories = load_histories(task, more)
        past_training = training = training_targets = training_events(task, histories)
    pairs = count_pairs(histories.events[ITEM], histories.events[CATEGORY], training)
    if len(histories.users):
        # True for users with any training event, [users].
        training_users = np.logical_or.reduceat(training, histories.offsets[:-1])
    else:
        training_users = training
    users = {"key": histories.users, "events": histories.lengths, "training": training_users}
    for column in declared.of_log_users:
        users[column.name] = _oldest_known(column, histories)
    tables = {task.path("pairs"): pairs, task.path("users"): users}
    for columns, counts_for in (
        (declared.of_requests, training_targets),
        (declared.of_events, past_training),
    ):
        for column in columns:
            counted = count_values(column, histories.events[column.name], counts_for)
            tables[task.path(f"column.{column.name}")] = counted
    for name in task.side_features:
        keys, row = np.unique(histories.events[name], return_inverse=True)
        counts = np.bincount(row, past_training, len(keys)).astype(np.int64)
        tables[task.path(f"side_feature.{name}")] = {"key": keys, "count": counts}
    for path, table in tables.items():
        path.parent.mkdir(exist_ok=True)
        save_columns(path, table)
    behaviors = histories.events[BEHAVIOR][past_training]
    return requests | {
        "pairs": len(pairs["item"]),
        "training_events": int(training.sum()),
        "training_behaviors": np.bincount(behaviors, minlength=1).tolist(),
        "training_users": int(training_users.sum()),
    }


def _oldest_known(column: Column, histories: Histories) -> np.ndarray:
    """Key or bits of the first event of each user that tells the column, int64 [users]."""
    values = histories.events[column.name]
    known = ~np.isnan(values.view(np.float64)) if column.is_number else values != MISSING
    rows = np.arange(len(values))
    if not len(rows):
        return values
    # The first known row of each user, or the first one of a user without.
    last = len(rows) - 1
    first = np.minimum.reduceat(np.where(known, rows, last), histories.offsets[:-1])
    is_own = known[first] & (first < histories.offsets[1:])
    return values[np.where(is_own, first, histories.offsets[:-1])]


def _save_requests(task: BucketTask, log: Histories, impressions: Impressions) -> Result:
    """Writes the bucket's requests by rising key and whether each has several users."""
    keys = request_keys(log, impressions)
    requests = np.sort(keys[impressions.row == impressions.first])
    # Rows are sorted by user: a request that began at an earlier one has several.
    is_other = impressions.first < log.offsets[impressions.user]
    shared = np.zeros(len(requests), bool)
    shared[np.searchsorted(requests, keys[is_other])] = True
    path = task.path("requests")
    path.parent.mkdir(exist_ok=True)
    save_columns(path, {"request": requests, "shared": shared})
    return {"requests": len(requests)}


@dataclasses.dataclass(frozen=True)
class MergeTask:
    """What all buckets counted for item or request keys in [first, last), to be merged.

    Attributes:
      sources: files of the buckets, sorted by key.
      first, last: keys; None is no bound.
      target: file to write; not of requests, which are only counted.
    """

    sources: tuple[pathlib.Path, ...]
    first: int | None
    last: int | None
    target: pathlib.Path


def merge_range(task: MergeTask) -> Result:
    """Writes the items of one range of keys with their category and counts."""
    task.target.parent.mkdir(exist_ok=True)
    items = merge_pairs(_parts(task, "item"))
    save_columns(task.target, items)
    return {"items": len(items["item"])}


def count_shared_requests(task: MergeTask) -> Result:
    """Counts the requests of a range of keys that have several users, in one bucket or in several."""
    parts = _parts(task, "request")
    requests = np.sort(np.concatenate([part["request"] for part in parts]))
    shared = [part["request"][part["shared"]] for part in parts]
    shared.append(requests[1:][requests[1:] == requests[:-1]])
    return {"shared_requests": len(np.unique(np.concatenate(shared)))}


def _parts(task: MergeTask, key: str) -> list[Columns]:
    """The rows of every source whose key is in the task's range."""
    parts = []
    for path in task.sources:
        columns = map_columns(path)
        # Each file is sorted by key, so a range of keys is a range of rows.
        start = 0 if task.first is None else int(np.searchsorted(columns[key], task.first))
        stop = None if task.last is None else int(np.searchsorted(columns[key], task.last))
        parts.append({name: np.asarray(column[start:stop]) for name, column in columns.items()})
    return parts
