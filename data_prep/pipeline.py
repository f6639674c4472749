"""The order of the stages: partition, histories, vocabulary, examples, and the files written at the end.

Everything that grows with the log happens in tasks (`data_prep.tasks`) that an engine runs; here they
are listed and their small results put together. The manifest is written last.
"""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from data_prep import examples_file
from data_prep import vocabularies as vocabulary_files
from data_prep.card import (
    add_up,
    check_examples,
    check_leaks,
    column_figures,
    compare_with_official,
    data_card,
)
from data_prep.column_tables import (
    ITEM_VALUES_FILE,
    EntityValues,
    catalogue_values,
    check_table,
    entity_values,
    log_encoding,
    log_user_values,
    vocabularies_of,
)
from data_prep.engines.local import LocalEngine, Result, Task
from data_prep.events import (
    BEHAVIOR,
    CATEGORY,
    ID_COLUMNS,
    ITEM,
    MISSING,
    USER,
    check_names,
    concatenate,
    id_keys,
)
from data_prep.id_policy import (
    EarlierData,
    IdPolicy,
    keys_of,
    with_earlier_items,
    with_words,
)
from data_prep.outputs import (
    COMPLETE_FOLDER,
    WORK_FOLDER,
    finished_card,
    own_files,
    publish,
    remove_leftovers,
    swap,
)
from data_prep.preparation import Preparation
from data_prep.protocol import EXAMPLES_FILE, GIVEN, IMPRESSIONS, LAST_TIME
from data_prep.protocol import USER as BY_USER
from data_prep.quarantine import QUARANTINE_FILE, check_fraction, collect
from data_prep.readers.base import is_compressed
from data_prep.stages.columns import EarlierColumn, Encoding
from data_prep.stages.impressions import CANDIDATE_COLUMNS
from data_prep.stages.splits import TEST, TRAIN, time_cuts
from data_prep.stages.vocabulary import Lookup, range_boundaries
from data_prep.storage import Columns, load_columns, map_columns, save_columns
from data_prep.synthetic.truth import truth_path
from data_prep.tasks.counts import MergeTask, count_bucket, count_shared_requests, merge_range
from data_prep.tasks.histories import BucketTask, HistoryTask, build_bucket
from data_prep.tasks.partition import PartitionTask, fingerprint_file, partition_piece
from data_prep.tasks.records import WriteTask, write_bucket
from data_prep.vocabularies import (
    Vocabulary,
    Words,
    behavior_vocabulary,
    catalogue_arrays,
    category_vocabulary,
    item_vocabulary,
    make_schema,
    profile_columns,
    side_feature_vocabulary,
    user_vocabulary,
)
from dgin_tf.ownership import check_nothing_else, make_folder
from dgin_tf.records import SPLITS, save_catalogue
from dgin_tf.schema import REQUEST

NEW_FOLDER = "output"  # in the work folder

_PAIRS_PER_RANGE = 4_000_000
_SAMPLES = 1024


def prepare(preparation: Preparation, output_dir: str | os.PathLike, engine: LocalEngine) -> Result:
    """Prepares a data set, or resumes or finds what the same preparation left in `output_dir`.

    Returns:
      The data card.

    Raises:
      ValueError: the log, the examples file or a setting is no good, or the folder holds something else
        than a data set; what was there before is as it was.
      OSError: the disk is full, or a worker died.
    """
    output_dir = make_folder(output_dir)
    key = preparation.key()
    if card := finished_card(output_dir, key):
        return card
    complete = output_dir / COMPLETE_FOLDER
    if not complete.is_dir():  # otherwise the manifest may be on its way
        _check_folder(output_dir)
    with engine.session(key):
        if complete.is_dir():  # of a run that was killed while it moved its files
            swap(complete, output_dir)
            if card := finished_card(output_dir, key):
                engine.finish()
                return card
        _check_folder(output_dir)
        # Built beside the data set that is there, which stays until the new one is complete.
        new_dir = engine.folder / NEW_FOLDER
        remove_leftovers(new_dir)
        engine.begin(key)
        card = _Run(preparation, new_dir, engine).run(key)
        _check_folder(output_dir)
        os.rename(new_dir, complete)
        swap(complete, output_dir)
        engine.finish()
    return card


def _check_folder(output_dir: pathlib.Path) -> None:
    """Raises ValueError where the folder of a data set holds anything else."""
    try:
        own = own_files(output_dir)
    except ValueError as error:
        raise ValueError(
            f"{error} Since the manifest tells what was prepared in {os.fspath(output_dir)!r}, delete that "
            "folder first, or give another --output_dir."
        ) from error
    check_nothing_else(output_dir, own, "a prepared data set", (WORK_FOLDER, COMPLETE_FOLDER))


def work_folder(output_dir: str | os.PathLike) -> pathlib.Path:
    """Folder of the intermediate files, which is removed when the preparation has finished."""
    return pathlib.Path(output_dir) / WORK_FOLDER


class _Run:
    """One preparation under way: the stages in order, each from the results of those before."""

    def __init__(self, preparation: Preparation, output_dir: pathlib.Path, engine: LocalEngine):
        self.preparation = preparation
        self.output_dir = output_dir
        self.engine = engine
        self.folder = engine.folder
        sizes = [(is_compressed(path), os.path.getsize(path)) for path in preparation.reader.paths]
        is_impressions = preparation.protocol.name == IMPRESSIONS
        per_event = 1 if is_impressions else preparation.protocol.row_width
        self.buckets = preparation.limits.bucket_count(sizes, per_event)
        self.earlier: EarlierData | None = None
        if preparation.vocabulary.earlier:
            options = preparation.vocabulary
            self.earlier = EarlierData(options.earlier, options.hashed)

    def run(self, key: str) -> Result:
        """Runs every stage and writes the data set; returns the data card."""
        reader = self.preparation.reader
        inputs, partition = self._partition()
        self._check_labels(partition)
        words = self._words(partition)
        lines = self._read_examples(words)
        histories = self._histories(partition)
        buckets = self._bucket_tasks(self._cuts(partition, histories), _first_test(partition))
        events = [result["events"] for result in histories]
        # Every stage needs the results of all buckets of the stage before.
        counts = self._run_buckets("count", count_bucket, buckets, events)
        self._check_requests(counts)
        items = self._items(counts, lines)
        if not items["in_vocabulary"].any():
            raise ValueError(
                f"none of the {sum(result['users'] for result in histories)} users falls into "
                "training; give a longer log, another --seed or another split."
                if self.preparation.vocabulary.min_count == 1
                else f"no item has --min_count={self.preparation.vocabulary.min_count} training events; give "
                "a smaller one, or a longer log."
            )
        items = self._keep_earlier(items, words)
        of_items = self._item_values(items)
        vocabularies = self._number_items(items, words, of_items)
        user_vocabularies, of_users = self._number_users(words)
        vocabularies |= user_vocabularies
        vocabularies |= self._number_behaviors(counts) | self._number_side_features(words)
        encodings = [*of_items.encodings, *of_users.encodings, *self._log_encodings(words)]
        vocabularies |= vocabularies_of(encodings)
        schema = make_schema(
            vocabularies,
            reader.profile_fields,
            max(result["longest"] for result in histories),
            reader.side_features,
            reader.numeric_features,
            self._candidate_fields(),
            [encoding.field for encoding in encodings],
        )
        if self.earlier is not None:
            self.earlier.check(schema)
        with_whole = self.preparation.whole_histories
        write_tasks = [WriteTask(task, schema, self.output_dir, with_whole) for task in buckets]
        examples = self._run_buckets("examples", write_bucket, write_tasks, events)
        card = {
            "settings": self.preparation.settings(),
            "inputs": inputs,
            "time_cuts": list(buckets[0].cuts),
            "buckets": self.buckets,
            **data_card(partition, histories, counts, items, examples),
            "behavior_types": list(reader.behavior_types),
            "vocabulary_sizes": dict(schema.vocabulary_sizes),
        }
        if encodings:
            card["columns"] = column_figures(reader.declared, encodings, of_items, of_users)
        # A made-up log is no partial copy of the public file whose layout it has.
        is_synthetic = any(truth_path(path).exists() for path in reader.paths)
        official = {} if is_synthetic else reader.official_counts
        if self.earlier is not None:
            sizes = {name: len(vocabulary.values) for name, vocabulary in vocabularies.items()}
            card["vocabulary_from"] = self.earlier.appended(sizes)
        card["official"] = compare_with_official(card, official)
        check_leaks(card)
        check_examples(card)
        # Records may store less than the longest history of the log.
        longest = max(1, *(split["longest_stored"] for split in card["splits"].values()))
        schema = dataclasses.replace(schema, max_history=longest)
        folder = self.output_dir / vocabulary_files.FOLDER
        folder.mkdir(exist_ok=True)
        titles = reader.titles()
        if self.earlier is not None:
            titles = pd.concat([titles, self.earlier.titles(titles.columns)])
        vocabularies[ITEM].save_titles(folder / f"{ITEM}.titles.txt", titles)
        chain = () if self.earlier is None else self.earlier.chain()
        publish(self.output_dir, schema, vocabularies, examples, card, key, chain)
        return card

    def _candidate_fields(self) -> tuple[str, ...]:
        """Names of what candidates alone have."""
        if self.preparation.protocol.name != IMPRESSIONS:
            return ()
        names = self.preparation.reader.impression_columns
        return (REQUEST, *(name for name in CANDIDATE_COLUMNS if name in names))

    def _run_buckets(
        self,
        stage: str,
        function: Callable[[Any], Result],
        arguments: Sequence[Any],
        events: Sequence[int],
    ) -> list[Result]:
        """Runs one task a bucket, weighed by its events."""
        tasks = [Task(function, *pair) for pair in zip(arguments, events, strict=True)]
        return self.engine.run(stage, tasks)

    def _partition(self) -> tuple[list[Result], list[Result]]:
        """Reads the log into bucketed segments; returns the files' fingerprints and the results."""
        reader, limits = self.preparation.reader, self.preparation.limits
        # By number of the behavior type; a log without types has one.
        keep = tuple(
            not limits.behavior_types or name in limits.behavior_types
            for name in reader.behavior_types
        ) or (True,)
        pieces = reader.pieces()
        files = self.preparation.files()
        tasks = [Task(fingerprint_file, path, 0) for path in files]
        tasks += [
            Task(
                partition_piece,
                PartitionTask(reader, piece, number, self.buckets, keep, self.folder / "segments"),
                piece.stop - piece.start,
            )
            for number, piece in enumerate(pieces)
        ]
        results = self.engine.run("partition", tasks)
        inputs, partition = results[: len(files)], results[len(files) :]
        target = self.output_dir / QUARANTINE_FILE
        bad = collect(
            [
                (piece, result["lines"], self.folder / "segments" / f"{number:05d}.bad.csv")
                for number, (piece, result) in enumerate(zip(pieces, partition, strict=True))
            ],
            target,
        )
        events = sum(result["events"] for result in partition)
        check_fraction(bad, events, limits.max_bad_fraction, target)
        if not any(result["segments"] for result in partition):
            raise ValueError(
                f"the log {', '.join(map(os.path.basename, reader.paths))} has no events"
                + (f" of type {', '.join(limits.behavior_types)}" if events else "")
                + "; expected at least one row."
            )
        return inputs, partition

    def _check_labels(self, partition: Sequence[Result]) -> None:
        """Raises ValueError unless there are clicked and ignored impressions."""
        if self.preparation.protocol.name != IMPRESSIONS:
            return
        ignored, clicked = add_up(result["labels"] for result in partition).tolist()
        if not ignored or not clicked:
            raise ValueError(
                f"expected clicked and ignored impressions, labels 1 and 0; got {clicked:,} of the one and "
                f"{ignored:,} of the other. Check --label_column and --label_threshold."
            )

    def _check_requests(self, counts: Sequence[Result]) -> None:
        """Raises ValueError where impressions of several users are of one request."""
        if REQUEST not in self.preparation.reader.impression_columns:
            return
        sources = tuple(task.path("requests") for task in self._bucket_tasks())
        boundaries = self._key_ranges(sources, "request", sum(r["requests"] for r in counts))
        tasks = [
            Task(count_shared_requests, MergeTask(sources, first, last, self.folder))
            for first, last in itertools.pairwise([None, *boundaries, None])
        ]
        results = self.engine.run("requests", tasks)
        if shared := sum(result["shared_requests"] for result in results):
            raise ValueError(
                f"{shared:,} requests have impressions of several users; expected one user for each value "
                "of --request_column. Make its values unique, or leave it out: impressions of one user "
                "and second are then a request."
            )

    def _words(self, partition: Sequence[Result]) -> dict[str, Words]:
        """Words behind the digests of each column of ids or side features."""
        id_types: dict[str, str] = {}
        for result in partition:
            for name, id_type in result["id_types"].items():
                if id_types.setdefault(name, id_type) != id_type:
                    raise ValueError(
                        f"{name} holds integers in one part of the log and words in another; they "
                        "must be of one kind."
                    )
        words = {}
        reader = self.preparation.reader
        declared = [column.name for column in reader.declared.of_log if not column.is_number]
        for name in (*ID_COLUMNS, *reader.side_features, *declared):
            if name in ID_COLUMNS and id_types.get(name) != "words":
                words[name] = Words()
                continue
            lines: list[str] = []
            for number, result in enumerate(partition):
                if name in result["words"]:
                    path = self.folder / "segments" / f"{number:05d}.{name}.words"
                    lines += path.read_text(encoding="utf-8").split("\n")[:-1]
            words[name] = Words(check_names(id_keys(pd.Series(lines, dtype=object))[1]))
        return words

    def _read_examples(self, words: dict[str, Words]) -> Columns | None:
        """Deals the lines of the examples file into buckets; None without one."""
        if not self.preparation.examples:
            return None
        word_columns = [name for name, column in words.items() if column.by_key is not None]
        lines, names = examples_file.read_examples(self.preparation.examples, word_columns)
        if ITEM in word_columns:
            words[ITEM] = Words(check_names(pd.concat([words[ITEM].by_key, names])))
        examples_file.deal_examples(lines, self.buckets, self.folder / "examples")
        return lines

    def _histories(self, partition: Sequence[Result]) -> list[Result]:
        """Sorts every bucket."""
        # Only splits by time need a histogram of seconds.
        span, last_of = None, None
        if self.preparation.protocol.split_by not in (BY_USER, GIVEN):
            span = _span(partition)
        # The positions in a file of examples count events sorted by time and item.
        keeps_order = self.preparation.reader.keeps_order and not self.preparation.examples
        if self.preparation.protocol.split_by == LAST_TIME:
            last_of = self.preparation.positive_types
        tasks = []
        for bucket in range(self.buckets):
            segments = tuple(
                (
                    self.folder / "segments" / segment["file"],
                    *segment["offsets"][bucket : bucket + 2],
                )
                for result in partition
                for segment in result["segments"]
            )
            target = self.folder / "histories" / f"{bucket:05d}.columns"
            events = sum(last - first for _, first, last in segments)
            tasks.append(
                Task(
                    build_bucket,
                    HistoryTask(
                        bucket,
                        segments,
                        target,
                        span,
                        last_of,
                        keeps_order,
                        self.preparation.protocol.targets_from,
                    ),
                    events,
                )
            )
        return self.engine.run("histories", tasks)

    def _cuts(self, partition: Sequence[Result], histories: Sequence[Result]) -> tuple[int, ...]:
        """Seconds at which validation and test begin; none where the split is by user."""
        protocol = self.preparation.protocol
        if protocol.split_by in (BY_USER, GIVEN) or protocol.name == EXAMPLES_FILE:
            return ()
        if protocol.time_cuts:
            return protocol.time_cuts
        histograms = [
            load_columns(task.path("histories"), ["histogram"])["histogram"]
            for task in self._bucket_tasks()
        ]
        histogram = np.sum(histograms, axis=0)
        return time_cuts(histogram, *_span(partition), protocol.fractions)

    def _bucket_tasks(
        self, cuts: tuple[int, ...] = (), first_test: int | None = None
    ) -> list[BucketTask]:
        preparation = self.preparation
        return [
            BucketTask(
                bucket,
                self.folder,
                preparation.protocol,
                preparation.seed,
                cuts,
                preparation.positive_types,
                preparation.reader.side_features,
                preparation.history_types,
                preparation.reader.has_behavior_log,
                first_test,
                preparation.reader.declared,
            )
            for bucket in range(self.buckets)
        ]

    def _load_all(self, content: str) -> Columns:
        """Columns of all buckets, one bucket after the other; see `BucketTask.path`."""
        return concatenate([load_columns(task.path(content)) for task in self._bucket_tasks()])

    def _items(self, counts: Sequence[Result], lines: Columns | None) -> Columns:
        """All items of the log (and of the examples file) with category and counts, by rising key."""
        sources = tuple(task.path("pairs") for task in self._bucket_tasks())
        boundaries = self._key_ranges(sources, "item", sum(result["pairs"] for result in counts))
        targets = [self.folder / "items" / f"{n:05d}.columns" for n in range(len(boundaries) + 1)]
        tasks = [
            Task(merge_range, MergeTask(sources, first, last, target))
            for first, last, target in zip(
                [None, *boundaries], [*boundaries, None], targets, strict=True
            )
        ]
        self.engine.run("items", tasks)
        items = concatenate([load_columns(target) for target in targets])
        # Strict: items of training events. Paper: all items of the log.
        min_count = self.preparation.vocabulary.min_count
        items["in_vocabulary"] = items["training_events"] >= min_count
        if not self.preparation.protocol.strict and min_count == 1:
            items["in_vocabulary"][:] = True
        return items if lines is None else _with_items_of_lines(items, lines)

    def _key_ranges(self, sources: Sequence[pathlib.Path], key: str, rows: int) -> list[int]:
        """Keys that part the rows of all buckets into ranges small enough for one worker each."""
        ranges = -(-rows // _PAIRS_PER_RANGE)
        # Ranges with about as many rows each, by a sample of every bucket.
        samples = [map_columns(path)[key] for path in sources]
        return range_boundaries(
            np.concatenate([s[:: max(1, len(s) // _SAMPLES)] for s in samples]), max(1, ranges)
        ).tolist()

    def _item_values(self, items: Columns) -> EntityValues:
        """Joins the table of items; saves the workers' table of their attributes."""
        reader = self.preparation.reader
        declared, where = reader.declared, reader.declared.item_table or "the item table"
        weights = items["training_events"]
        parts = reader.item_attributes()
        values = entity_values(
            declared.of_items, parts, items["item"], weights, where, self._earlier_columns()
        )
        if values.encodings:
            check_table(values.figures, where, self.preparation.limits.max_bad_fraction)
            flat = {name: column.reshape(-1) for name, column in values.values.items()}
            save_columns(self.folder / ITEM_VALUES_FILE, flat)
        return values

    def _log_encodings(self, words: dict[str, Words]) -> list[Encoding]:
        """Learns the columns of requests and events from what all buckets counted."""
        declared, earlier = self.preparation.reader.declared, self._earlier_columns()
        encodings = []
        for column in (*declared.of_requests, *declared.of_events):
            paths = [task.path(f"column.{column.name}") for task in self._bucket_tasks()]
            parts = [load_columns(path) for path in paths]
            encodings.append(
                log_encoding(
                    column, parts, words.get(column.name), self.folder, earlier.get(column.name)
                )
            )
        return encodings

    def _number_items(
        self, items: Columns, words: dict[str, Words], of_items: EntityValues
    ) -> dict[str, Vocabulary]:
        """Numbers items and categories and saves the workers' tables and the catalogue."""
        vocabulary, item_id = item_vocabulary(
            items, words[ITEM], self.folder, self._policy(ITEM, words[ITEM])
        )
        rows = load_columns(self.folder / vocabulary_files.VOCABULARY_FILE, ["row"])["row"]
        category, category_id = category_vocabulary(
            items, words[CATEGORY], self._policy(CATEGORY, words[CATEGORY])
        )
        columns = {"key": items["item"], "item_id": item_id, "category_id": category_id}
        save_columns(self.folder / vocabulary_files.ITEMS_FILE, columns)
        has_categories = self.preparation.reader.has_categories
        arrays = catalogue_arrays(rows, vocabulary, category_id if has_categories else None)
        shared = len(vocabulary.hashed)
        arrays |= catalogue_values(of_items.values, of_items.encodings, rows, shared)
        save_catalogue(self.output_dir, arrays)
        return {ITEM: vocabulary} | ({CATEGORY: category} if has_categories else {})

    def _policy(self, name: str, words: Words | None, is_rare_shared: bool = True) -> IdPolicy:
        """How a vocabulary's values get their ids; `words` is None for names, which are no ids of the log."""
        options = self.preparation.vocabulary
        policy = IdPolicy()
        if is_rare_shared:
            policy = IdPolicy(hashed=options.hashed, min_count=options.min_count)
        if self.earlier is None:
            return policy
        raw = self.earlier.raw(name, words is None or words.by_key is not None)
        return dataclasses.replace(policy, earlier=keys_of(raw), raw=raw)

    def _earlier_columns(self) -> dict[str, EarlierColumn]:
        """Declared columns that the earlier data set has, by name."""
        if self.earlier is None:
            return {}
        columns = self.preparation.reader.declared.columns
        found = {column.name: self.earlier.column(column.name) for column in columns}
        return {name: column for name, column in found.items() if column is not None}

    def _keep_earlier(self, items: Columns, words: dict[str, Words]) -> Columns:
        """Adds the words and items of the earlier data set."""
        if self.earlier is None:
            return items
        for name, column in words.items():
            raw = self.earlier.raw(name, column.by_key is not None)
            words[name] = Words(with_words(column.by_key, raw))
        by_key = {name: words[name].by_key for name in (ITEM, CATEGORY)}
        return with_earlier_items(items, self.earlier.items(by_key))

    def _number_behaviors(self, counts: Sequence[Result]) -> dict[str, Vocabulary]:
        """Numbers behavior types, most frequent first, if more than one is kept."""
        names = self.preparation.reader.behavior_types or ("",)
        total = add_up(result["training_behaviors"] for result in counts)
        # Types after the last one that occurs have no count yet.
        total = np.pad(total, (0, max(0, len(names) - len(total))))
        policy = self._policy(BEHAVIOR, None, is_rare_shared=False)
        vocabulary, behavior_id = behavior_vocabulary(names, total, policy)
        save_columns(self.folder / vocabulary_files.BEHAVIORS_FILE, {"behavior_id": behavior_id})
        return {BEHAVIOR: vocabulary} if len(self.preparation.behavior_types) > 1 else {}

    def _number_side_features(self, words: dict[str, Words]) -> dict[str, Vocabulary]:
        """Numbers the words of every side feature."""
        vocabularies = {}
        for name in self.preparation.reader.side_features:
            counts = self._load_all(f"side_feature.{name}")
            vocabularies[name], table = side_feature_vocabulary(
                counts, words[name], self._policy(name, words[name])
            )
            save_columns(self.folder / vocabulary_files.SIDE_FEATURE_FILE.format(name), table)
        return vocabularies

    def _number_users(self, words: dict[str, Words]) -> tuple[dict[str, Vocabulary], EntityValues]:
        """Numbers every user of the log and the values of their profiles; returns their columns too."""
        reader = self.preparation.reader
        users = self._load_all("users")
        order = np.argsort(users["key"])
        users = {name: column[order] for name, column in users.items()}
        policy = self._policy(USER, words[USER], is_rare_shared=False)
        vocabulary, user_id = user_vocabulary(users, words[USER], policy)
        policies = {n: self._policy(n, None, is_rare_shared=False) for n in reader.profile_fields}
        profile, profile_ids = profile_columns(
            reader.profiles(), reader.profile_fields, users, policies
        )
        declared, parts = reader.declared, reader.user_attributes()
        if declared.user_table:
            table, weights = declared.user_table, users["training"].astype(np.int64)
            of_users = entity_values(
                declared.of_user_table, parts, users["key"], weights, table, self._earlier_columns()
            )
            if of_users.encodings:
                check_table(of_users.figures, table, self.preparation.limits.max_bad_fraction)
        else:
            of_users = log_user_values(declared.of_log_users, users, words, self._earlier_columns())
        columns = {name: values.reshape(-1) for name, values in of_users.values.items()}
        save_columns(
            self.folder / vocabulary_files.USERS_FILE,
            {"key": users["key"], USER: user_id, **profile_ids, **columns},
        )
        return {USER: vocabulary, **profile}, of_users


def _with_items_of_lines(items: Columns, lines: Columns) -> Columns:
    """Adds the items that only the examples file has; those of its training lines are in the vocabulary."""
    line_items = np.unique(np.concatenate([lines["positive"], lines["negative"]]))
    extra = line_items[Lookup.build(items["item"]).rows(line_items) < 0]
    blank = {name: np.zeros(len(extra), column.dtype) for name, column in items.items()}
    blank |= {"item": extra, "category": np.full(len(extra), MISSING, np.int64)}
    items = concatenate([items, blank])
    order = np.argsort(items["item"])
    items = {name: column[order] for name, column in items.items()}
    training = lines["split"] == TRAIN
    training_items = np.concatenate([lines["positive"][training], lines["negative"][training]])
    items["in_vocabulary"][Lookup.build(items["item"]).rows(training_items)] = True
    return items


def _first_test(partition: Sequence[Result]) -> int | None:
    """Second of the first test impression, where the log gives the split."""
    firsts = [result["first_of_split"].get(SPLITS[TEST]) for result in partition]
    return min((first for first in firsts if first is not None), default=None)


def _span(partition: Sequence[Result]) -> tuple[int, int]:
    """Earliest and latest second of the log."""
    return (
        min(result["earliest"] for result in partition if result["segments"]),
        max(result["latest"] for result in partition if result["segments"]),
    )
