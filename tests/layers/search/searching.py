"""Histories and candidates with embeddings by id, for tests of what is searched."""

import numpy as np
import tensorflow as tf

from dgin_tf.layers.events import History, Target, embed_history


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
        self.tables = {"item_id": self.table}
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

    def _of_role(self, prefix):
        return {
            name.removeprefix(prefix): tf.constant(value, tf.int64 if "time" in name else tf.int32)
            for name, value in self.features.items()
            if name.startswith(prefix)
        }

    @property
    def history(self):
        """The past events as ids."""
        return self.part(slice(None))

    @property
    def embedded_history(self):
        """The past events, embedded as a model embeds them."""
        return embed_history(self.history, tf.float32)

    @property
    def events(self):
        """The embedded events, [users, time, dim], zero where masked."""
        return self.embedded_history.events

    def part(self, times):
        """The events of a slice of time."""
        features = {name: value[:, times] for name, value in self._of_role("hist_").items()}
        return History(None, tf.constant(self.mask[:, times]), features, tables=self.tables)

    @property
    def target(self):
        features = self._of_role("cand_")
        embedding = tf.gather(self.table, features["item_id"])
        return Target(embedding, tf.ones(self.candidates.shape, tf.bool), features, self.tables)

    def pairs(self):
        """User, candidate, its embedding and the embeddings of the user's real events."""
        table = self.table.numpy()
        for user, row in enumerate(self.candidates):
            events = table[self.items[user][self.mask[user]]]
            for place, candidate in enumerate(row):
                yield user, place, table[candidate], events


def real_places(indices, mask, user, candidate):
    """The real ones among the indices of a search, as a list."""
    return indices[user, candidate].numpy()[mask[user, candidate].numpy()].tolist()
