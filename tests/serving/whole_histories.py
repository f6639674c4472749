"""People's whole histories in the prepared data, and what a model itself makes of them."""

import pathlib
import shutil

import numpy as np

from dgin_tf.records import Manifest, decode_record, read_records
from dgin_tf.schema import HISTORY


def one_split(data, folder):
    """A data set of the test split alone: the splits of random data tell different stories."""
    shutil.copytree(pathlib.Path(data.data_dir) / "test", folder / "test")
    shutil.copy(pathlib.Path(data.data_dir) / "catalogue.npz", folder)
    data.schema.save(folder)
    shards = data.shards("test")
    Manifest(data.schema.fingerprint(), {"test": shards}, whole_histories=shards).save(folder)


def histories(data):
    (shard,) = data.shards("test")
    for payload in read_records(f"{data.data_dir}/{shard.path}"):
        record = decode_record(data.schema, payload)
        names = [field.name for field in data.schema.with_role(HISTORY)]
        yield int(record["user_id"][0]), {name: record[f"hist_{name}"] for name in names}


def longest(data):
    return max(histories(data), key=lambda actual: len(actual[1]["item_id"]))


def whole(model, person, events, candidates, length=60):
    """The model's own scores of a whole history, all of one length so that it is traced once."""
    count = len(events["item_id"])
    features = {f"hist_{n}": np.pad(v, (0, length - count))[None] for n, v in events.items()}
    features |= {f"cand_{name}": values[None] for name, values in candidates.items()}
    size = features["cand_item_id"].shape
    return model.predict_on_batch(
        {
            **features,
            "hist_mask": np.arange(length)[None] < count,
            "user_id": np.array([person], np.int32),
            "cand_mask": np.ones(size, bool),
            "label": np.zeros(size, np.float32),
        }
    )[0]


def some_candidates(events, now=1_600_000_000):
    """Two of the categories that somebody knows, and an item that nobody does."""
    return {
        "item_id": np.append(events["item_id"][[0, -1]], 1).astype(np.int32),
        "category_id": np.append(events["category_id"][[0, -1]], 1).astype(np.int32),
        "timestamp": np.full(3, now),
    }
