"""Small prepared data sets for tests: random, but laid out exactly as data_prep writes them."""

import numpy as np

from dgin_tf.records import (
    Manifest,
    Shard,
    encode_record,
    save_catalogue,
    write_records,
)
from dgin_tf.schema import BEHAVIOR_TYPE, CANDIDATE, FIRST_ID, HISTORY, USER, Field, Schema

ITEMS, CATEGORIES, USERS = 101, 13, 61


def make_schema(max_history: int = 47, behavior_types: tuple[str, ...] = ()) -> Schema:
    both = (HISTORY, CANDIDATE)
    types = (Field(BEHAVIOR_TYPE, (HISTORY,), BEHAVIOR_TYPE),) if behavior_types else ()
    sizes = {"user_id": USERS, "item_id": ITEMS, "category_id": CATEGORIES}
    if behavior_types:
        sizes[BEHAVIOR_TYPE] = FIRST_ID + len(behavior_types)
    return Schema(
        fields=(
            Field("user_id", (USER,), "user_id"),
            Field("item_id", both, "item_id"),
            Field("category_id", both, "category_id"),
            Field("timestamp", both),
            *types,
        ),
        vocabulary_sizes=sizes,
        max_history=max_history,
        behavior_types=behavior_types,
    )


def category_of(items: np.ndarray) -> np.ndarray:
    """The category of each item: any fixed function of the id will do."""
    return FIRST_ID + items % (CATEGORIES - FIRST_ID)


def make_record(schema: Schema, user: int, rng, cuts: int = 1, negatives: int = 1) -> dict:
    """One user's arrays: a history of random length and `cuts` targets at its end."""
    events = int(rng.integers(cuts, schema.max_history))
    item = rng.integers(FIRST_ID, ITEMS, events)
    position = np.repeat(np.arange(events - cuts + 1, events + 1), 1 + negatives)
    candidate = rng.integers(FIRST_ID, ITEMS, len(position))
    types = {}
    if schema.behavior_types:
        types["hist_behavior_type"] = FIRST_ID + rng.integers(0, len(schema.behavior_types), events)
    return {
        **types,
        "user_id": np.array([user]),
        "hist_item_id": item,
        "hist_category_id": category_of(item),
        "hist_timestamp": 1_500_000_000 + np.arange(events),
        "cand_item_id": candidate,
        "cand_category_id": category_of(candidate),
        "cand_timestamp": 1_500_000_000 + position,
        "cand_position": position,
        "label": np.tile([1] + [0] * negatives, cuts),
    }


def write_prepared(
    data_dir, users=37, cuts=1, negatives=1, buckets=(16, 47), seed=0, behavior_types=()
) -> Schema:
    """Writes a whole prepared data set of random records with three splits."""
    schema, rng = make_schema(behavior_types=behavior_types), np.random.default_rng(seed)
    splits = {}
    for split in ("train", "validation", "test"):
        (data_dir / split).mkdir(parents=True)
        records = [
            make_record(schema, FIRST_ID + u % (USERS - FIRST_ID), rng, cuts, negatives)
            for u in range(users)
        ]
        shards, lower = [], -1
        for bucket in buckets:
            chosen = [r for r in records if lower < len(r["hist_item_id"]) <= bucket]
            path = f"{split}/len{bucket:05d}.tfrecord"
            write_records(data_dir / path, [encode_record(schema, r) for r in chosen])
            rows = cuts * len(chosen)
            shards.append(
                Shard(path, bucket, len(chosen), rows, rows * (1 + negatives), 1 + negatives)
            )
            lower = bucket
        splits[split] = tuple(shard for shard in shards if shard.users)
    ids = np.arange(ITEMS)
    save_catalogue(data_dir, {"category_id": category_of(ids), "count": ids % 7})
    schema.save(data_dir)
    # Those of random splits tell different stories: the test split has the newest ones here.
    Manifest(schema.fingerprint(), splits, whole_histories=splits["test"]).save(data_dir)
    return schema
