"""SDIM: attention by hash collisions, from a table that no history makes larger (Cao et al., 2022).

"Sampling is all you need on modeling long-term user behaviors for CTR prediction": an event speaks for
a candidate where several random hyperplanes leave the two on one side. The events of every bucket of
every hash table are summed once a user (the paper's BSE server), and a candidate picks one bucket a
table. An event at the angle theta is picked with probability (1 - theta / pi)^tau, Eq. (13), a weight
that falls with the angle as attention's does.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.events import History, State, Target
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.search.random_hyperplanes import RandomHyperplanes
from dgin_tf.ops import signatures
from dgin_tf.ops.similarity import normalize

NORMS = ("l2", "count", "none")


def file_events(events: tf.Tensor, buckets: tf.Tensor, count: int) -> tf.Tensor:
    """Sums the events of every bucket of every table.

    Args:
      events: [users, time, dim], zero where masked.
      buckets: of each event, integers [users, time, tables].
      count: buckets in a table.

    Returns:
      [users, tables, count, dim].
    """
    users, time, tables = tf.unstack(tf.shape(buckets))
    filed = tf.reshape(
        tf.one_hot(buckets, count, dtype=events.dtype), [users, time, tables * count]
    )
    sums = tf.matmul(filed, events, transpose_a=True)
    return tf.reshape(sums, [users, tables, count, events.shape[-1]])


def sum_collisions(events: tf.Tensor, buckets: tf.Tensor, picked: tf.Tensor) -> tf.Tensor:
    """Sums the events that collide with each candidate, table by table, without filing the others.

    Args:
      events: [users, time, dim], zero where masked.
      buckets: of each event, integers [users, time, tables].
      picked: of each candidate, integers [users, candidates, tables].

    Returns:
      [users, candidates, tables, dim].
    """
    users, candidates, tables = tf.unstack(tf.shape(picked))
    buckets = tf.transpose(buckets, [0, 2, 1])[:, tf.newaxis]
    collides = tf.equal(buckets, picked[..., tf.newaxis])
    collides = tf.reshape(collides, [users, candidates * tables, tf.shape(events)[1]])
    sums = tf.matmul(tf.cast(collides, events.dtype), events)
    return tf.reshape(sums, [users, candidates, tables, events.shape[-1]])


@tf.keras.utils.register_keras_serializable("dgin_tf")
class HashedInterest(InterestEncoder):
    """Eq. (12): the mean over hash tables of the l2-normalized sum of what collides.

    State: `sums` [users, bits / tau, 2^tau, dim] in float32, and with norm="count" also `counts`
    [users, bits / tau, 2^tau, 1]; adding an event adds it to one bucket a table. A table without a
    collision gives zero and counts in the mean. There is no weight to train; the embeddings learn
    through the sums.

    A step of training has few candidates a user and would file most events in vain: there the state is
    the events and their buckets, and what collides is summed directly. The sums are the same.

    Args:
      bits: m, hyperplanes of all tables.
      tau: of one table; a large tau finds only equal items, as hard search does.
      norm: of a bucket's sum: "l2" as Eq. (12); "count", the mean of the bucket's events, which is
        nearer to Eq. (14); "none", the sum, as LongCTR has it by default.
      seed: of the random hyperplanes.

    Raises:
      ValueError: tau does not divide bits, or there is no such norm.
    """

    def __init__(
        self, bits: int = 48, tau: int = 3, norm: str = "l2", seed: int = 1, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if tau < 1 or bits % tau:
            raise ValueError(f"bits must be a multiple of tau, at least 1; got {bits} and {tau}.")
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {norm!r}.")
        self.hyperplanes = RandomHyperplanes(bits, seed, name="hyperplanes")
        self.bits = bits
        self.tau = tau
        self.norm = norm
        self.seed = seed

    def encode(self, history: History, training: bool = False) -> State:
        """Files the events; in training, only finds their buckets."""
        events = tf.cast(history.events, tf.float32)
        buckets = self.buckets(events)
        if self.norm == "count":
            events = tf.concat([events, tf.cast(history.mask, tf.float32)[..., tf.newaxis]], -1)
        if training:
            return {"events": events, "buckets": buckets}
        sums = file_events(events, buckets, 1 << self.tau)
        if self.norm == "count":
            return {"sums": sums[..., :-1], "counts": sums[..., -1:]}
        return {"sums": sums}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Picks each candidate's buckets, and returns `interest` [users, candidates, dim]."""
        picked = self.buckets(target.embedding)
        if training:
            sums = sum_collisions(state["events"], state["buckets"], picked)
        else:
            tables = [state[name] for name in ("sums", "counts") if name in state]
            sums = _pick(tf.concat(tables, axis=-1), picked)
        if self.norm == "l2":
            sums = normalize(sums)
        elif self.norm == "count":
            sums = sums[..., :-1] / tf.maximum(sums[..., -1:], 1.0)
        return {"interest": tf.cast(tf.reduce_mean(sums, axis=-2), target.embedding.dtype)}

    def update(self, state: State, history: History) -> State:
        """Adds newer events; equal to one `encode` of them all up to rounding."""
        newer = self.encode(history)
        return {name: state[name] + newer[name] for name in newer}

    def buckets(self, vectors: tf.Tensor) -> tf.Tensor:
        """The bucket of vectors [..., dim] in every table, integers [..., bits / tau]."""
        found = signatures.buckets(self.hyperplanes(vectors), self.tau)
        return (
            tf.cast(found, tf.uint8) if self.tau <= 8 else found
        )  # a byte reads four times faster

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "bits": self.bits,
            "tau": self.tau,
            "norm": self.norm,
            "seed": self.seed,
        }


def _pick(tables: tf.Tensor, picked: tf.Tensor) -> tf.Tensor:
    """One bucket a table: [users, tables, buckets, dim] by [users, candidates, tables]."""
    picked = tf.cast(tf.transpose(picked, [0, 2, 1]), tf.int32)
    return tf.transpose(tf.gather(tables, picked, batch_dims=2), [0, 2, 1, 3])
