"""Candidates of a bucket: sampled by a protocol or fixed by an examples file, and their leak checks."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_prep.engines.local import Result
from data_prep.events import ITEM, TIME
from data_prep.protocol import EVERY_EVENT, EXAMPLES_FILE, GIVEN, MULTI_BEHAVIOR, POPULARITY, STRICT
from data_prep.protocol import TIME as BY_TIME
from data_prep.stages import leaks
from data_prep.stages.examples import Candidates, lay_out, positives_of
from data_prep.stages.histories import Histories
from data_prep.stages.impressions import (
    count_impressions,
    impression_candidates,
    past_events,
)
from data_prep.stages.negatives import (
    Sampler,
    draw_negatives,
    draw_own,
    newest_of_item,
    target_seeds,
)
from data_prep.stages.splits import TRAIN
from data_prep.stages.targets import Targets, every_event, last_events, targets_of_lines
from data_prep.storage import load_columns
from data_prep.tasks.histories import BucketTask, event_splits, is_of_type, load_impressions
from data_prep.tasks.id_tables import IdTables


def sampled_candidates(
    task: BucketTask, histories: Histories, ids: IdTables, item_rows: np.ndarray
) -> tuple[Candidates, Result]:
    """Candidates of every protocol but `examples_file` and `impressions`, and counts of the targets left out.

    Args:
      task: the bucket.
      histories: of the bucket.
      ids: of the run.
      item_rows: row of each event's item in `ids`, int64 [events].
    """
    protocol = task.protocol
    targets = _choose_targets(task, histories)
    if protocol.targets_from:
        events = histories.offsets[targets.user] + targets.event
        targets = targets.take(histories.events[TIME][events] >= protocol.targets_from)
    all_targets = len(targets)
    targets = targets.take(targets.cut >= protocol.min_history)
    with_history = len(targets)
    negatives = np.zeros((with_history, 0), np.int64)
    if protocol.negatives:
        negatives = _draw(task, histories, targets, ids, item_rows)
        # A target that lacks a negative is left out.
        complete = np.flatnonzero((negatives >= 0).all(axis=1))
        targets, negatives = targets.take(complete), negatives[complete]
    event = histories.offsets[targets.user] + targets.event
    # Vocabulary items -> rows of the id tables, [targets, negatives].
    rows = ids.row_of_id[negatives] if negatives.size else negatives
    labels = is_of_type(histories, task.positive_types)[event] if protocol.has_labels else None
    candidates = lay_out(histories, targets, item_rows[event], rows, labels)
    return candidates, {
        "targets": all_targets,
        "targets_without_history": all_targets - with_history,
        "targets_without_negative": with_history - len(targets),
    }


def _choose_targets(task: BucketTask, histories: Histories) -> Targets:
    """The events that the protocol predicts."""
    protocol, split = task.protocol, event_splits(task, histories)
    if protocol.name == EVERY_EVENT:
        return every_event(histories, split, strict=protocol.strict)
    eligible = None
    if protocol.name == MULTI_BEHAVIOR:
        eligible = is_of_type(histories, task.positive_types)
    return last_events(
        histories, split, protocol.targets_per_user, strict=protocol.strict, eligible=eligible
    )


def _draw(
    task: BucketTask, histories: Histories, targets: Targets, ids: IdTables, item_rows: np.ndarray
) -> np.ndarray:
    """Vocabulary items (id - first id) as negatives, [targets, negatives]."""
    protocol = task.protocol
    # -1 for items without an id of their own, which are no negatives.
    items = np.maximum(ids.item_id.astype(np.int64) - ids.first_item_id, -1)
    sampler = Sampler(len(ids.count))
    if protocol.negative_distribution == POPULARITY:
        sampler = Sampler.by_weight(ids.count)
    seeds = target_seeds(histories.users[targets.user], targets.event, task.seed)
    if not protocol.strict:  # rejected only where it equals the positive of the same target
        positive = items[item_rows[histories.offsets[targets.user] + targets.event]]
        number = np.arange(len(targets))
        return draw_negatives(seeds, number, (number, positive), sampler, protocol.negatives)
    event_items = items[item_rows]
    in_vocabulary = event_items >= 0
    # Strict: never an item that the user has any event with.
    forbidden = (histories.owner[in_vocabulary], event_items[in_vocabulary])
    sample = draw_negatives(seeds, targets.user, forbidden, sampler, protocol.negatives)
    if not protocol.own_negatives:
        return sample
    first = histories.offsets[targets.user]
    own = draw_own(
        seeds,
        (first, first + targets.cut),
        event_items,
        newest_of_item(histories.owner, item_rows),
        protocol.own_negatives,
        protocol.negatives,
    )
    return np.where(own >= 0, own, sample)


def fixed_candidates(
    task: BucketTask, histories: Histories, ids: IdTables
) -> tuple[Candidates, Result]:
    """Candidates of the lines of an examples file; raises ValueError where one fits no event."""
    lines = load_columns(task.path("examples"))
    line_numbers, negative = lines.pop("line"), lines.pop("negative")
    targets, order, wrong = targets_of_lines(histories, lines)
    if len(wrong):
        first = int(np.min(line_numbers[wrong]))
        raise ValueError(
            f"line {first} of the examples file (and {len(wrong) - 1} more in bucket {task.bucket}) "
            "names an event that the log does not have: the user's event at `position`, sorted by "
            "timestamp and item, must have that timestamp and be that positive. Check that the "
            "file was made from this log with these filters."
        )
    # [lines], in the order of `targets`.
    positives = ids.items.rows(positives_of(histories, targets))
    negatives = ids.items.rows(negative[order])
    candidates = lay_out(histories, targets, positives, negatives[:, None])
    return candidates, {"targets": len(targets)}


def labeled_candidates(
    task: BucketTask, ids: IdTables, more: Sequence[str]
) -> tuple[Histories, Candidates, Result]:
    """The past events of a bucket of impressions, its candidates, and figures of the impressions.

    Args:
      task: the bucket.
      ids: of the run.
      more: side and numeric features of past events.
    """
    of_requests = (column.name for column in task.declared.of_requests)
    log, is_past, impressions = load_impressions(task, (*more, *of_requests))
    if task.protocol.targets_from:
        began = log.events[TIME][impressions.first]
        impressions = impressions.take(began >= task.protocol.targets_from)
    item_rows = ids.items.rows(log.events[ITEM]).astype(np.int64)
    figures = count_impressions(log, impressions, item_rows)
    with_history = impressions
    if task.protocol.min_history:
        with_history = impressions.take(impressions.cut >= task.protocol.min_history)
    if task.protocol.split_by == GIVEN:
        late = np.zeros(0, bool)
        if task.first_test is not None:
            began = log.events[TIME][impressions.first]
            late = (impressions.split == TRAIN) & (began >= task.first_test)
        figures[leaks.LATE_TRAINING] = int(late.sum())
    counts = {
        **figures,
        "targets": len(impressions),
        "targets_without_history": len(impressions) - len(with_history),
        "targets_without_negative": 0,
    }
    candidates, rows = impression_candidates(log, with_history, item_rows)
    candidates = with_context(candidates, task, ids, log, rows)
    return past_events(log, is_past), candidates, counts


def with_context(
    candidates: Candidates, task: BucketTask, ids: IdTables, log: Histories, rows: np.ndarray
) -> Candidates:
    """Candidates with the context of their request.

    Args:
      candidates: of the bucket.
      task: the bucket.
      ids: of the run.
      log: rows of the bucket.
      rows: row of each candidate's request in it, int64 [candidates].
    """
    names = [column.name for column in task.declared.of_requests]
    context = {name: ids.columns.values(name, log.events[name][rows]) for name in names}
    return dataclasses.replace(candidates, context=context)


def count_leaks(
    task: BucketTask, histories: Histories, candidates: Candidates, item_rows: np.ndarray
) -> Result:
    """Every leak check of the bucket: name -> violations, all of which must be 0."""
    protocol = task.protocol
    no_ties = protocol.strict and protocol.name != EXAMPLES_FILE
    future = leaks.OWN_SECOND if no_ties else leaks.OWN_EVENT
    checks = {future: leaks.future_events(histories, candidates, strict=no_ties)}
    if protocol.has_labels:
        pass  # none is sampled
    elif protocol.own_negatives:
        later = leaks.later_negatives(candidates, histories, item_rows)
        checks[leaks.LATER_NEGATIVE] = later
    elif protocol.form == STRICT:
        checks[leaks.SEEN_NEGATIVE] = leaks.seen_negatives(candidates, histories.owner, item_rows)
    else:
        checks[leaks.POSITIVE_AS_NEGATIVE] = leaks.positives_as_negatives(candidates)
    if protocol.split_by not in (BY_TIME, GIVEN):
        checks[leaks.SHARED_USER] = leaks.users_in_two_splits(candidates)
    return checks
