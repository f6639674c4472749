"""Makes the examples of a bucket and writes its records."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from data_prep.engines.local import Result
from data_prep.events import BEHAVIOR, CATEGORY, ITEM, TIME
from data_prep.protocol import EXAMPLES_FILE, IMPRESSIONS
from data_prep.stages.examples import Candidates
from data_prep.stages.histories import Histories
from data_prep.stages.shards import (
    Layout,
    RecordColumns,
    group_records,
    pack_records,
    plan_records,
    plan_tails,
    record_columns,
    record_sizes,
)
from data_prep.storage import Columns
from data_prep.tasks.candidates import (
    count_leaks,
    fixed_candidates,
    labeled_candidates,
    sampled_candidates,
    with_context,
)
from data_prep.tasks.histories import BucketTask, load_histories
from data_prep.tasks.id_tables import IdTables, load_id_tables
from dgin_tf.records import LABEL, POSITION, SPLITS, write_records
from dgin_tf.schema import REQUEST, UNKNOWN_ID, Schema
from dgin_tf.whole_histories import HEADS, tail_path

UNKNOWN_COLUMNS = "unknown_columns"  # of the figures of a split


@dataclasses.dataclass(frozen=True)
class WriteTask:
    """One bucket, to be written as records.

    Attributes:
      bucket: its histories and the protocol.
      schema: of the records.
      output_dir: of the data set.
      whole_histories: whether to write these too, for what serves requests.
    """

    bucket: BucketTask
    schema: Schema
    output_dir: pathlib.Path
    whole_histories: bool = True


def write_bucket(task: WriteTask) -> Result:
    """Writes the bucket's records; returns their shards, figures by split and leak checks.

    What is cut for an honest evaluation must not be what serving knows: of whole histories the tails behind
    the records are files of their own, with every user's newest events, those of the targets among them.
    """
    schema, protocol = task.schema, task.bucket.protocol
    declared = task.bucket.declared
    more = (*schema.side_features, *schema.numeric_features)
    ids = load_id_tables(task.bucket.folder, declared, schema.to_json())
    if protocol.name == IMPRESSIONS:
        histories, candidates, counts = labeled_candidates(task.bucket, ids, more)
    else:
        of_requests = (column.name for column in declared.of_requests)
        histories = load_histories(task.bucket, (*more, *of_requests))
    item_rows = ids.items.rows(histories.events[ITEM]).astype(np.int64)
    if protocol.name == EXAMPLES_FILE:
        candidates, counts = fixed_candidates(task.bucket, histories, ids)
    elif protocol.name != IMPRESSIONS:
        candidates, counts = sampled_candidates(task.bucket, histories, ids, item_rows)
    if protocol.name != IMPRESSIONS:
        events = histories.offsets[candidates.target.user] + candidates.target.event
        candidates = with_context(candidates, task.bucket, ids, histories, events)
    layout = plan_records(histories, candidates, protocol.max_history, protocol.row_width)
    candidate_columns = {
        **{name: values[candidates.item] for name, values in ids.columns.items.items()},
        **candidates.context,
        ITEM: ids.item_id[candidates.item],
        CATEGORY: ids.category_id[candidates.item],
        TIME: candidates.time,
        POSITION: layout.position,
        LABEL: candidates.label,
    }
    if candidates.request is not None:
        candidate_columns[REQUEST] = candidates.request
    candidate_columns |= candidates.more
    # [users of the bucket] -> row in the id tables.
    users = ids.users.rows(histories.users)
    user_columns = {name: column[users] for name, column in ids.user_columns.items()}
    history_columns = _history_columns(task, histories, ids, item_rows)
    columns = record_columns(schema, history_columns, candidate_columns, user_columns)
    starts = candidates.row_starts(protocol.row_width)
    of_candidates = {n: values[candidates.target.user] for n, values in user_columns.items()}
    unknown = _unknown_columns(schema, {**of_candidates, **candidate_columns})
    whole: Result = {}
    if task.whole_histories:
        tails = plan_tails(histories, layout, protocol.max_history)
        without_candidates = dataclasses.replace(columns, candidate={})
        lengths = histories.lengths
        if protocol.max_history:
            lengths = np.minimum(lengths, protocol.max_history)
        whole = {
            "shards": _write_shards(
                task, tails, histories.users, without_candidates, is_tails=True
            ),
            "users": len(histories.users),
            "events": int(lengths.sum()),
            "events_left_out": int((histories.lengths - lengths).sum()),
        }
    return {
        "counts": counts,
        "leaks": count_leaks(task.bucket, histories, candidates, item_rows),
        "shards": _write_shards(task, layout, histories.users[layout.user], columns),
        "whole": whole,
        "splits": _split_figures(layout, starts, candidates, candidate_columns, unknown),
        "unknown_category_events": int((history_columns[CATEGORY] == UNKNOWN_ID).sum()),
    }


def _history_columns(
    task: WriteTask, histories: Histories, ids: IdTables, item_rows: np.ndarray
) -> Columns:
    """Field -> ids, seconds or numeric features of all events, [events, ...]."""
    events, schema = histories.events, task.schema
    of_events = [column.name for column in task.bucket.declared.of_events]
    side_features = [name for name in schema.side_features if name not in of_events]
    return {
        ITEM: ids.item_id[item_rows],
        CATEGORY: ids.category_id[item_rows],
        BEHAVIOR: ids.behavior_id[events[BEHAVIOR]],
        TIME: events[TIME],
        **{name: ids.side_feature_ids(name, events[name]) for name in side_features},
        **{name: events[name] for name in schema.numeric_features},
        **{name: ids.columns.values(name, events[name]) for name in of_events},
        **{name: values[item_rows] for name, values in ids.columns.items.items()},
    }


def _write_shards(
    task: WriteTask,
    layout: Layout,
    users: np.ndarray,
    columns: RecordColumns,
    is_tails: bool = False,
) -> list[dict]:
    """Writes one file for each split, or head of tails, and length; returns each `Shard`'s fields."""
    shards = []
    for number, group in enumerate(group_records(layout, users, record_sizes(layout, columns))):
        name = f"{task.bucket.bucket:05d}-{number:05d}-len{group.bucket:04d}.tfrecord"
        path = (
            tail_path(task.bucket.bucket, number, HEADS[group.split])
            if is_tails
            else f"{SPLITS[group.split]}/{name}"
        )
        (task.output_dir / path).parent.mkdir(exist_ok=True)
        write_records(task.output_dir / path, pack_records(layout, group.records, columns))
        sizes = layout.last_candidate - layout.first_candidate
        shards.append(
            {
                "path": path,
                "bucket": group.bucket,
                "users": len(group.records),
                "rows": int(layout.rows[group.records].sum()),
                "candidates": int(sizes[group.records].sum()),
                "row_candidates": int(layout.widest_row[group.records].max()),
            }
        )
    return shards


def _unknown_columns(schema: Schema, values: Columns) -> Columns:
    """Declared column -> whether a candidate has an unknown value, bool [candidates]."""
    unknown: Columns = {}
    for field in schema.fields:
        if field.is_column and field.name in values:
            column = values[field.name]
            flags = np.isnan(column) if field.is_standardized else np.equal(column, UNKNOWN_ID)
            unknown[field.name] = np.any(flags, axis=1) if field.shape else np.asarray(flags)
    return unknown


def _split_figures(
    layout: Layout, starts: np.ndarray, candidates: Candidates, ids: Columns, unknown: Columns
) -> Result:
    """Counts, times and history lengths of each split; `starts` are the rows' first candidates."""
    figures: Result = {}
    lengths, record_split = layout.history_lengths, layout.split
    unknown_item, unknown_category = (ids[name] == UNKNOWN_ID for name in (ITEM, CATEGORY))
    for number in np.unique(record_split):
        own = candidates.target.split == number
        # First candidates of the split's rows; each stands for one history cut.
        rows = starts[own[starts]]
        cuts = candidates.target.cut[rows]
        figures[SPLITS[number]] = {
            "users": int((record_split == number).sum()),
            "rows": len(rows),
            "candidates": int(own.sum()),
            "positives": int(candidates.label[own].sum()),
            "unknown_positives": int((unknown_item & (candidates.label == 1) & own).sum()),
            "unknown_categories": int((unknown_category & own).sum()),
            "first_time": int(candidates.time[own].min()),
            "last_time": int(candidates.time[own].max()),
            "longest_stored": int(lengths[record_split == number].max()),
            "history_events": int(cuts.sum()),
            "history_lengths": length_histogram(cuts),
        }
        if unknown:
            figures[SPLITS[number]][UNKNOWN_COLUMNS] = {
                name: int((flags & own).sum()) for name, flags in unknown.items()
            }
    return figures


def length_histogram(lengths: Sequence[int] | np.ndarray) -> list[int]:
    """Number of lengths that are 0, 1, 2-3, 4-7, ...: by the count of binary digits."""
    digits = np.ceil(np.log2(np.asarray(lengths, np.float64) + 1)).astype(np.int64)
    return np.bincount(digits, minlength=1).tolist()
