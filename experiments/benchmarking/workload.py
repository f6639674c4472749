"""The shape of the measured data: sizes, random batches, and records on disk.

Ids are drawn from a power law with exponent one (log-uniform ranks), as clicks are; which rows of a
table a batch touches, and how often, decides what looking them up and updating them costs.
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
_NOW = 2 * 365 * 24 * 3600  # two years of behavior, as DGIN's paper has them


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of the data and of a batch; the defaults are shape S1, Amazon Books as DIEN used it.

    Attributes:
      items, categories, users: ids in each vocabulary, the reserved ones counted.
      width: of one field's embedding.
      history: events in every history.
      batch: examples in a batch.
      seed: of all random ids.
      interests: different items of one history, about; 0 for as many as are drawn.
      behavior_types: types of behavior, with which come times; 0 for neither.
      short_events: the newest events that models of long histories read one by one; 0 for as many as
        each has by default.
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
        """The category of each item: a fixed scatter of the ids over the categories."""
        scattered = item.astype(np.int64) * 2_654_435_761 % 2**32
        return (FIRST_ID + scattered % (self.categories - FIRST_ID)).astype(np.int32)

    def draw_items(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Item ids with probability falling as one over their rank."""
        rank = np.floor((self.items - FIRST_ID) ** rng.random(shape)) - 1
        return (FIRST_ID + rank).astype(np.int32)

    def draw_histories(
        self, rng: np.random.Generator, shape: tuple[int, ...]
    ) -> dict[str, np.ndarray]:
        """Features of full histories, `hist_*` and mask, shape + [history].

        With `interests`, everybody comes back to so many items of their own, to the first of them
        most often.
        """
        if self.interests:
            own = self.draw_items(rng, (*shape, self.interests))
            rank = (
                np.floor(self.interests ** rng.random((*shape, self.history))).astype(np.int64) - 1
            )
            item = np.take_along_axis(own, rank, axis=-1)
        else:
            item = self.draw_items(rng, (*shape, self.history))
        drawn = {
            "hist_item_id": item,
            "hist_category_id": self.category_of(item),
            "hist_mask": np.ones(item.shape, bool),
        }
        if self.behavior_types:
            times = np.sort(rng.integers(0, _NOW, item.shape), axis=-1)
            kinds = rng.integers(FIRST_ID, FIRST_ID + self.behavior_types, item.shape)
            drawn |= {
                "hist_timestamp": times,
                "hist_behavior_type": kinds.astype(np.int32),
            }
        return drawn

    def draw_candidates(
        self, rng: np.random.Generator, shape: tuple[int, ...]
    ) -> dict[str, np.ndarray]:
        """Features of candidates, `cand_*`, all of one second."""
        item = self.draw_items(rng, shape)
        drawn = {"cand_item_id": item, "cand_category_id": self.category_of(item)}
        if self.behavior_types:
            drawn["cand_timestamp"] = np.full(shape, _NOW, np.int64)
        return drawn


SHAPES = {
    "amazon": Shape(),
    # S2, long histories of a large catalogue, as the searching models are made for.
    "long": Shape(1_000_000, 10_000, 100_000, width=16, history=500, batch=1_024),
    # S3, as the memories are made for.
    "memory": Shape(1_000_000, 10_000, 100_000, width=16, history=200, batch=128),
    # The histories and the batch of ENCODE's paper: events 32 wide, 1,000 of them, 50 in real time.
    "clusters": Shape(
        1_000_000, 10_000, 100_000, width=16, history=1_000, batch=1_024, short_events=50
    ),
    # S4, what DGIN is made for: lifelong histories of several types, a few hundred interests each.
    "groups": Shape(
        1_000_000,
        10_000,
        100_000,
        width=16,
        history=10_000,
        batch=256,
        interests=360,  # of which about 300 are met
        behavior_types=4,
    ),
}


def draw_batches(
    shape: Shape, count: int, users: int, candidates: int, negatives: bool
) -> dict[str, np.ndarray]:
    """Random batches in the layout of `dgin_tf.inputs`, stacked on a new first axis.

    Every history is full and every user has a positive in the first column, so that all examples
    are real and every event costs what it costs.
    """
    rng = np.random.default_rng([shape.seed, users, candidates])
    histories = shape.draw_histories(rng, (count, users))
    chosen = shape.draw_candidates(rng, (count, users, candidates))
    label = np.zeros((count, users, candidates), np.float32)
    # One candidate a row: rows alternate. More: the first is the positive.
    if candidates == 1:
        label[:, ::2] = 1
    else:
        label[..., 0] = 1
    drawn = {
        "user_id": rng.integers(FIRST_ID, shape.users, (count, users)).astype(np.int32),
        **histories,
        **chosen,
        "cand_mask": np.ones(label.shape, bool),
        LABEL: label,
    }
    if negatives:
        size = histories["hist_mask"].shape
        other = rng.integers(FIRST_ID, shape.items, size).astype(np.int32)
        drawn[f"{NEGATIVE_PREFIX}item_id"] = other
        drawn[f"{NEGATIVE_PREFIX}category_id"] = shape.category_of(other)
    return drawn


def save_batches(path: pathlib.Path, batches: Mapping[str, np.ndarray]) -> None:
    """Writes what `draw_batches` drew, under a temporary name first."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **batches)
    temporary.replace(path)


def write_data_set(shape: Shape, data_dir: pathlib.Path, users: int, candidates: int) -> None:
    """Writes a prepared data set of full histories, one row of candidates each; train split only."""
    schema = shape.schema()
    rng = np.random.default_rng([shape.seed, users, candidates, shape.history])
    (data_dir / "train").mkdir(parents=True, exist_ok=True)
    shards = []
    for start in range(0, users, SHARD_USERS):
        size = min(SHARD_USERS, users - start)
        path = f"train/{start // SHARD_USERS:05d}.tfrecord"
        records.write_records(data_dir / path, _records(shape, schema, size, candidates, rng))
        shards.append(Shard(path, shape.history, size, size, size * candidates, candidates))
    item = np.arange(shape.items)
    count = np.maximum(1, users * shape.history // np.maximum(item, 1))
    records.save_catalogue(data_dir, {"category_id": shape.category_of(item), "count": count})
    schema.save(data_dir)
    Manifest(schema.fingerprint(), {"train": tuple(shards)}).save(data_dir)


def _records(
    shape: Shape, schema: Schema, users: int, candidates: int, rng: np.random.Generator
) -> Iterator[bytes]:
    for _ in range(users):
        history = shape.draw_histories(rng, ())
        del history["hist_mask"]
        yield records.encode_record(
            schema,
            {
                "user_id": rng.integers(FIRST_ID, shape.users, 1),
                **history,
                **shape.draw_candidates(rng, (candidates,)),
                POSITION: np.full(candidates, shape.history),
                LABEL: np.arange(candidates) == 0,
            },
        )
