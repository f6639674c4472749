"""The units of work that an engine runs: read columns, call the stages' functions, write columns.

Every function takes one frozen argument, writes its files whole or not at all, and returns a few JSON
values. None of them knows how many workers there are.
"""

import dataclasses
import functools
import hashlib
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from data_prep.events import (
    BAD_COLUMNS,
    BEHAVIOR,
    CATEGORY,
    ITEM,
    TIME,
    USER,
    Chunk,
    check_names,
    concatenate,
)
from data_prep.plan import (
    EVERY_EVENT,
    GIVEN,
    LAST_TIME,
    MULTI_BEHAVIOR,
    POPULARITY,
    STRICT,
    Protocol,
)
from data_prep.plan import TIME as BY_TIME
from data_prep.quarantine import FIRST_BAD, name_rows
from data_prep.readers.base import Piece, Reader
from data_prep.stages import leaks
from data_prep.stages.examples import Candidates, lay_out, positives_of
from data_prep.stages.histories import Histories, build_histories
from data_prep.stages.negatives import (
    Sampler,
    draw_negatives,
    draw_own,
    newest_of_item,
    target_seeds,
)
from data_prep.stages.partition import deal
from data_prep.stages.shards import (
    Layout,
    group_records,
    pack_records,
    plan_records,
    record_columns,
    record_sizes,
)
from data_prep.stages.splits import TRAIN, split_of_times, split_of_users, time_histogram
from data_prep.stages.targets import (
    Targets,
    every_event,
    given_targets,
    last_events,
    last_times,
)
from data_prep.stages.vocabulary import Lookup, count_pairs, merge_pairs
from data_prep.storage import Columns, load_columns, map_columns, narrow, save_columns
from data_prep.vocabularies import LABEL_FILE
from dgin_tf.records import SPLITS, write_records
from dgin_tf.schema import UNKNOWN_ID, Schema, write_text

Result = dict[str, Any]


def fingerprint_file(path: str) -> Result:
    """SHA-256 and size of an input file."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"file": pathlib.Path(path).name, "bytes": file.tell(), "sha256": digest}


@dataclasses.dataclass(frozen=True)
class PartitionTask:
    """Reads one piece of the log and deals its events into buckets.

    Attributes:
      reader, piece: what to read.
      number: of the piece, which names its files.
      buckets: how many.
      keep: whether an event of each behavior type is kept.
      folder: where the dealt events go.
    """

    reader: Reader
    piece: Piece
    number: int
    buckets: int
    keep: tuple[bool, ...]
    folder: pathlib.Path


def partition_piece(task: PartitionTask) -> Result:
    """Writes segments of bucketed events, the bad rows and the words of the piece."""
    task.folder.mkdir(exist_ok=True)
    segments: list[dict] = []
    bad: list[pd.DataFrame] = []
    words: dict[str, list[pd.Series]] = {}
    kinds = np.zeros(len(task.keep), np.int64)
    id_kinds: dict[str, str] = {}
    lines = events = 0
    earliest, latest = [], []
    for chunk in task.reader.read(task.piece):
        if not lines and task.number == 0:
            _check_layout(chunk, task.piece.path)
        if len(chunk.bad):
            bad.append(chunk.bad.assign(line=chunk.bad["line"] + lines))
        lines += chunk.lines
        events += chunk.events
        kinds += np.bincount(chunk.columns[BEHAVIOR], minlength=len(task.keep))
        if not chunk.events:
            continue
        for name, names in chunk.names.items():
            words.setdefault(name, []).append(names)
        _check_id_kinds(id_kinds, chunk.names, task.piece.path)
        columns = dict(chunk.columns)
        if not all(task.keep):
            kept = np.array(task.keep)[columns[BEHAVIOR]]
            columns = {name: column[kept] for name, column in columns.items()}
        if not len(columns[TIME]):
            continue
        earliest.append(int(columns[TIME].min()))
        latest.append(int(columns[TIME].max()))
        dealt, offsets = deal({n: narrow(column) for n, column in columns.items()}, task.buckets)
        name = f"{task.number:05d}-{len(segments):05d}.columns"
        save_columns(task.folder / name, dealt)
        segments.append({"file": name, "offsets": offsets.tolist()})
    table = pd.concat(bad) if bad else pd.DataFrame(columns=list(BAD_COLUMNS))
    table.to_csv(task.folder / f"{task.number:05d}.bad.csv", index=False, header=False)
    for name, parts in words.items():
        write_text(
            task.folder / f"{task.number:05d}.{name}.words",
            "".join(f"{word}\n" for word in check_names(pd.concat(parts))),
        )
    return {
        "lines": lines,
        "events": events,
        "behaviors": kinds.tolist(),
        "bad": dict(sorted(Counter(_kind(reason) for reason in table["reason"]).items())),
        "segments": segments,
        "words": sorted(words),
        "id_kinds": id_kinds,
        "earliest": min(earliest, default=None),
        "latest": max(latest, default=None),
    }


def _check_layout(chunk: Chunk, path: str) -> None:
    """Raises ValueError where the first block of a log has no event: it is of another layout.

    Waiting for the fraction of bad rows would take long: rows are read slowly where they are bad.
    """
    if chunk.events or len(chunk.bad) < FIRST_BAD:
        return
    name = pathlib.Path(path).name
    rows = chunk.bad[list(BAD_COLUMNS)].head(FIRST_BAD).values.tolist()
    named = name_rows((f"{name}:{line + 1}", reason, text) for line, reason, text in rows)
    raise ValueError(
        f"none of the first {len(chunk.bad):,} rows of {path} can be read; the first {FIRST_BAD}: "
        f"{named}. Check that --dataset is the layout of this file."
    )


def _check_id_kinds(kinds: dict[str, str], names: Any, path: str) -> None:
    for name in (USER, ITEM, CATEGORY):
        kind = "words" if name in names else "integers"
        if kinds.setdefault(name, kind) != kind:
            raise ValueError(
                f"{path}: {name} holds integers in one part and words in another; they must be of "
                "one kind."
            )


def _kind(reason: str) -> str:
    """A reason without the value that it quotes."""
    return reason.split(" '")[0].split(' "')[0]


@dataclasses.dataclass(frozen=True)
class HistoryTask:
    """Sorts one bucket.

    Attributes:
      bucket: its number.
      segments: (file, first row, row after the last) of the bucket's events.
      target: file to write.
      span: earliest and latest second of the whole log, for the time histogram; None leaves it out.
      last_of: kinds of events of which the histogram counts each user's last alone; None counts all
        events.
    """

    bucket: int
    segments: tuple[tuple[pathlib.Path, int, int], ...]
    target: pathlib.Path
    span: tuple[int, int] | None
    last_of: tuple[int, ...] | None = None


def build_bucket(task: HistoryTask) -> Result:
    """Writes the bucket's sorted histories."""
    task.target.parent.mkdir(exist_ok=True)
    parts = [load_columns(path, rows=(first, last)) for path, first, last in task.segments]
    columns = concatenate(parts)
    del parts  # a bucket is as large as memory allows
    histories, duplicates = build_histories(columns)
    stored = {
        name: narrow(column.astype(np.int64)) if name != BEHAVIOR else column
        for name, column in histories.to_columns().items()
    }
    times = histories.events[TIME]
    if task.span is not None:
        counted = times
        if task.last_of is not None:
            counted = last_times(histories, of_kinds(histories, task.last_of))
        stored["histogram"] = time_histogram(counted, *task.span)
    save_columns(task.target, stored)
    return {
        "users": len(histories.users),
        "events": len(times),
        "duplicates": duplicates,
        "single_event_users": int((histories.lengths == 1).sum()),
        "longest": int(histories.lengths.max(initial=0)),
        "behaviors": np.bincount(histories.events[BEHAVIOR], minlength=1).tolist(),
    }


def of_kinds(histories: Histories, kinds: Sequence[int]) -> np.ndarray:
    """Which events are of some kinds, of any where none is named, bool [events]."""
    wanted = np.zeros(1 << 8, bool)
    wanted[list(kinds) or slice(None)] = True
    return wanted[histories.events[BEHAVIOR]]


@dataclasses.dataclass(frozen=True)
class BucketTask:
    """What counting and writing one bucket need.

    Attributes:
      bucket: its number.
      folder: of the intermediate files.
      protocol: how examples are made.
      seed: of the run.
      cuts: seconds at which validation and test begin, where the split is by time.
      positive_kinds: kinds of events that are positives; any where none is named.
      labels: of the log.
    """

    bucket: int
    folder: pathlib.Path
    protocol: Protocol
    seed: int
    cuts: tuple[int, ...]
    positive_kinds: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def histories_path(self) -> pathlib.Path:
        return self.folder / "histories" / f"{self.bucket:05d}.columns"

    @property
    def lines_path(self) -> pathlib.Path:
        return self.folder / "given" / f"{self.bucket:05d}.columns"

    @property
    def pairs_path(self) -> pathlib.Path:
        return self.folder / "pairs" / f"{self.bucket:05d}.columns"

    def label_path(self, name: str) -> pathlib.Path:
        return self.folder / "labels" / f"{self.bucket:05d}.{name}.columns"

    @property
    def users_path(self) -> pathlib.Path:
        return self.folder / "users" / f"{self.bucket:05d}.columns"


def load_histories(task: BucketTask, more: Sequence[str] = ()) -> Histories:
    """The bucket's histories, with some of the columns that not every log has."""
    columns = load_columns(task.histories_path)
    return Histories.from_columns(
        {n: c if n == BEHAVIOR else c.astype(np.int64, copy=False) for n, c in columns.items()},
        more,
    )


def event_splits(task: BucketTask, histories: Histories) -> np.ndarray:
    """Split of each event under every protocol but `given`, int8 [events]."""
    if task.protocol.split_by == BY_TIME:
        return split_of_times(histories.events[TIME], task.cuts)
    if task.protocol.split_by == LAST_TIME:
        last = last_times(histories, of_kinds(histories, task.positive_kinds))
        return np.repeat(split_of_times(last, task.cuts), histories.lengths)
    of_user = split_of_users(histories.users, task.protocol.fractions, task.seed)
    return np.repeat(of_user, histories.lengths)


def training_events(task: BucketTask, histories: Histories) -> np.ndarray:
    """Which events the vocabulary counts, bool [events]."""
    events = len(histories.events[TIME])
    if not task.protocol.strict:
        return np.ones(events, bool)
    if task.protocol.name != GIVEN:
        return event_splits(task, histories) == TRAIN
    lines = load_columns(task.lines_path)
    last = np.full(len(histories.users), -1, np.int64)  # the user's newest training target
    user = np.searchsorted(histories.users, lines["user"])
    known = (lines["split"] == TRAIN) & (user < len(histories.users))
    np.maximum.at(last, user[known], lines["position"][known])
    index = np.arange(events) - np.repeat(histories.offsets[:-1], histories.lengths)
    return index <= np.repeat(last, histories.lengths)


def count_bucket(task: BucketTask) -> Result:
    """Writes the bucket's (item, category) counts, its users with theirs, and those of labels."""
    task.pairs_path.parent.mkdir(exist_ok=True)
    histories = load_histories(task, task.labels)
    training = training_events(task, histories)
    pairs = count_pairs(histories.events[ITEM], histories.events[CATEGORY], training)
    save_columns(task.pairs_path, pairs)
    if len(histories.users):
        training_users = np.logical_or.reduceat(training, histories.offsets[:-1])
    else:
        training_users = training
    users = {"key": histories.users, "events": histories.lengths, "training": training_users}
    task.users_path.parent.mkdir(exist_ok=True)
    save_columns(task.users_path, users)
    for name in task.labels:
        keys, row = np.unique(histories.events[name], return_inverse=True)
        counts = np.bincount(row, training, len(keys)).astype(np.int64)
        task.label_path(name).parent.mkdir(exist_ok=True)
        save_columns(task.label_path(name), {"key": keys, "count": counts})
    kinds = histories.events[BEHAVIOR][training]
    return {
        "pairs": len(pairs["item"]),
        "training_events": int(training.sum()),
        "training_behaviors": np.bincount(kinds, minlength=1).tolist(),
        "training_users": int(training_users.sum()),
    }


@dataclasses.dataclass(frozen=True)
class MergeTask:
    """Merges the pair counts of all buckets for item keys in [first, last).

    Attributes:
      sources: files of pair counts.
      first, last: item keys; None is no bound.
      target: file to write.
    """

    sources: tuple[pathlib.Path, ...]
    first: int | None
    last: int | None
    target: pathlib.Path


def merge_range(task: MergeTask) -> Result:
    """Writes the items of one range of keys with their category and counts."""
    task.target.parent.mkdir(exist_ok=True)
    parts = []
    for path in task.sources:
        columns = map_columns(path)
        start = 0 if task.first is None else int(np.searchsorted(columns["item"], task.first))
        stop = None if task.last is None else int(np.searchsorted(columns["item"], task.last))
        parts.append({name: np.asarray(column[start:stop]) for name, column in columns.items()})
    merged = merge_pairs(parts)
    save_columns(task.target, merged)
    return {"items": len(merged["item"])}


@dataclasses.dataclass(frozen=True)
class WriteTask:
    """Makes the examples of one bucket and writes its records.

    Attributes:
      bucket: what and how.
      schema: of the records.
      output_dir: of the data set.
    """

    bucket: BucketTask
    schema: Schema
    output_dir: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Ids of everything, loaded once in each worker.

    Attributes:
      items, users: raw key -> row.
      item_id, category_id: of each item row.
      row_of_id: item row of each vocabulary item (id - 2).
      count: training events of each vocabulary item, [vocabulary items].
      user_columns: field -> id of each user row.
      behavior_id: id of each behavior type of the reader.
      labels: label -> raw key to row, and the id of each row.
    """

    items: Lookup
    users: Lookup
    item_id: np.ndarray
    category_id: np.ndarray
    row_of_id: np.ndarray
    count: np.ndarray
    user_columns: Columns
    behavior_id: np.ndarray
    labels: Mapping[str, tuple[Lookup, np.ndarray]]

    def label_ids(self, name: str, keys: np.ndarray) -> np.ndarray:
        """Ids of a label's keys, int32 [events]."""
        lookup, ids = self.labels[name]
        return ids[lookup.rows(keys)]


@functools.lru_cache(maxsize=1)
def load_catalogue(folder: pathlib.Path, labels: tuple[str, ...], _key: str) -> Catalogue:
    """Reads what `pipeline` saved; `_key` tells the catalogues of different runs apart."""
    items, users = map_columns(folder / "items.columns"), load_columns(folder / "users.columns")
    vocabulary = map_columns(folder / "vocabulary.columns")
    keys = users.pop("key")
    return Catalogue(
        items=Lookup.build(np.asarray(items["key"])),
        users=Lookup.build(keys),
        item_id=np.asarray(items["item_id"]),
        category_id=np.asarray(items["category_id"]),
        row_of_id=np.asarray(vocabulary["row"]),
        count=np.asarray(vocabulary["count"]),
        user_columns=users,
        behavior_id=load_columns(folder / "behaviors.columns")["behavior_id"],
        labels={name: _label_table(folder / LABEL_FILE.format(name)) for name in labels},
    )


def _label_table(path: pathlib.Path) -> tuple[Lookup, np.ndarray]:
    columns = load_columns(path)
    return Lookup.build(columns["key"]), columns["id"]


def write_bucket(task: WriteTask) -> Result:
    """Writes the bucket's records and says what is in them."""
    schema = task.schema
    histories = load_histories(task.bucket, (*schema.side_features, *schema.numeric_features))
    catalogue = load_catalogue(task.bucket.folder, schema.side_features, schema.fingerprint())
    item_rows = catalogue.items.rows(histories.events[ITEM]).astype(np.int64)
    make = given_candidates if task.bucket.protocol.name == GIVEN else sampled_candidates
    candidates, counts = make(task.bucket, histories, catalogue, item_rows)
    result: Result = {"counts": counts}
    result["leaks"] = count_leaks(task.bucket, histories, candidates, item_rows)
    result["shards"], result["splits"] = _write_shards(
        task, histories, candidates, catalogue, item_rows
    )
    categories = catalogue.category_id[item_rows]
    result["unknown_category_events"] = int((categories == UNKNOWN_ID).sum())
    return result


def sampled_candidates(
    task: BucketTask, histories: Histories, catalogue: Catalogue, item_rows: np.ndarray
) -> tuple[Candidates, Result]:
    """Candidates of every protocol but `given`, and what was left out on the way."""
    protocol = task.protocol
    targets = _choose_targets(task, histories)
    all_targets = len(targets)
    targets = targets.take(targets.cut >= protocol.min_history)
    with_history = len(targets)
    negatives = np.zeros((with_history, 0), np.int64)
    if protocol.negatives:
        negatives = _draw(task, histories, targets, catalogue, item_rows)
        drawn = np.flatnonzero((negatives >= 0).all(axis=1))
        targets, negatives = targets.take(drawn), negatives[drawn]
    event = histories.offsets[targets.user] + targets.event
    rows = catalogue.row_of_id[negatives] if negatives.size else negatives
    labels = of_kinds(histories, task.positive_kinds)[event] if protocol.labeled else None
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
        eligible = of_kinds(histories, task.positive_kinds)
    return last_events(
        histories, split, protocol.targets_per_user, strict=protocol.strict, eligible=eligible
    )


def _draw(
    task: BucketTask,
    histories: Histories,
    targets: Targets,
    catalogue: Catalogue,
    item_rows: np.ndarray,
) -> np.ndarray:
    """Vocabulary items (id - 2) as negatives, [targets, negatives]."""
    protocol = task.protocol
    items = catalogue.item_id.astype(np.int64) - 2
    sampler = (
        Sampler.by_weight(catalogue.count)
        if protocol.negative_distribution == POPULARITY
        else Sampler(len(catalogue.count))
    )
    seeds = target_seeds(histories.users[targets.user], targets.event, task.seed)
    if protocol.strict:
        event_items = items[item_rows]
        known = event_items >= 0
        forbidden = (histories.owner[known], event_items[known])
        drawn = draw_negatives(seeds, targets.user, forbidden, sampler, protocol.negatives)
        if not protocol.own_negatives:
            return drawn
        first = histories.offsets[targets.user]
        own = draw_own(
            seeds,
            (first, first + targets.cut),
            event_items,
            newest_of_item(histories.owner, item_rows),
            protocol.own_negatives,
            protocol.negatives,
        )
        return np.where(own >= 0, own, drawn)
    positive = items[item_rows[histories.offsets[targets.user] + targets.event]]
    number = np.arange(len(targets))
    return draw_negatives(seeds, number, (number, positive), sampler, protocol.negatives)


def given_candidates(
    task: BucketTask, histories: Histories, catalogue: Catalogue, item_rows: np.ndarray
) -> tuple[Candidates, Result]:
    """Candidates of the lines of an examples file; raises ValueError where one fits no event."""
    lines = load_columns(task.lines_path)
    numbers, negative = lines.pop("line"), lines.pop("negative")
    targets, order, wrong = given_targets(histories, lines)
    if len(wrong):
        first = int(np.min(numbers[wrong]))
        raise ValueError(
            f"line {first} of the examples file (and {len(wrong) - 1} more in bucket {task.bucket}) "
            "names an event that the log does not have: the user's event at `position`, sorted by "
            "timestamp and item, must have that timestamp and be that positive. Check that the "
            "file was made from this log with these filters."
        )
    positives = catalogue.items.rows(positives_of(histories, targets))
    negatives = catalogue.items.rows(negative[order])
    candidates = lay_out(histories, targets, positives, negatives[:, None])
    return candidates, {"targets": len(targets)}


def count_leaks(
    task: BucketTask, histories: Histories, candidates: Candidates, item_rows: np.ndarray
) -> Result:
    """Every leak check of the bucket: name -> violations, all of which must be 0."""
    protocol = task.protocol
    no_ties = protocol.strict and protocol.name != GIVEN
    future = leaks.OWN_SECOND if no_ties else leaks.OWN_EVENT
    checks = {future: leaks.future_events(histories, candidates, strict=no_ties)}
    if protocol.labeled:
        pass  # every candidate is an event of the user
    elif protocol.own_negatives:
        later = leaks.later_negatives(candidates, histories, item_rows)
        checks[leaks.LATER_NEGATIVE] = later
    elif protocol.form == STRICT:
        checks[leaks.SEEN_NEGATIVE] = leaks.seen_negatives(candidates, histories.owner, item_rows)
    else:
        checks[leaks.POSITIVE_AS_NEGATIVE] = leaks.positives_as_negatives(candidates)
    if protocol.split_by != BY_TIME:
        checks[leaks.SHARED_USER] = leaks.users_in_two_splits(candidates)
    return checks


def _write_shards(
    task: WriteTask,
    histories: Histories,
    candidates: Candidates,
    catalogue: Catalogue,
    item_rows: np.ndarray,
) -> tuple[list[dict], Result]:
    """Writes one file for each split and history length; returns them and figures by split."""
    protocol = task.bucket.protocol
    layout = plan_records(histories, candidates, protocol.max_history, protocol.row_width)
    users = catalogue.users.rows(histories.users)
    history = {
        ITEM: catalogue.item_id[item_rows],
        CATEGORY: catalogue.category_id[item_rows],
        BEHAVIOR: catalogue.behavior_id[histories.events[BEHAVIOR]],
        TIME: histories.events[TIME],
        **{n: catalogue.label_ids(n, histories.events[n]) for n in task.schema.side_features},
        **{name: histories.events[name] for name in task.schema.numeric_features},
    }
    candidate = {
        ITEM: catalogue.item_id[candidates.item],
        CATEGORY: catalogue.category_id[candidates.item],
        TIME: candidates.time,
        "cand_position": layout.position,
        "label": candidates.label,
    }
    user = {name: column[users] for name, column in catalogue.user_columns.items()}
    columns = record_columns(task.schema, history, candidate, user)
    shards = []
    groups = group_records(layout, histories.users[layout.user], record_sizes(layout, columns))
    for number, group in enumerate(groups):
        name = f"{task.bucket.bucket:05d}-{number:05d}-len{group.bucket:04d}.tfrecord"
        path = f"{SPLITS[group.split]}/{name}"
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
    starts = candidates.row_starts(protocol.row_width)
    return shards, _split_figures(layout, starts, candidates, candidate)


def _split_figures(
    layout: Layout, starts: np.ndarray, candidates: Candidates, ids: Columns
) -> Result:
    """Counts, times and history lengths of each split; `starts` are the rows' first candidates."""
    figures: Result = {}
    lengths, record_split = layout.history_lengths, layout.split
    unknown_item, unknown_category = (ids[name] == UNKNOWN_ID for name in (ITEM, CATEGORY))
    for number in np.unique(record_split):
        own = candidates.target.split == number
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
    return figures


def length_histogram(lengths: Sequence[int] | np.ndarray) -> list[int]:
    """How many lengths are 0, 1, 2-3, 4-7, ...: counted by number of binary digits."""
    digits = np.ceil(np.log2(np.asarray(lengths, np.float64) + 1)).astype(np.int64)
    return np.bincount(digits, minlength=1).tolist()
