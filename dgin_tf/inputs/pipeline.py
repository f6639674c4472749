"""Batches of a prepared data set, as a deterministic function of the seed and the epoch.

Shards hold rows of about one length. A training batch is a fair sample of all lengths: it takes rows of
every length in proportion to its share, in a few parts of a static shape each, so that the moments of a
batch are those of the data and hardly anything is padding. A shard is read and parsed whole, and its
rows are permuted and dealt to the batches. Rows that are missing from a part are all padding, which
every loss and every statistic ignores: each row is used exactly once an epoch, and nothing recompiles.
"""

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dgin_tf.inputs.cutting import batch_index, cut, parse_rows, spread_batches
from dgin_tf.inputs.negatives import HistoryNegatives, popularity_sampler, uniform_sampler
from dgin_tf.inputs.parts import merge_lengths, plan_parts, plan_streams, spread
from dgin_tf.ops.parts import PARTS
from dgin_tf.records import (
    SPLITS,
    WHOLE,
    Manifest,
    Shard,
    decode_record,
    load_catalogue,
    read_records,
)
from dgin_tf.schema import ITEM, RECORDED_IDS, UNKNOWN_ID, Schema, check_positive, recorded
from dgin_tf.whole_histories import whole_records

TRAIN = "train"
_PREPARE = "prepare the data again with python -m data_prep.prepare"
SAMPLERS = ("none", "uniform", "popularity")

Transform = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Makes a batch of a batch, as `GroupTransform` does; runs while batches are read, compiled by TensorFlow.

Equal transforms are traced once, so that one with settings is best a frozen dataclass.
"""


@dataclasses.dataclass(frozen=True)
class BatchOptions:
    """Settings of batches.

    Attributes:
      batch_rows: history cuts in a batch, over all replicas; each brings its candidates.
      max_history: longest history a model sees, in events; older events are cut off.
      history_negatives: negatives to sample for every past event of a training batch: "none",
        "uniform" over the items, or by "popularity".
      lengths: parts of a training batch at most, each padded to a length of its own. More of them are
        less padding and more operations; 1 pads all rows to the longest.
    """

    batch_rows: int = 64
    max_history: int = 100
    history_negatives: str = "none"
    lengths: int = 3

    def __post_init__(self):
        sizes = ("batch_rows", "max_history", "lengths")
        check_positive(**{name: getattr(self, name) for name in sizes})
        if self.history_negatives not in SAMPLERS:
            raise ValueError(
                f"history_negatives must be one of {SAMPLERS}; got {self.history_negatives!r}."
            )


class PreparedData:
    """A prepared data set on disk.

    Args:
      data_dir: where `data_prep.prepare` wrote it.
      trained_under: fingerprint of the schema of the model that is to read it, where that may be one of the
        earlier schemas whose ids the data set keeps. The data set then has this schema, and later ids are
        unknown ones in its batches, as they are where the model serves; "" for its own schema.

    Attributes:
      keeps_later_ids: True where the schema is an earlier one. Batches then have user and item ids as they
        are recorded besides, see `recorded`.

    Raises:
      FileNotFoundError: there is no finished preparation.
      ValueError: records and schema do not belong together, or the data set does not keep the ids of the
        schema that is asked for.
    """

    def __init__(self, data_dir: str | os.PathLike, trained_under: str = ""):
        self.data_dir = os.fspath(data_dir)
        self.schema = Schema.load(data_dir)
        self.manifest = Manifest.load(data_dir, self.schema)
        self.keeps_later_ids = trained_under not in ("", self.schema.fingerprint())
        if self.keeps_later_ids:
            self.schema = self.earlier_schema(trained_under)
        # Each gives the same function for the same arguments, so that nothing is traced twice.
        self._shard_opener = functools.cache(self._make_shard_opener)
        self._batch_maker = functools.cache(self._make_batch_maker)

    def earlier_schema(self, fingerprint: str) -> Schema:
        """The schema of this fingerprint, whose ids the data set keeps; its own one among them.

        Raises:
          ValueError: it keeps none such.
        """
        earlier = [self.schema, *map(Schema.from_json, self.manifest.earlier_schemas)]
        for schema in earlier:
            if schema.fingerprint() == fingerprint:
                return schema
        raise ValueError(
            f"the model was trained under schema {fingerprint}, and the data in {self.data_dir!r} keep the ids of "
            f"{', '.join(schema.fingerprint() for schema in earlier)}; prepare them with "
            "--vocabulary_from=FOLDER, the data that the model was trained on."
        )

    @functools.cached_property
    def catalogue(self) -> Mapping[str, np.ndarray]:
        """Attributes of every item id; read once, when first asked for."""
        return load_catalogue(self.data_dir)

    def shards(self, split: str) -> tuple[Shard, ...]:
        """Files of a split; raises ValueError where it has none."""
        shards = self._shards_of(split)
        if not shards:
            raise ValueError(
                f"the data set in {self.data_dir!r} has no {split!r} examples; it has "
                f"{[name for name in SPLITS if self.manifest.splits.get(name)]}."
            )
        return shards

    def whole_shards(self) -> tuple[Shard, ...]:
        """Files of the whole histories, in which every user is once; raises ValueError where there are none."""
        return self.manifest.whole_shards(self.data_dir)

    def whole_records(self) -> Iterator[tuple[int, bytes]]:
        """Records of all users with all of their events, see `dgin_tf.whole_histories.whole_records`."""
        return whole_records(self.data_dir, self.manifest, self.schema)

    def check_records(self) -> None:
        """Reads all records, which takes minutes for large data; raises ValueError for a damaged file."""
        splits = [*map(self._shards_of, SPLITS), self.manifest.whole_histories or ()]
        for shard in {shard.path: shard for shards in splits for shard in shards}.values():
            path = os.path.join(self.data_dir, shard.path)
            try:
                is_tail = shard.path.startswith(f"{WHOLE}/")  # which is no whole record
                users = sum(
                    1 for p in read_records(path) if is_tail or decode_record(self.schema, p)
                )
            except FileNotFoundError as error:
                raise ValueError(f"{path} is missing; {_PREPARE}.") from error
            except ValueError as error:
                raise ValueError(f"{path} cannot be read: {error}") from error
            if users != shard.users:
                raise ValueError(
                    f"{path} holds {users} records instead of {shard.users}: it was cut short or replaced; "
                    f"{_PREPARE}."
                )

    @contextlib.contextmanager
    def naming_damage(self) -> Iterator[None]:
        """Turns TensorFlow's error about a damaged record, which names no file, into one that does.

        Raises:
          ValueError: a file of the data set is damaged, and something within the block failed.
        """
        try:
            yield
        except tf.errors.OpError:
            self.check_records()
            raise

    def _shards_of(self, split):
        return self.manifest.splits.get(split, ())

    def steps(self, split: str, options: BatchOptions, replicas: int = 1) -> int:
        """Batches in one pass over a split, as `training` makes them of the training split."""
        if split == TRAIN:
            return self._plan(options, replicas)[1]
        return sum(math.ceil(shard.rows / options.batch_rows) for shard in self.shards(split))

    def training(
        self,
        options: BatchOptions,
        seed: int,
        epoch: int,
        transforms: Sequence[Transform] = (),
        replicas: int = 1,
    ) -> tf.data.Dataset:
        """One epoch of shuffled training batches: the same arguments give the same batches.

        Args:
          options: how batches are made.
          seed, epoch: of the shuffling and the sampling.
          transforms: applied to every part of a batch in their order, see `CTRModel.input_transforms`,
            while training is at another one.
          replicas: devices that share a batch; the rows of every part are a multiple of it.

        Returns:
          Batches {"parts": (features, ...)} of a part for each length, see `dgin_tf.ops.parts`; features
          alone where all rows are of one length.
        """
        sequence = np.random.SeedSequence([seed, epoch])
        groups, steps, sizes = self._plan(options, replicas)
        width = max(shard.row_candidates for shard in self.shards(TRAIN))
        parts: dict[int, list[tf.data.Dataset]] = {}
        for (length, shards), rows in zip(groups, sizes, strict=True):
            order = np.random.default_rng(sequence.spawn(1)[0]).permutation(len(shards))
            seeds = sequence.spawn(1)[0].generate_state(2 * len(shards)).view(np.int32)
            shards = [shards[i] for i in order]
            spare = spread(steps - sum(math.ceil(s.rows / rows) for s in shards), len(shards))
            uncut = self._uncut(shards, rows, spare, seeds.reshape(-1, 2))
            parts.setdefault(length, []).append(uncut)
        features = []
        for length, uncut in parts.items():
            first = int(sequence.spawn(1)[0].generate_state(1)[0])
            numbers = np.stack([np.full(steps, first), np.arange(steps)], axis=1)
            part = tf.data.Dataset.zip(tf.data.Dataset.from_tensor_slices(numbers), tuple(uncut))
            make = self._batch_maker(options, length, width, True, tuple(transforms))
            features.append(part.map(make, num_parallel_calls=1))
        if len(features) == 1:
            return _with_settings(features[0], steps)
        return _with_settings(tf.data.Dataset.zip({PARTS: tuple(features)}), steps)

    def evaluation(
        self, split: str, options: BatchOptions, transforms: Sequence[Transform] = ()
    ) -> tf.data.Dataset:
        """One epoch over a split in the order of its files, without sampled negatives.

        Rows of one length are together, in batches of one static shape for each length.
        """
        groups = self._shards_by_length(split, options)
        width = max(shard.row_candidates for shard in self.shards(split))
        steps, batches = 0, None
        for length, shards in groups.items():
            uncut = self._uncut(shards, options.batch_rows, np.zeros(len(shards), int), None)
            count = sum(math.ceil(shard.rows / options.batch_rows) for shard in shards)
            numbers = tf.data.Dataset.from_tensors(np.zeros(2, np.int64)).repeat(count)
            # One length for all batches is a static shape, which is what XLA wants.
            static = length if len(groups) == 1 else None
            make = self._batch_maker(options, static, width, False, tuple(transforms))
            part = tf.data.Dataset.zip(numbers, (uncut,)).map(make, num_parallel_calls=2)
            batches = part if batches is None else batches.concatenate(part)
            steps += count
        return _with_settings(batches, steps)

    def of_records(
        self,
        chunks: Callable[[], Iterator[tuple[list[bytes], int]]],
        options: BatchOptions,
        width: int,
        transforms: Sequence[Transform] = (),
    ) -> tf.data.Dataset:
        """Batches of records that are in no file, such as new candidates of known users, in their order.

        Args:
          chunks: gives an iterator of records and the length that none of their histories exceeds.
          options: as for `evaluation`.
          width: candidates of a row at most; more of one position are several rows.
          transforms: as for `evaluation`.
        """
        signature = (tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32))
        records = tf.data.Dataset.from_generator(chunks, output_signature=signature)
        make = self._batch_maker(options, None, width, False, tuple(transforms))

        def batches_of(records, length):
            rows = parse_rows(records, self.schema, width)
            index = batch_index(tf.range(tf.size(rows.user)), options.batch_rows)
            return self._uncut_rows(rows, length, index)

        uncut = records.flat_map(batches_of)
        return uncut.map(lambda *rows: make(tf.zeros(2, tf.int64), (rows,)))

    def _uncut_rows(self, rows, length, index):
        """The uncut batches of parsed rows: (rows, length), chosen rows."""
        return tf.data.Dataset.zip(
            tf.data.Dataset.from_tensors((rows, length)).repeat(),
            tf.data.Dataset.from_tensor_slices(index),
        )

    def _plan(self, options, replicas):
        """Length and shards of each stream of rows, number of batches, and rows of each stream."""
        buckets: dict[int, list[Shard]] = {}
        for shard in self.shards(TRAIN):
            buckets.setdefault(shard.bucket, []).append(shard)
        counts = {bucket: sum(s.rows for s in shards) for bucket, shards in buckets.items()}
        names = plan_streams(counts, options.max_history, options.batch_rows)
        streams = [[shard for name in stream for shard in buckets[name]] for stream in names]
        lengths = [min(stream[-1], options.max_history) for stream in names]
        most = min(options.lengths, options.batch_rows // replicas)
        merged = merge_lengths(lengths, most)
        lengths = [merged[length] for length in lengths]
        rows = [[shard.rows for shard in shards] for shards in streams]
        steps, sizes = plan_parts(rows, lengths, options.batch_rows, replicas)
        return list(zip(lengths, streams, strict=True)), steps, sizes

    def _shards_by_length(self, split, options):
        """Length of history -> the shards of such rows, in rising order."""
        groups: dict[int, list[Shard]] = {}
        for shard in sorted(self.shards(split), key=lambda shard: shard.bucket):
            groups.setdefault(min(shard.bucket, options.max_history), []).append(shard)
        return groups

    def _uncut(self, shards, rows, spare, seeds):
        """The uncut batches of shards of one length: (parsed rows, length), chosen rows.

        Args:
          shards: the files.
          rows: of a batch.
          spare: for each shard how many batches without any row it gives besides, evenly spread.
          seeds: of the shuffling, [shards, 2]; None for the order of the files.
        """
        bucket = max(shard.bucket for shard in shards)
        files = {
            "path": [os.path.join(self.data_dir, shard.path) for shard in shards],
            "users": np.asarray([shard.users for shard in shards], np.int64),
            "rows": np.asarray([shard.rows for shard in shards], np.int32),
            "width": np.asarray([shard.row_candidates for shard in shards], np.int32),
            "length": np.full(len(shards), bucket, np.int32),
            "seed": np.zeros((len(shards), 2), np.int32) if seeds is None else seeds,
            "spare": np.asarray(spare, np.int32),
        }
        return tf.data.Dataset.from_tensor_slices(files).interleave(
            self._shard_opener(rows, seeds is not None),
            cycle_length=2,
            num_parallel_calls=2,
            deterministic=True,
        )

    def _make_shard_opener(self, batch_rows, shuffled):
        """Function from a file to its uncut batches.

        Every function of the pipeline is a cached `tf.function` of plain tensors, traced once and
        shared by all epochs, and no data set is made inside another one's function but by operations
        alone: an epoch of a small data set takes seconds, and tracing and setting up functions for
        each shard took as long as reading it.
        """

        def open_shard(file):
            records = tf.data.TFRecordDataset(file["path"]).batch(file["users"])
            order = tf.range(file["rows"])
            if shuffled:
                order = tf.random.experimental.stateless_shuffle(order, file["seed"])
            index = spread_batches(batch_index(order, batch_rows), file["spare"])
            rows = parse_rows(records.get_single_element(), self.schema, file["width"])
            return self._uncut_rows(rows, file["length"], index)

        return tf.function(open_shard, autograph=False)

    def _make_batch_maker(self, options, length, width, training, transforms):
        """Function from a seed and the uncut rows of each stream to features."""
        add_negatives = None
        if training and options.history_negatives != "none":
            add_negatives = self._history_negatives(options)

        def make_batch(seed, uncut):
            cuts = []
            for (rows, bucket), chosen in uncut:
                longest = tf.minimum(bucket, options.max_history) if length is None else length
                cuts.append(cut(rows, self.schema, chosen, longest, width))
            features = {name: tf.concat([part[name] for part in cuts], axis=0) for name in cuts[0]}
            if self.keeps_later_ids:
                features = _without_later_ids(features, self.schema)
            if add_negatives is not None:
                features = add_negatives(features, seed)
            for transform in transforms:
                features = transform(features)
            return features

        return tf.function(make_batch, autograph=False)

    def _history_negatives(self, options):
        if options.history_negatives == "popularity":
            sampler = popularity_sampler(self.catalogue["count"])
        else:
            vocabulary = self.schema.field(ITEM).vocabulary
            sampler = uniform_sampler(self.schema.vocabulary_sizes[vocabulary])
        return HistoryNegatives(self.schema, self.catalogue, sampler)


def _without_later_ids(features, schema):
    """A batch whose ids beyond the schema's vocabularies are unknown, with users and items as recorded."""
    kept = {recorded(name): features[name] for name in RECORDED_IDS if name in features}
    for name, field in schema.features().items():
        if field.is_categorical:
            ids, size = features[name], schema.vocabulary_sizes[field.vocabulary]
            features[name] = tf.where(ids < size, ids, UNKNOWN_ID)
    return {**features, **kept}


def _with_settings(batches, steps):
    settings = tf.data.Options()
    settings.deterministic = True
    # All parallelism is set by hand; rewriting the graph costs more than it gains here.
    settings.autotune.enabled = False
    settings.experimental_optimization.apply_default_optimizations = False
    cardinality = tf.data.experimental.assert_cardinality(steps)
    return batches.apply(cardinality).prefetch(2).with_options(settings)
