"""Losses that keep distances when vectors become shorter (ENCODE, section 3.2.1, Eqs. 4-7, 12).

Nobody says which events are alike; the distances of the original vectors do. Of a few other events
that are drawn for an anchor, the nearest by Eq. (11) is the positive and the others are negatives,
Eq. (5), and the reduced vectors are to agree. The originals are constants to all losses here.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from dgin_tf.ops import hashing, sampling
from dgin_tf.ops.similarity import cosine_distance, inverse_length

NEIGHBOURS, SEQUENCE, BATCH = "neighbors", "sequence", "batch"
_BUCKETS = (1 << 31) - 1


class Others(NamedTuple):
    """Events drawn for each anchor.

    Attributes:
      places: of the events in [users * time], int32 [users, anchors, draws].
      mask: True where there is one, bool [users, anchors, draws].
    """

    places: tf.Tensor
    mask: tf.Tensor


class Ordered(NamedTuple):
    """Events drawn for each anchor, the positive first: all that a loss takes from the originals.

    Attributes:
      original: dis(s_i, .), [users, anchors, draws].
      places, mask: as in `Others`.
    """

    original: tf.Tensor
    places: tf.Tensor
    mask: tf.Tensor


class Compared(NamedTuple):
    """An anchor and the events drawn for it, the positive first.

    Attributes:
      original: dis(s_i, .), [users, anchors, draws].
      anchor: h_i, [users, anchors, m].
      others: h of the events drawn, [users, anchors, draws, m].
      mask: True where there is an event, bool [users, anchors, draws].
    """

    original: tf.Tensor
    anchor: tf.Tensor
    others: tf.Tensor
    mask: tf.Tensor

    @property
    def reduced(self) -> tf.Tensor:
        """dis(h_i, .), [users, anchors, draws]."""
        return cosine_distance(self.anchor[:, :, tf.newaxis], self.others)


def draw_neighbours(mask: tf.Tensor, rank: tf.Tensor, draws: int, seed: int) -> Others:
    """The events before and after the anchor; no more than these, and none over the edge."""
    del seed
    step = tf.constant([-1, 1])[: min(draws, 2)]
    wanted = rank[..., tf.newaxis] + step
    count = sampling.counts(mask)[:, tf.newaxis, tf.newaxis]
    return _in_own_row(mask, wanted, (wanted >= 0) & (wanted < count))


def draw_from_sequence(mask: tf.Tensor, rank: tf.Tensor, draws: int, seed: int) -> Others:
    """Other events of the same history, all different; fewer where it has fewer."""
    count = sampling.counts(mask)[:, tf.newaxis]
    wanted, exists = _draw_others(rank, count, draws, [count, rank], seed)
    return _in_own_row(mask, wanted, exists)


def draw_from_batch(mask: tf.Tensor, rank: tf.Tensor, draws: int, seed: int) -> Others:
    """Other events of all histories of the batch on this device."""
    count = sampling.counts(mask)
    before = tf.cumsum(count, exclusive=True)[:, tf.newaxis]
    rank += before
    total = tf.reduce_sum(count)
    wanted, exists = _draw_others(rank, total[tf.newaxis, tf.newaxis], draws, [rank], seed)
    # Places by rank, what is not real behind them all. XLA's searchsorted would compare all with all.
    size, flat = tf.size(mask), tf.reshape(mask, [-1])
    running = tf.cumsum(tf.cast(flat, tf.int32))
    rank_of = tf.where(flat, running - 1, size)[:, tf.newaxis]
    place_of = tf.scatter_nd(rank_of, tf.range(size), [size + 1])
    places = tf.where(exists, tf.gather(place_of, tf.minimum(wanted, size)), 0)
    return Others(places, exists)


SAMPLINGS: dict[str, Callable[..., Others]] = {
    NEIGHBOURS: draw_neighbours,
    SEQUENCE: draw_from_sequence,
    BATCH: draw_from_batch,
}


def distances(original: tf.Tensor, anchors: tf.Tensor | None, others: Others) -> tf.Tensor:
    """Eq. (11) of every anchor and the events drawn for it, [users, anchors, draws].

    Args:
      original: s, constants, [users, time, dim].
      anchors: places in time of the anchors, int32 [users, anchors]; None where every event is one.
      others: what was drawn for them.
    """
    inverse = inverse_length(original)[..., tf.newaxis]
    # A sum of sums, of which XLA takes the inner ones side by side in vector registers.
    dim = original.shape[-1]
    lanes = next(lanes for lanes in (4, 3, 2, 1) if dim % lanes == 0)
    users, time = tf.unstack(tf.shape(original)[:2])
    rows = tf.reshape(original, [users, time, dim // lanes, lanes])
    drawn = tf.gather(tf.reshape(rows, [-1, dim // lanes, lanes]), others.places)
    products = _at(rows, anchors)[:, :, tf.newaxis] * drawn
    products = tf.reduce_sum(tf.reduce_sum(products, axis=-2), axis=-1)
    scale = _at(inverse, anchors) * _look_up(inverse, others.places)[..., 0]
    return 1.0 - products * scale  # vectors of length one are not written out


def nearest_first(distance: tf.Tensor, others: Others) -> Ordered:
    """Eq. (5): puts the positive, the event of the smallest original distance, first.

    Args:
      distance: what `distances` gave, [users, anchors, draws].
      others: what was drawn for the anchors.
    """
    far = tf.where(others.mask, distance, distance.dtype.max)
    first = tf.argmin(far, axis=-1, output_type=tf.int32)

    def exchanged(values):
        # The positive and the first draw change places.
        head, *rest = tf.unstack(values, axis=-1)
        chosen = head
        for number, value in enumerate(rest, 1):
            chosen = tf.where(first == number, value, chosen)
        rest = [tf.where(first == number, head, value) for number, value in enumerate(rest, 1)]
        return tf.stack([chosen, *rest], axis=-1)

    return Ordered(*(exchanged(values) for values in (distance, others.places, others.mask)))


def compare(reduced: tf.Tensor, anchors: tf.Tensor | None, ordered: Ordered) -> Compared:
    """Looks up the reduced vectors h, [users, time, m], of anchors and of the events drawn for them."""
    others = _look_up(reduced, ordered.places)
    return Compared(ordered.original, _at(reduced, anchors), others, ordered.mask)


def dynamic_triplet(compared: Compared) -> tf.Tensor:
    """Eqs. (6), (7): max(0, dis(h_i, h_p) - dis(h_i, h_n) + alpha_i), [users, anchors].

    The margin alpha_i = dis(s_i, s_n) - dis(s_i, s_p) is what the originals have.
    """
    margin = compared.original[..., 1] - compared.original[..., 0]
    return _triplet(compared, margin)


def fixed_triplet(compared: Compared, margin: float = 0.2) -> tf.Tensor:
    """Eq. (6) with one margin for all, [users, anchors]."""
    return _triplet(compared, margin)


def n_pair(compared: Compared) -> tf.Tensor:
    """Eq. (12): log(1 + sum_n exp(h_i . h_n - h_i . h_p)), inner products as printed, [users, anchors]."""
    products = tf.reduce_sum(compared.anchor[:, :, tf.newaxis] * compared.others, -1)
    difference = products[..., 1:] - products[..., :1]
    difference = tf.where(compared.mask[..., 1:], difference, difference.dtype.min / 2)
    zero = tf.zeros_like(difference[..., :1])
    return tf.reduce_logsumexp(tf.concat([zero, difference], axis=-1), axis=-1)


def squared_error(compared: Compared) -> tf.Tensor:
    """(dis(h_i, h_j) - dis(s_i, s_j))^2 for one random event j, [users, anchors]."""
    return tf.square(compared.reduced[..., 0] - compared.original[..., 0])


class Loss(NamedTuple):
    """A loss on compared events.

    Attributes:
      formula: from `Compared` to [users, anchors].
      draws: how many events are drawn for an anchor.
      needed: how many of them there must be.
    """

    formula: Callable[[Compared], tf.Tensor]
    draws: int
    needed: int


LOSSES = {
    "dynamic": Loss(dynamic_triplet, 2, 2),
    "fixed": Loss(fixed_triplet, 2, 2),
    "n_pair": Loss(n_pair, 6, 2),
    "mse": Loss(squared_error, 1, 1),
}


def _triplet(compared, margin):
    distance = compared.reduced
    return tf.nn.relu(distance[..., 0] - distance[..., 1] + margin)


def _draw_others(rank, count, draws, keys, seed):
    """Different ranks other than the anchor's, int32 [users, anchors, draws], and which exist."""
    others = tf.broadcast_to(tf.maximum(count - 1, 0), tf.shape(rank))
    keys = [tf.broadcast_to(key, tf.shape(rank)) for key in keys]
    drawn = sampling.stratified(others, draws, keys, seed)
    # The parts from which the draws come begin somewhere else for every anchor.
    some = tf.maximum(others, 1)
    turn = sampling.remainder(hashing.cross_bucket(keys, _BUCKETS, seed + 1), some)
    turned = _wrapped(drawn + turn[..., tf.newaxis], some)
    wanted = _wrapped(rank[..., tf.newaxis] + 1 + turned, tf.maximum(count, 1))
    exists = tf.range(draws) < others[..., tf.newaxis]
    return wanted, exists


def _wrapped(value, count):
    """Values [..., draws] below twice a count [...] begin again at zero where they reach it."""
    count = count[..., tf.newaxis]
    return tf.where(value >= count, value - count, value)


def _in_own_row(mask, rank, exists):
    """Ranks [users, anchors, draws] of each user's own events as places in the batch."""
    users, time = tf.unstack(tf.shape(mask))
    row = tf.range(users)[:, tf.newaxis, tf.newaxis] * time
    return Others(row + sampling.places(mask, rank), exists)


def _at(vectors, places):
    """Vectors [users, time, ...] at places in time, [users, anchors, ...]; None for all as they are."""
    return vectors if places is None else tf.gather(vectors, places, batch_dims=1)


def _look_up(vectors, places):
    """Vectors [users, time, dim] at places in the batch, [users, anchors, draws, dim]."""
    return tf.gather(tf.reshape(vectors, [-1, vectors.shape[-1]]), places)
