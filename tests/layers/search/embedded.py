"""A small batch of histories and candidates whose embeddings are rows of fixed tables."""

import numpy as np
import tensorflow as tf

from dgin_tf.layers.events import History, Target, embed_history, embed_ids

ITEMS, CATEGORIES, WIDTH = 31, 7, 3
DIM = 2 * WIDTH
_RANDOM = np.random.default_rng(3)
TABLES = {
    "item_id": tf.Variable(_RANDOM.normal(size=(ITEMS, WIDTH)), dtype=tf.float32),
    "category_id": tf.Variable(_RANDOM.normal(size=(CATEGORIES, WIDTH)), dtype=tf.float32),
}


def embed(features):
    """Raw ids of any one shape -> [..., dim]."""
    return embed_ids(TABLES, features, tf.float32)


def events_of(history):
    """The embedded events of a history, [users, time, dim], zero where masked."""
    return embed_history(history, tf.float32).events


def history(lengths, time, seed=0):
    """Random events, padded at the end by zeros."""
    random, shape = np.random.default_rng(seed), (len(lengths), time)
    mask = np.arange(time) < np.asarray(lengths)[:, None]
    return history_of(
        mask,
        item_id=random.integers(2, ITEMS, shape),
        category_id=random.integers(2, CATEGORIES, shape),
        timestamp=1_000_000 + 3_600 * np.cumsum(random.integers(1, 50, shape), axis=1),
    )


def history_of(mask, item_id, category_id, timestamp):
    """Events of given ids and times; what is masked becomes zero."""
    arrays = {"item_id": item_id, "category_id": category_id, "timestamp": timestamp}
    features = {
        name: tf.constant(np.where(mask, values, 0), tf.int64 if name == "timestamp" else tf.int32)
        for name, values in arrays.items()
    }
    return History(None, tf.constant(mask), features, tables=TABLES)


def part_of(whole, start, stop):
    """The events of a stretch of the time axis."""
    features = {name: values[:, start:stop].numpy() for name, values in whole.features.items()}
    return history_of(whole.mask[:, start:stop].numpy(), **features)


def target(users, candidates, seed=1):
    """Random candidates, later than every event."""
    random, shape = np.random.default_rng(seed), (users, candidates)
    features = {
        "item_id": tf.constant(random.integers(2, ITEMS, shape), tf.int32),
        "category_id": tf.constant(random.integers(2, CATEGORIES, shape), tf.int32),
        "timestamp": tf.constant(np.full(shape, 10_000_000), tf.int64),
    }
    return Target(embed(features), tf.ones(shape, tf.bool), features, TABLES)
