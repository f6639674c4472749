"""The order of the stages: partition, histories, vocabulary, examples, and what is written at the end.

Everything that grows with the log happens in tasks (`data_prep.tasks`) that an engine runs; here they
are listed and their small results put together. The manifest is written last.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from data_prep import given
from data_prep import vocabularies as vocabulary_files
from data_prep.card import add_up, check_examples, check_leaks, compare_with_official, data_card
from data_prep.engines.local import LocalEngine, Task
from data_prep.events import (
    BEHAVIOR,
    CATEGORY,
    ID_COLUMNS,
    ITEM,
    MISSING,
    USER,
    check_names,
    id_keys,
)
from data_prep.plan import GIVEN, LAST_TIME, PAPER, Limits, Protocol
from data_prep.plan import USER as BY_USER
from data_prep.quarantine import QUARANTINE_FILE, check_fraction, collect
from data_prep.readers.base import Reader, is_compressed
from data_prep.report import report_page
from data_prep.stages.splits import TEST, TRAIN, VALIDATION, time_cuts
from data_prep.stages.vocabulary import Lookup, range_edges
from data_prep.storage import Columns, load_columns, map_columns, save_columns
from data_prep.tasks import (
    BucketTask,
    HistoryTask,
    MergeTask,
    PartitionTask,
    Result,
    WriteTask,
    build_bucket,
    count_bucket,
    fingerprint_file,
    merge_range,
    partition_piece,
    write_bucket,
)
from data_prep.vocabularies import (
    Vocabulary,
    Words,
    behavior_vocabulary,
    catalogue_arrays,
    category_vocabulary,
    item_vocabulary,
    label_vocabulary,
    make_schema,
    profile_columns,
    user_vocabulary,
)
from dgin_tf.records import CATALOGUE_FILE, MANIFEST_FILE, SPLITS, Manifest, Shard, save_catalogue
from dgin_tf.schema import SCHEMA_FILE, Schema, write_text

FORMAT = 3  # raise it when the same input and flags shall give other bytes
WORK_FOLDER = ".preparing"
CARD_FILE = "data_card.json"
REPORT_FILE = "report.html"

_PAIRS_PER_RANGE = 4_000_000
_SAMPLES = 1024


@dataclasses.dataclass(frozen=True)
class Preparation:
    """Everything that decides the bytes of a prepared data set.

    Attributes:
      reader: of the raw log, with its options.
      protocol: how examples are made.
      limits: buckets and tolerance.
      seed: of splits and negatives.
      examples: the examples file of protocol `given`, else empty.
    """

    reader: Reader
    protocol: Protocol
    limits: Limits = Limits()
    seed: int = 1
    examples: str = ""

    def __post_init__(self):
        if bool(self.examples) != (self.protocol.name == GIVEN):
            raise ValueError(
                "protocol given needs --examples=FILE and no other protocol takes it; got protocol "
                f"{self.protocol.name} with examples {self.examples!r}."
            )
        kept = self.limits.behavior_types or self.reader.behavior_types
        for wanted, known in (
            (self.limits.behavior_types, self.reader.behavior_types),
            (self.protocol.positive_types, kept),
        ):
            unknown = set(wanted) - set(known)
            if unknown:
                raise ValueError(
                    f"unknown behavior types {sorted(unknown)}; this log has {list(known)}."
                )

    def files(self) -> tuple[str, ...]:
        return (*self.reader.files(), *([self.examples] if self.examples else []))

    def settings(self) -> dict[str, object]:
        """All choices as plain JSON values; the manifest carries them."""
        options = {name: value for name, value in self.reader.options.items() if value is not None}
        return {
            "reader": type(self.reader).__name__,
            "reader_options": json.loads(json.dumps(options, default=list)),
            **{name: _plain(value) for name, value in dataclasses.asdict(self.protocol).items()},
            "max_bad_fraction": self.limits.max_bad_fraction,
            "behavior_types": list(self.limits.behavior_types),
            "seed": self.seed,
            "examples": os.path.basename(self.examples),
        }

    @property
    def positive_kinds(self) -> tuple[int, ...]:
        """Numbers of the kinds of events that are positives; empty where all are."""
        return tuple(map(self.reader.behavior_types.index, self.protocol.positive_types))

    def key(self) -> str:
        """Changes with every choice and with every change of an input file."""
        stats = [(os.path.realpath(path), os.stat(path)) for path in self.files()]
        content = [
            FORMAT,
            self.settings(),
            dataclasses.asdict(self.limits),
            [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats],
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def prepare(preparation: Preparation, output_dir: str | os.PathLike, engine: LocalEngine) -> Result:
    """Prepares a data set, or resumes or finds what the same preparation left in `output_dir`.

    Returns:
      The data card.

    Raises:
      ValueError: the log, the examples file or a setting is no good; nothing that could be taken for a
        prepared data set is left behind.
      OSError: the disk is full, or a worker died.
    """
    output_dir = pathlib.Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    key = preparation.key()
    finished = _finished_card(output_dir, key)
    if finished is not None:
        return finished
    with engine.session(key) as resumed:
        _remove_outputs(output_dir, records=not resumed)
        engine.begin(key)
        card = _Run(preparation, output_dir, engine).run(key)
        engine.finish()
    return card


def work_folder(output_dir: str | os.PathLike) -> pathlib.Path:
    """Where the intermediate files of a preparation live until it has finished."""
    return pathlib.Path(output_dir) / WORK_FOLDER


def _finished_card(output_dir: pathlib.Path, key: str) -> Result | None:
    if not (output_dir / MANIFEST_FILE).is_file() or not (output_dir / CARD_FILE).is_file():
        return None
    manifest = json.loads((output_dir / MANIFEST_FILE).read_text(encoding="utf-8"))
    if manifest.get("protocol", {}).get("key") != key:
        return None
    return json.loads((output_dir / CARD_FILE).read_text(encoding="utf-8"))


def _remove_outputs(output_dir: pathlib.Path, *, records: bool) -> None:
    """Takes away what an earlier preparation wrote, the manifest first."""
    for name in (
        MANIFEST_FILE,
        CARD_FILE,
        REPORT_FILE,
        QUARANTINE_FILE,
        SCHEMA_FILE,
        CATALOGUE_FILE,
    ):
        (output_dir / name).unlink(missing_ok=True)
    shutil.rmtree(output_dir / vocabulary_files.FOLDER, ignore_errors=True)
    patterns = (
        (".*.tmp", "*.tfrecord") if records else (".*.tmp",)
    )  # a kill leaves files half-written
    for folder in (output_dir, *(output_dir / split for split in SPLITS)):
        for pattern in patterns:
            for path in folder.glob(pattern):
                path.unlink()


class _Run:
    """One preparation under way: the stages in order, each from the results of those before."""

    def __init__(self, preparation: Preparation, output_dir: pathlib.Path, engine: LocalEngine):
        self.preparation = preparation
        self.output_dir = output_dir
        self.engine = engine
        self.folder = engine.folder
        sizes = [(is_compressed(path), os.path.getsize(path)) for path in preparation.reader.paths]
        per_event = preparation.protocol.row_width
        self.buckets = preparation.limits.bucket_count(sizes, per_event)

    def run(self, key: str) -> Result:
        """Runs every stage and writes the data set; returns the data card."""
        reader = self.preparation.reader
        inputs, partition = self._partition()
        words = self._words(partition)
        lines = self._read_examples(words)
        histories = self._histories(partition)
        tasks = self._bucket_tasks(self._cuts(partition, histories))
        counts = self.engine.run("count", _tasks(count_bucket, tasks, histories))
        items = self._items(counts, lines, words)
        schema, vocabularies = self._ids(items, counts, words, max(r["longest"] for r in histories))
        written = self.engine.run(
            "examples",
            _tasks(
                write_bucket,
                [WriteTask(task, schema, self.output_dir) for task in tasks],
                histories,
            ),
        )
        card = {
            "settings": self.preparation.settings(),
            "inputs": inputs,
            "time_cuts": list(tasks[0].cuts),
            "buckets": self.buckets,
            **data_card(partition, histories, counts, items, written),
            "behavior_types": list(reader.behavior_types),
            "vocabulary_sizes": dict(schema.vocabulary_sizes),
        }
        card["official"] = compare_with_official(card, reader.official_counts)
        check_leaks(card)
        check_examples(card)
        stored = max(1, *(split["longest_stored"] for split in card["splits"].values()))
        schema = dataclasses.replace(schema, max_history=stored)
        self._publish(key, schema, vocabularies, written, card)
        return card

    def _partition(self) -> tuple[list[Result], list[Result]]:
        """Reads the log into bucketed segments; returns the files' fingerprints and the results."""
        reader, limits = self.preparation.reader, self.preparation.limits
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
                PartitionTask(reader, piece, number, self.buckets, keep, self.folder / "dealt"),
                piece.stop - piece.start,
            )
            for number, piece in enumerate(pieces)
        ]
        results = self.engine.run("partition", tasks)
        inputs, partition = results[: len(files)], results[len(files) :]
        target = self.output_dir / QUARANTINE_FILE
        bad = collect(
            [
                (piece, result["lines"], self.folder / "dealt" / f"{number:05d}.bad.csv")
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

    def _words(self, partition: Sequence[Result]) -> dict[str, Words]:
        """The words behind the digests of each id column."""
        words = {}
        kinds: dict[str, str] = {}
        for result in partition:
            for name, kind in result["id_kinds"].items():
                if kinds.setdefault(name, kind) != kind:
                    raise ValueError(
                        f"{name} holds integers in one part of the log and words in another; they "
                        "must be of one kind."
                    )
        for name in (*ID_COLUMNS, *self.preparation.reader.labels):
            if name in ID_COLUMNS and kinds.get(name) != "words":
                words[name] = Words()
                continue
            found: list[str] = []
            for number, result in enumerate(partition):
                if name in result["words"]:
                    path = self.folder / "dealt" / f"{number:05d}.{name}.words"
                    found += path.read_text(encoding="utf-8").split("\n")[:-1]
            words[name] = Words(check_names(id_keys(pd.Series(found, dtype=object))[1]))
        return words

    def _read_examples(self, words: dict[str, Words]) -> Columns | None:
        """Deals the lines of the examples file into buckets; None without one."""
        if not self.preparation.examples:
            return None
        named = [name for name, column in words.items() if column.by_key is not None]
        lines, names = given.read_examples(self.preparation.examples, named)
        if ITEM in named:
            words[ITEM] = Words(check_names(pd.concat([words[ITEM].by_key, names])))
        given.deal_examples(lines, self.buckets, self.folder / "given")
        return lines

    def _histories(self, partition: Sequence[Result]) -> list[Result]:
        """Sorts every bucket."""
        span, last_of = None, None
        if self.preparation.protocol.split_by != BY_USER:
            span = _span(partition)
        if self.preparation.protocol.split_by == LAST_TIME:
            last_of = self.preparation.positive_kinds
        tasks = []
        for bucket in range(self.buckets):
            segments = tuple(
                (self.folder / "dealt" / segment["file"], *segment["offsets"][bucket : bucket + 2])
                for result in partition
                for segment in result["segments"]
            )
            target = self.folder / "histories" / f"{bucket:05d}.columns"
            events = sum(last - first for _, first, last in segments)
            tasks.append(
                Task(build_bucket, HistoryTask(bucket, segments, target, span, last_of), events)
            )
        return self.engine.run("histories", tasks)

    def _cuts(self, partition: Sequence[Result], histories: Sequence[Result]) -> tuple[int, ...]:
        """Seconds at which validation and test begin; none where the split is by user."""
        protocol = self.preparation.protocol
        if protocol.split_by == BY_USER or protocol.name == GIVEN:
            return ()
        if protocol.time_cuts:
            return protocol.time_cuts
        histograms = [
            load_columns(task.histories_path, ["histogram"])["histogram"]
            for task in self._bucket_tasks(())
        ]
        histogram = np.sum(histograms, axis=0)
        return time_cuts(histogram, *_span(partition), protocol.fractions)

    def _bucket_tasks(self, cuts: tuple[int, ...]) -> list[BucketTask]:
        protocol, seed = self.preparation.protocol, self.preparation.seed
        kinds, labels = self.preparation.positive_kinds, self.preparation.reader.labels
        return [
            BucketTask(n, self.folder, protocol, seed, cuts, kinds, labels)
            for n in range(self.buckets)
        ]

    def _items(
        self, counts: Sequence[Result], lines: Columns | None, words: dict[str, Words]
    ) -> Columns:
        """All items of the log (and of the examples file) with category and counts, by rising key."""
        sources = tuple(task.pairs_path for task in self._bucket_tasks(()))
        ranges = -(-sum(result["pairs"] for result in counts) // _PAIRS_PER_RANGE)
        samples = [map_columns(path)["item"] for path in sources]
        edges = range_edges(
            np.concatenate([s[:: max(1, len(s) // _SAMPLES)] for s in samples]), max(1, ranges)
        ).tolist()
        targets = [self.folder / "items" / f"{n:05d}.columns" for n in range(len(edges) + 1)]
        tasks = [
            Task(merge_range, MergeTask(sources, first, last, target))
            for first, last, target in zip([None, *edges], [*edges, None], targets, strict=True)
        ]
        self.engine.run("items", tasks)
        parts = [load_columns(target) for target in targets]
        items = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        items["wanted"] = items["training_events"] > 0
        if not self.preparation.protocol.strict:
            items["wanted"][:] = True
        return items if lines is None else _with_given_items(items, lines)

    def _ids(
        self, items: Columns, counts: Sequence[Result], words: dict[str, Words], longest: int
    ) -> tuple[Schema, dict[str, Vocabulary]]:
        """Numbers everything, saves the workers' tables, and describes the result."""
        reader = self.preparation.reader
        vocabularies = {ITEM: item_vocabulary(items, words, self.folder)}
        rows = load_columns(self.folder / vocabulary_files.VOCABULARY_FILE, ["row"])["row"]
        if not len(rows):
            raise ValueError(
                f"none of the {sum(r['training_users'] >= 0 for r in counts)} users falls into "
                "training; give a longer log, another --seed or another split."
            )
        category, category_id = category_vocabulary(items, words[CATEGORY])
        if reader.has_categories:
            vocabularies[CATEGORY] = category
        save_columns(
            self.folder / vocabulary_files.ITEMS_FILE,
            vocabulary_files.item_ids(items, rows, category_id),
        )
        behavior_counts = add_up(result["training_behaviors"] for result in counts)
        names = reader.behavior_types or ("",)
        behaviors, behavior_id = behavior_vocabulary(names, _padded(behavior_counts, len(names)))
        kept = self.preparation.limits.behavior_types or reader.behavior_types
        if len(kept) > 1:
            vocabularies[BEHAVIOR] = behaviors
        save_columns(self.folder / vocabulary_files.BEHAVIORS_FILE, {"behavior_id": behavior_id})
        for name in reader.labels:
            found = _joined([load_columns(t.label_path(name)) for t in self._bucket_tasks(())])
            vocabularies[name], table = label_vocabulary(found, words[name])
            save_columns(self.folder / vocabulary_files.LABEL_FILE.format(name), table)
        users = self._users()
        vocabularies[USER], user_id = user_vocabulary(users, words[USER])
        profile, profile_ids = profile_columns(reader.profiles(), reader.profile_fields, users)
        vocabularies |= profile
        save_columns(
            self.folder / vocabulary_files.USERS_FILE,
            {"key": users["key"], USER: user_id, **profile_ids},
        )
        category_of_item = category_id if reader.has_categories else None
        save_catalogue(
            self.output_dir,
            catalogue_arrays(rows, vocabularies[ITEM].counts, category_of_item),
        )
        more = (reader.labels, reader.numeric_features)
        schema = make_schema(vocabularies, reader.profile_fields, longest, *more)
        return schema, vocabularies

    def _users(self) -> Columns:
        """Every user of the log, by rising key."""
        users = _joined([load_columns(task.users_path) for task in self._bucket_tasks(())])
        order = np.argsort(users["key"])
        return {name: column[order] for name, column in users.items()}

    def _publish(
        self,
        key: str,
        schema: Schema,
        vocabularies: Mapping[str, Vocabulary],
        written: Sequence[Result],
        card: Result,
    ) -> None:
        """Writes what describes the records, and the manifest when all else is there."""
        folder = self.output_dir / vocabulary_files.FOLDER
        folder.mkdir(exist_ok=True)
        for name, vocabulary in vocabularies.items():
            vocabulary.save(folder / f"{name}.txt")
        schema.save(self.output_dir)
        write_text(self.output_dir / CARD_FILE, json.dumps(card, indent=2, sort_keys=True) + "\n")
        write_text(self.output_dir / REPORT_FILE, report_page(card))
        splits: dict[str, list[Shard]] = {name: [] for name in SPLITS}
        for result in written:
            for shard in result["shards"]:
                splits[shard["path"].split("/")[0]].append(Shard(**shard))
        if self.preparation.protocol.form == PAPER and self.preparation.protocol.name != GIVEN:
            splits[SPLITS[VALIDATION]] = splits[SPLITS[TEST]]
        Manifest(
            schema.fingerprint(),
            {name: tuple(shards) for name, shards in splits.items()},
            {**self.preparation.settings(), "key": key, "time_cuts": card["time_cuts"]},
        ).save(self.output_dir)


def _tasks(function, arguments: Sequence, histories: Sequence[Result]) -> list[Task]:
    """One task a bucket, weighed by its events."""
    return [
        Task(function, argument, result["events"])
        for argument, result in zip(arguments, histories, strict=True)
    ]


def _with_given_items(items: Columns, lines: Columns) -> Columns:
    """Adds the items that only the examples file has; those of its training lines are wanted."""
    given_items = np.unique(np.concatenate([lines["positive"], lines["negative"]]))
    extra = given_items[Lookup.build(items["item"]).rows(given_items) < 0]
    blank = {name: np.zeros(len(extra), column.dtype) for name, column in items.items()}
    blank |= {"item": extra, "category": np.full(len(extra), MISSING, np.int64)}
    joined = {name: np.concatenate([column, blank[name]]) for name, column in items.items()}
    order = np.argsort(joined["item"])
    joined = {name: column[order] for name, column in joined.items()}
    training = lines["split"] == TRAIN
    wanted = np.concatenate([lines["positive"][training], lines["negative"][training]])
    joined["wanted"][Lookup.build(joined["item"]).rows(wanted)] = True
    return joined


def _joined(parts: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _span(partition: Sequence[Result]) -> tuple[int, int]:
    """Earliest and latest second of the log."""
    return (
        min(result["earliest"] for result in partition if result["segments"]),
        max(result["latest"] for result in partition if result["segments"]),
    )


def _padded(values: np.ndarray, width: int) -> np.ndarray:
    return np.pad(values.astype(np.int64), (0, max(0, width - len(values))))


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
