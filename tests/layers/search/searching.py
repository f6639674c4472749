"""Histories and candidates with embeddings by id, for tests of what is searched."""

import numpy as np
import tensorflow as tf

from dgin_tf.layers.interest_encoder import History, Target

NAMES = ("hist_item_id", "hist_category_id")


def random(seed=0):
    return np.random.default_rng(seed)


class Data:
    """Ids, embeddings and masks; `history` and `target` are what layers take.

    Args:
      length: real events of every user.
      time, candidates, dim: sizes.
    """

    def __init__(self, length=(9, 5, 0), time=9, candidates=2, dim=6, items=23, seed=0):
        draw = random(seed)
        users = len(length)
        self.table = tf.Variable(draw.normal(size=(items, dim)), dtype=tf.float32)
        self.mask = np.arange(time) < np.array(length)[:, None]
        self.items = draw.integers(2, items, (users, time))
        self.candidates = draw.integers(2, items, (users, candidates))
        times = np.sort(draw.integers(0, 10**6, (users, time)))
        self.features = {
            "hist_item_id": self.items,
            "hist_category_id": 2 + self.items % 5,
            "hist_timestamp": times,
            "hist_behavior_type": draw.integers(2, 5, (users, time)),
            "cand_item_id": self.candidates,
            "cand_category_id": 2 + self.candidates % 5,
            "cand_timestamp": np.full((users, candidates), 10**6 + 17),
        }

    def embed(self, features):
        return tf.gather(self.table, features["hist_item_id"])

    @property
    def history(self):
        return self.part(slice(None))

    def part(self, times):
        """The events of a slice of time."""
        features = {
            name: tf.constant(value[:, times], tf.int64 if "time" in name else tf.int32)
            for name, value in self.features.items()
            if name.startswith("hist_")
        }
        mask = tf.constant(self.mask[:, times])
        return History(
            lambda: tf.where(mask[..., None], self.embed(features), 0.0),
            mask,
            features,
            embed=self.embed,
            embedded_features=NAMES,
        )

    @property
    def target(self):
        features = {
            name: tf.constant(value, tf.int64 if "time" in name else tf.int32)
            for name, value in self.features.items()
            if name.startswith("cand_")
        }
        embedding = tf.gather(self.table, features["cand_item_id"])
        return Target(embedding, tf.ones(self.candidates.shape, tf.bool), features, self.embed)

    def pairs(self):
        """User, candidate, its embedding and the embeddings of the user's real events."""
        table = self.table.numpy()
        for user, row in enumerate(self.candidates):
            events = table[self.items[user][self.mask[user]]]
            for place, candidate in enumerate(row):
                yield user, place, table[candidate], events


def found_places(found, mask, user, candidate):
    """The real ones among what was found, as a list."""
    return found[user, candidate].numpy()[mask[user, candidate].numpy()].tolist()
