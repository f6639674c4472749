"""A small batch of histories and candidates whose embeddings are rows of fixed tables."""

import numpy as np
import tensorflow as tf

from dgin_tf.layers.interest_encoder import History, Target

ITEMS, CATEGORIES, WIDTH = 31, 7, 3
DIM = 2 * WIDTH
NAMES = ("hist_item_id", "hist_category_id")
_RANDOM = np.random.default_rng(3)
TABLES = {
    "item": _RANDOM.normal(size=(ITEMS, WIDTH)).astype(np.float32),
    "category": _RANDOM.normal(size=(CATEGORIES, WIDTH)).astype(np.float32),
}


def embed(features):
    """Raw `hist_*` of any one shape -> [..., dim]."""
    parts = [
        tf.gather(TABLES["item"], features["hist_item_id"]),
        tf.gather(TABLES["category"], features["hist_category_id"]),
    ]
    return tf.concat(parts, axis=-1)


def history(lengths, time, seed=0):
    """Random events, padded at the end by zeros."""
    random, shape = np.random.default_rng(seed), (len(lengths), time)
    mask = np.arange(time) < np.asarray(lengths)[:, None]
    return history_of(
        mask,
        item=random.integers(2, ITEMS, shape),
        category=random.integers(2, CATEGORIES, shape),
        timestamp=1_000_000 + 3_600 * np.cumsum(random.integers(1, 50, shape), axis=1),
    )


def history_of(mask, item, category, timestamp):
    """Events of given ids and times; what is masked becomes zero."""
    arrays = {"hist_item_id": item, "hist_category_id": category, "hist_timestamp": timestamp}
    features = {
        name: tf.constant(np.where(mask, values, 0), tf.int64 if "timestamp" in name else tf.int32)
        for name, values in arrays.items()
    }

    def events():
        return tf.where(mask[..., None], embed(features), 0.0)

    return History(events, tf.constant(mask), features, embed=embed, embedded_features=NAMES)


def part_of(whole, start, stop):
    """The events of a stretch of the time axis."""
    features = {name: values[:, start:stop] for name, values in whole.features.items()}
    mask = whole.mask[:, start:stop].numpy()
    arrays = {name.removeprefix("hist_"): values.numpy() for name, values in features.items()}
    return history_of(mask, arrays["item_id"], arrays["category_id"], arrays["timestamp"])


def target(users, candidates, seed=1):
    """Random candidates, later than every event."""
    random, shape = np.random.default_rng(seed), (users, candidates)
    features = {
        "cand_item_id": tf.constant(random.integers(2, ITEMS, shape), tf.int32),
        "cand_category_id": tf.constant(random.integers(2, CATEGORIES, shape), tf.int32),
        "cand_timestamp": tf.constant(np.full(shape, 10_000_000), tf.int64),
    }
    raw = {name.replace("cand_", "hist_"): values for name, values in features.items()}
    return Target(embed(raw), tf.ones(shape, tf.bool), features, embed)
