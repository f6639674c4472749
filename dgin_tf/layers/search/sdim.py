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


def sum_by_bucket(events: tf.Tensor, buckets: tf.Tensor, count: int) -> tf.Tensor:
    """Sums the events of every bucket of every hash table (the paper's BSE server).

    Args:
      events: [users, time, dim], zero where masked.
      buckets: of each event, integers [users, time, tables].
      count: buckets in a table.

    Returns:
      [users, tables, count, dim].
    """
    users, time, tables = tf.unstack(tf.shape(buckets))
    # Every event is a one in one bucket of each table: [users, time, tables * count].
    membership = tf.one_hot(buckets, count, dtype=events.dtype)
    membership = tf.reshape(membership, [users, time, tables * count])
    sums = tf.matmul(membership, events, transpose_a=True)
    return tf.reshape(sums, [users, tables, count, events.shape[-1]])


def sum_collisions(events: tf.Tensor, buckets: tf.Tensor, target_buckets: tf.Tensor) -> tf.Tensor:
    """Sums the events that collide with each candidate, table by table, and no others.

    Args:
      events: [users, time, dim], zero where masked.
      buckets: of each event, integers [users, time, tables].
      target_buckets: of each candidate, integers [users, candidates, tables].

    Returns:
      [users, candidates, tables, dim].
    """
    users, candidates, tables = tf.unstack(tf.shape(target_buckets))
    buckets = tf.transpose(buckets, [0, 2, 1])[:, tf.newaxis]
    collides = tf.equal(buckets, target_buckets[..., tf.newaxis])
    collides = tf.reshape(collides, [users, candidates * tables, tf.shape(events)[1]])
    sums = tf.matmul(tf.cast(collides, events.dtype), events)
    return tf.reshape(sums, [users, candidates, tables, events.shape[-1]])


class HashedInterest(InterestEncoder):
    """Eq. (12): the mean over hash tables of the l2-normalized sum of what collides.

    State: `sums` [users, bits / tau, 2^tau, dim] in float32, and with norm="count" also `counts`
    [users, bits / tau, 2^tau, 1]; adding an event adds it to one bucket a table. A table without a
    collision gives zero and counts in the mean. There is no weight to train; the embeddings learn
    through the sums.

    A step of training has few candidates a user and would sum most events in vain: there the state is
    the events and their buckets, and what collides is summed directly. The sums are the same.

    Example:

      >>> target, events = tf.random.normal([2, 3, 8]), tf.random.normal([2, 100, 8])
      >>> HashedInterest()(target, (events, tf.fill([2, 100], True)))["interest"].shape
      TensorShape([2, 3, 8])

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
        """Sums the events by bucket; in training, only hashes them."""
        events = tf.cast(history.events, tf.float32)
        buckets = self.buckets(events)
        if self.norm == "count":
            events = tf.concat([events, tf.cast(history.mask, tf.float32)[..., tf.newaxis]], -1)
        if training:
            return {"events": events, "buckets": buckets}
        sums = sum_by_bucket(events, buckets, 1 << self.tau)
        if self.norm == "count":
            return {"sums": sums[..., :-1], "counts": sums[..., -1:]}
        return {"sums": sums}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Looks up each candidate's buckets, and returns `interest` [users, candidates, dim]."""
        buckets = self.buckets(target.embedding)
        if training:
            sums = sum_collisions(state["events"], state["buckets"], buckets)
        else:
            tables = tf.concat([state[name] for name in ("sums", "counts") if name in state], -1)
            # One bucket a table: [users, tables, buckets, dim] by [users, tables, candidates].
            places = tf.cast(tf.transpose(buckets, [0, 2, 1]), tf.int32)
            sums = tf.transpose(tf.gather(tables, places, batch_dims=2), [0, 2, 1, 3])
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
        buckets = signatures.buckets(self.hyperplanes(vectors), self.tau)
        # A byte reads four times faster.
        return tf.cast(buckets, tf.uint8) if self.tau <= 8 else buckets
