"""Batches of a prepared data set, as a deterministic function of the seed and the epoch.

A shard is read and parsed whole, its rows are permuted and dealt to batches, and batches of shards
of different lengths follow each other in a random order. Every batch of a length has one static
shape: the last one of a shard is filled up with rows that are all padding, which every loss and
every statistic ignores. Each row is therefore used exactly once an epoch and nothing recompiles.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dgin_tf.inputs.cutting import batch_index, cut, parse_rows
from dgin_tf.inputs.negatives import HistoryNegatives, popularity_sampler, uniform_sampler
from dgin_tf.records import SPLITS, Manifest, Shard, load_catalogue
from dgin_tf.schema import ITEM, Schema, check_positive

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
    """

    batch_rows: int = 64
    max_history: int = 100
    history_negatives: str = "none"

    def __post_init__(self):
        check_positive(batch_rows=self.batch_rows, max_history=self.max_history)
        if self.history_negatives not in SAMPLERS:
            raise ValueError(
                f"history_negatives must be one of {SAMPLERS}; got {self.history_negatives!r}."
            )


class PreparedData:
    """A prepared data set on disk.

    Args:
      data_dir: where `data_prep.prepare` wrote it.

    Raises:
      FileNotFoundError: there is no finished preparation.
      ValueError: records and schema do not belong together.
    """

    def __init__(self, data_dir: str | os.PathLike):
        self.data_dir = os.fspath(data_dir)
        self.schema = Schema.load(data_dir)
        self.manifest = Manifest.load(data_dir, self.schema)
        # Each gives the same function for the same arguments, so that nothing is traced twice.
        self._shard_opener = functools.cache(self._make_shard_opener)
        self._batch_maker = functools.cache(self._make_batch_maker)

    @functools.cached_property
    def catalogue(self) -> Mapping[str, np.ndarray]:
        """Attributes of every item id; read once, when first asked for."""
        return load_catalogue(self.data_dir)

    def shards(self, split: str) -> tuple[Shard, ...]:
        """Files of a split; raises ValueError where it has none."""
        shards = self.manifest.splits.get(split, ())
        if not shards:
            raise ValueError(
                f"the data set in {self.data_dir!r} has no {split!r} examples; it has "
                f"{[name for name in SPLITS if self.manifest.splits.get(name)]}."
            )
        return shards

    def steps(self, split: str, options: BatchOptions) -> int:
        """Batches in one pass over a split."""
        return sum(math.ceil(shard.rows / options.batch_rows) for shard in self.shards(split))

    def training(
        self,
        options: BatchOptions,
        seed: int,
        epoch: int,
        transforms: Sequence[Transform] = (),
    ) -> tf.data.Dataset:
        """One epoch of shuffled training batches: the same arguments give the same batches.

        Args:
          options: how batches are made.
          seed, epoch: of the shuffling and the sampling.
          transforms: applied to every batch in their order, see `CTRModel.input_transforms`, while
            training is at another one.
        """
        return self._read("train", options, np.random.SeedSequence([seed, epoch]), transforms)

    def evaluation(
        self, split: str, options: BatchOptions, transforms: Sequence[Transform] = ()
    ) -> tf.data.Dataset:
        """One epoch over a split in the order of its files, without sampled negatives."""
        return self._read(split, options, None, transforms)

    def _read(self, split, options, sequence, transforms):
        """Batches of a split, shuffled by `sequence` unless it is None.

        Every function of the pipeline is a cached `tf.function` of plain tensors, traced once and
        shared by all epochs and all lengths, and no data set is made inside another one's function
        but by operations alone: an epoch of a small data set takes seconds, and tracing and setting
        up functions for each length and each shard took as long as reading it.
        """
        shards = self.shards(split)
        width = max(shard.row_candidates for shard in shards)
        lengths = sorted({min(shard.bucket, options.max_history) for shard in shards})
        streams, batches = [], []
        for length in lengths:
            group = [s for s in shards if min(s.bucket, options.max_history) == length]
            if sequence is not None:
                order = np.random.default_rng(sequence.spawn(1)[0]).permutation(len(group))
                group = [group[i] for i in order]
            streams.append(self._stream(group, length, options.batch_rows, sequence))
            batches.append(sum(math.ceil(s.rows / options.batch_rows) for s in group))
        choice = np.repeat(np.arange(len(streams)), batches)
        if sequence is not None:
            choice = np.random.default_rng(sequence.spawn(1)[0]).permutation(choice)
        if len(streams) == 1:
            mixed = streams[0]
        else:
            selector = tf.data.Dataset.from_tensor_slices(choice.astype(np.int64))
            mixed = tf.data.Dataset.choose_from_datasets(streams, selector, False)
        # One length for all batches is a static shape, which is what XLA wants.
        time = lengths[0] if len(lengths) == 1 else None
        is_training = sequence is not None
        make_batch = self._batch_maker(options, time, width, is_training, tuple(transforms))
        first = 0 if sequence is None else int(sequence.generate_state(1)[0])
        seeds = np.stack([np.full(len(choice), first), np.arange(len(choice))], axis=1)
        numbered = tf.data.Dataset.zip(tf.data.Dataset.from_tensor_slices(seeds), mixed)
        made = numbered.map(make_batch, num_parallel_calls=2)
        settings = tf.data.Options()
        settings.deterministic = True
        # All parallelism is set by hand; rewriting the graph costs more than it gains here.
        settings.autotune.enabled = False
        settings.experimental_optimization.apply_default_optimizations = False
        cardinality = tf.data.experimental.assert_cardinality(len(choice))
        return made.apply(cardinality).prefetch(2).with_options(settings)

    def _stream(self, shards, length, batch_rows, sequence):
        """The uncut batches of shards of one length: (parsed rows, chosen rows, length)."""
        paths = [os.path.join(self.data_dir, shard.path) for shard in shards]
        users = np.asarray([shard.users for shard in shards], np.int64)
        rows = np.asarray([shard.rows for shard in shards], np.int32)
        seeds = np.zeros((len(shards), 2), np.int32)
        if sequence is not None:
            numbers = sequence.spawn(1)[0].generate_state(2 * len(shards))
            seeds[:] = numbers.view(np.int32).reshape(-1, 2)
        times = np.full(len(shards), length, np.int32)
        widths = np.asarray([shard.row_candidates for shard in shards], np.int32)
        files = tf.data.Dataset.from_tensor_slices((paths, users, rows, widths, seeds, times))
        opener = self._shard_opener(batch_rows, sequence is not None)
        return files.interleave(opener, cycle_length=2, num_parallel_calls=2, deterministic=True)

    def _make_shard_opener(self, batch_rows, shuffled):
        """Function from a file to its uncut batches."""

        def open_shard(path, user_count, row_count, width, seed, time):
            records = tf.data.TFRecordDataset(path).batch(user_count).get_single_element()
            order = tf.range(row_count)
            if shuffled:
                order = tf.random.experimental.stateless_shuffle(order, seed)
            rows = (parse_rows(records, self.schema, width), time)
            return tf.data.Dataset.zip(
                tf.data.Dataset.from_tensors(rows).repeat(),
                tf.data.Dataset.from_tensor_slices(batch_index(order, batch_rows)),
            )

        return tf.function(open_shard, autograph=False)

    def _make_batch_maker(self, options, length, width, training, transforms):
        """Function from a seed and an uncut batch to features."""
        add_negatives = None
        if training and options.history_negatives != "none":
            add_negatives = self._history_negatives(options)

        def make_batch(seed, uncut):
            (rows, time), chosen = uncut
            longest = time if length is None else length
            features = cut(rows, self.schema, chosen, longest, width)
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
