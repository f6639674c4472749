"""Synthetic workloads of the benchmark: sizes, random batches, and records on disk.

Ids are drawn from a power law with exponent one (log-uniform ranks), as in click logs: the cost of
lookups and updates depends on which rows of a table a batch touches, and how often.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np

from dgin_tf import records
from dgin_tf.records import LABEL, POSITION, Manifest, Shard
from dgin_tf.schema import CANDIDATE, FIRST_ID, HISTORY, USER, Field, Schema

SHARD_USERS = 2048
NEGATIVE_PREFIX = "hist_negative_"
TIMESTAMP, BEHAVIOR_TYPE = "timestamp", "behavior_type"
_NOW = 2 * 365 * 24 * 3600  # two years of behavior, as in DGIN's paper


@dataclasses.dataclass(frozen=True)
class Workload:
    """Sizes of the data and of a batch; the defaults are S1, Amazon Books as in DIEN's paper.

    Attributes:
      items, categories, users: ids in each vocabulary, the reserved ones included.
      width: of one field's embedding.
      history: events in every history.
      batch: examples in a batch.
      seed: of all random ids.
      interests: number of distinct items of one history, approximately; 0 for no such limit.
      behavior_types: number of behavior types, which bring timestamps with them; 0 for neither.
      short_events: length of the short part in models of long histories; 0 for their defaults.
    """

    items: int = 367_983
    categories: int = 1_601
    users: int = 543_060
    width: int = 18
    history: int = 100
    batch: int = 128
    seed: int = 1
    interests: int = 0
    behavior_types: int = 0
    short_events: int = 0

    def schema(self) -> Schema:
        """User id, and items with their categories in history and candidates."""
        both = (HISTORY, CANDIDATE)
        fields: tuple[Field, ...] = (
            Field("user_id", (USER,), "user_id"),
            Field("item_id", both, "item_id"),
            Field("category_id", both, "category_id"),
        )
        sizes = {
            "user_id": self.users,
            "item_id": self.items,
            "category_id": self.categories,
        }
        if self.behavior_types:
            fields += (
                Field(TIMESTAMP, both),
                Field(BEHAVIOR_TYPE, (HISTORY,), BEHAVIOR_TYPE),
            )
            sizes[BEHAVIOR_TYPE] = FIRST_ID + self.behavior_types
        types = tuple(f"type_{number}" for number in range(self.behavior_types))
        return Schema(fields, sizes, self.history, types)

    def category_of(self, item: np.ndarray) -> np.ndarray:
        """Category of each item: a fixed hash of its id."""
        hashes = item.astype(np.int64) * 2_654_435_761 % 2**32  # Knuth's multiplicative hash
        return (FIRST_ID + hashes % (self.categories - FIRST_ID)).astype(np.int32)

    def draw_items(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Item ids with probability falling as one over their rank."""
        # N^u with u uniform has a density of one over the rank.
        rank = np.floor((self.items - FIRST_ID) ** rng.random(shape)) - 1
        return (FIRST_ID + rank).astype(np.int32)

    def draw_histories(
        self, rng: np.random.Generator, shape: tuple[int, ...]
    ) -> dict[str, np.ndarray]:
        """Features of full histories, `hist_*` and mask, shape + [history].

        With `interests`, every user comes back to so many items of their own, to the first of them
        most often.
        """
        if self.interests:
            own = self.draw_items(rng, (*shape, self.interests))  # shape + [interests]
            rank = (
                np.floor(self.interests ** rng.random((*shape, self.history))).astype(np.int64) - 1
            )
            item = np.take_along_axis(own, rank, axis=-1)
        else:
            item = self.draw_items(rng, (*shape, self.history))
        features = {
            "hist_item_id": item,
            "hist_category_id": self.category_of(item),
            "hist_mask": np.ones(item.shape, bool),
        }
        if self.behavior_types:
            times = np.sort(rng.integers(0, _NOW, item.shape), axis=-1)
            types = rng.integers(FIRST_ID, FIRST_ID + self.behavior_types, item.shape)
            features |= {
                "hist_timestamp": times,
                "hist_behavior_type": types.astype(np.int32),
            }
        return features

    def draw_candidates(
        self, rng: np.random.Generator, shape: tuple[int, ...]
    ) -> dict[str, np.ndarray]:
        """Features of candidates, `cand_*`, all of one second."""
        item = self.draw_items(rng, shape)
        features = {"cand_item_id": item, "cand_category_id": self.category_of(item)}
        if self.behavior_types:
            features["cand_timestamp"] = np.full(shape, _NOW, np.int64)
        return features


WORKLOADS = {
    "amazon": Workload(),
    # S2, long histories and a large catalogue, for the searching models.
    "long": Workload(1_000_000, 10_000, 100_000, width=16, history=500, batch=1_024),
    # S3, for the memories.
    "memory": Workload(1_000_000, 10_000, 100_000, width=16, history=200, batch=128),
    # The histories and the batch of ENCODE's paper: events 32 wide, 1,000 of them, 50 in real time.
    "clusters": Workload(
        1_000_000, 10_000, 100_000, width=16, history=1_000, batch=1_024, short_events=50
    ),
    # S4, for DGIN: lifelong histories of several behavior types, a few hundred interests each.
    "groups": Workload(
        1_000_000,
        10_000,
        100_000,
        width=16,
        history=10_000,
        batch=256,
        interests=360,  # of which about 300 occur
        behavior_types=4,
    ),
}


def draw_batches(
    workload: Workload, count: int, users: int, candidates: int, negatives: bool
) -> dict[str, np.ndarray]:
    """Random batches in the layout of `dgin_tf.inputs`, stacked on a new first axis.

    Every history is full and every user has a positive in the first column, so that all examples
    and events are real.
    """
    rng = np.random.default_rng([workload.seed, users, candidates])
    histories = workload.draw_histories(rng, (count, users))
    candidate_features = workload.draw_candidates(rng, (count, users, candidates))
    label = np.zeros((count, users, candidates), np.float32)
    # One candidate a row: rows alternate. More: the first is the positive.
    if candidates == 1:
        label[:, ::2] = 1
    else:
        label[..., 0] = 1
    batches = {
        "user_id": rng.integers(FIRST_ID, workload.users, (count, users)).astype(np.int32),
        **histories,
        **candidate_features,
        "cand_mask": np.ones(label.shape, bool),
        LABEL: label,
    }
    if negatives:
        size = histories["hist_mask"].shape
        other = rng.integers(FIRST_ID, workload.items, size).astype(np.int32)
        batches[f"{NEGATIVE_PREFIX}item_id"] = other
        batches[f"{NEGATIVE_PREFIX}category_id"] = workload.category_of(other)
    return batches


def save_batches(path: pathlib.Path, batches: Mapping[str, np.ndarray]) -> None:
    """Writes batches of `draw_batches` whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **batches)
    temporary.replace(path)


def write_data_set(workload: Workload, data_dir: pathlib.Path, users: int, candidates: int) -> None:
    """Writes a prepared data set of full histories, one row of candidates each; train split only."""
    schema = workload.schema()
    rng = np.random.default_rng([workload.seed, users, candidates, workload.history])
    (data_dir / "train").mkdir(parents=True, exist_ok=True)
    shards = []
    for start in range(0, users, SHARD_USERS):
        size = min(SHARD_USERS, users - start)
        path = f"train/{start // SHARD_USERS:05d}.tfrecord"
        records.write_records(data_dir / path, _records(workload, schema, size, candidates, rng))
        shards.append(Shard(path, workload.history, size, size, size * candidates, candidates))
    item = np.arange(workload.items)
    # Frequencies of the power law above; popularity negatives are drawn by them.
    count = np.maximum(1, users * workload.history // np.maximum(item, 1))
    records.save_catalogue(data_dir, {"category_id": workload.category_of(item), "count": count})
    schema.save(data_dir)
    files = tuple(shards)
    Manifest(schema.fingerprint(), {"train": files}, whole_histories=files).save(data_dir)


def _records(
    workload: Workload, schema: Schema, users: int, candidates: int, rng: np.random.Generator
) -> Iterator[bytes]:
    for _ in range(users):
        history = workload.draw_histories(rng, ())
        del history["hist_mask"]
        yield records.encode_record(
            schema,
            {
                "user_id": rng.integers(FIRST_ID, workload.users, 1),
                **history,
                **workload.draw_candidates(rng, (candidates,)),
                POSITION: np.full(candidates, workload.history),
                LABEL: np.arange(candidates) == 0,
            },
        )
