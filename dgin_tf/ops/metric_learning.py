"""Losses that keep distances when vectors become shorter (ENCODE, section 3.2.1, Eqs. 4-7, 12).

No label says which events are alike; the distances of the original vectors do. Of a few other events
that are drawn for an anchor, the nearest by Eq. (11) is the positive and the others are negatives,
Eq. (5), and the reduced vectors are to agree. The originals are constants to all losses here.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from dgin_tf.ops import hashing, sampling
from dgin_tf.ops.similarity import cosine_distance

NEIGHBORS, SEQUENCE, BATCH = "neighbors", "sequence", "batch"
_BUCKETS = (1 << 31) - 1
_FIRST_ANCHOR = 7919  # keeps the draws of anchors apart from those of other events


class Others(NamedTuple):
    """Events drawn for each anchor.

    Attributes:
      places: of the events in [users * time], int32 [users, anchors, draws].
      mask: True where there is one, bool [users, anchors, draws].
    """

    places: tf.Tensor
    mask: tf.Tensor


class Comparison(NamedTuple):
    """An anchor and the events drawn for it, the positive first.

    Attributes:
      original: dis(s_i, .), [users, anchors, draws].
      anchor: h_i, [users, anchors, m].
      others: h of the drawn events, [users, anchors, draws, m].
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


class Pairs(NamedTuple):
    """The pairs of events that a loss compares.

    Attributes:
      loss: a name in `LOSSES`.
      others: where events are drawn for an anchor, a name in `SAMPLINGS`.
      anchors: how many random events of a history are anchors; None for all.
      seed: of the draws.
    """

    loss: str
    others: str = SEQUENCE
    anchors: int | None = None
    seed: int = 1


class Anchors(NamedTuple):
    """Anchors of each history, and the events drawn for them.

    Attributes:
      places: in time, int32 [users, anchors]; None where every event is an anchor.
      others: the drawn events.
      mask: True where there is an anchor with as many events as the loss needs, bool [users, anchors].
    """

    places: tf.Tensor | None
    others: Others
    mask: tf.Tensor


def mean_loss(
    pairs: Pairs, original: tf.Tensor, projections: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
    """The mean loss of each history's anchors, differentiable in the reduced vectors.

    Args:
      pairs: what to compare.
      original: s, constants, [users, time, dim].
      projections: h, [users, time, m].
      mask: True where the event is real, bool [users, time]; the real ones lie side by side.

    Returns:
      [users]; 0 where there are fewer than three events.
    """
    anchors = draw_anchors(pairs, mask)
    distance, others = nearest_first(distances(original, anchors), anchors.others)
    return mean_of_anchors(pairs.loss, anchors, distance, others, projections)


def mean_of_anchors(
    loss: str, anchors: Anchors, distance: tf.Tensor, others: Others, projections: tf.Tensor
) -> tf.Tensor:
    """The mean loss, [users], of anchors and the events drawn for them, the positive first.

    Args:
      loss: a name in `LOSSES`.
      anchors: the anchors.
      distance: dis(s_i, .), [users, anchors, draws].
      others: the events drawn for them, in this order.
      projections: h, [users, time, m].
    """
    comparison = Comparison(
        distance,
        at_anchors(projections, anchors.places),
        look_up(projections, others.places),
        others.mask,
    )
    values = tf.where(anchors.mask, LOSSES[loss].formula(comparison), 0.0)
    count = tf.math.count_nonzero(anchors.mask, axis=1, dtype=tf.int32)
    return tf.reduce_sum(values, axis=1) / tf.cast(tf.maximum(count, 1), values.dtype)


def draw_anchors(pairs: Pairs, mask: tf.Tensor) -> Anchors:
    """Draws anchors and the events that they are compared with.

    Args:
      pairs: what to compare.
      mask: bool [users, time].
    """
    loss, count = LOSSES[pairs.loss], sampling.counts(mask)
    if pairs.anchors is None:
        rank, is_anchor, places = sampling.ranks(mask), mask, None
    else:
        seed = pairs.seed + _FIRST_ANCHOR
        rank = sampling.stratified(count, pairs.anchors, [count], seed)
        rank = rank[:, : tf.shape(mask)[1]]  # a time axis of no length has no place to gather from
        is_anchor, places = rank < count[:, tf.newaxis], sampling.places(mask, rank)
    others = SAMPLINGS[pairs.others](mask, rank, loss.draws, pairs.seed)
    enough = tf.math.count_nonzero(others.mask, axis=-1, dtype=tf.int32) >= loss.least
    return Anchors(places, others, enough & is_anchor & (count > 2)[:, tf.newaxis])


def distances(original: tf.Tensor, anchors: Anchors) -> tf.Tensor:
    """Eq. (11) of every anchor and the events drawn for it, [users, anchors, draws].

    Args:
      original: s, constants, [users, time, dim].
      anchors: the anchors.
    """
    anchor = at_anchors(original, anchors.places)[:, :, tf.newaxis]
    return cosine_distance(anchor, look_up(original, anchors.others.places))


def nearest_first(distance: tf.Tensor, others: Others) -> tuple[tf.Tensor, Others]:
    """Eq. (5): exchanges the first draw with the positive, the event of the smallest distance.

    Args:
      distance: dis(s_i, .), [users, anchors, draws].
      others: the events drawn for the anchors.

    Returns:
      Both in the new order.
    """
    far = tf.where(others.mask, distance, distance.dtype.max)
    positive = tf.argmin(far, axis=-1, output_type=tf.int32)[..., tf.newaxis]
    draw = tf.range(tf.shape(distance)[-1])
    order = tf.where(draw == 0, positive, tf.where(draw == positive, 0, draw))
    distance, places, mask = (tf.gather(x, order, batch_dims=2) for x in (distance, *others))
    return distance, Others(places, mask)


def at_anchors(vectors: tf.Tensor, places: tf.Tensor | None) -> tf.Tensor:
    """Vectors [users, time, ...] of anchors, [users, anchors, ...]; None for all as they are."""
    return vectors if places is None else tf.gather(vectors, places, batch_dims=1)


def look_up(vectors: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Vectors [users, time, dim] at places in the batch, [users, anchors, draws, dim]."""
    return tf.gather(tf.reshape(vectors, [-1, vectors.shape[-1]]), places)


def draw_neighbors(mask: tf.Tensor, rank: tf.Tensor, draws: int, seed: int) -> Others:
    """The events before and after the anchor; no more than these, and none over the edge."""
    neighbor = rank[..., tf.newaxis] + tf.constant([-1, 1])[: min(draws, 2)]
    count = sampling.counts(mask)[:, tf.newaxis, tf.newaxis]
    return _in_own_row(mask, neighbor, (neighbor >= 0) & (neighbor < count))


def draw_from_sequence(mask: tf.Tensor, rank: tf.Tensor, draws: int, seed: int) -> Others:
    """Other events of the same history, all different; fewer where it has fewer."""
    count = sampling.counts(mask)[:, tf.newaxis]
    ranks, exists = _draw_others(rank, count, draws, [count, rank], seed)
    return _in_own_row(mask, ranks, exists)


def draw_from_batch(mask: tf.Tensor, rank: tf.Tensor, draws: int, seed: int) -> Others:
    """Other events of all histories of the batch on this device."""
    count = sampling.counts(mask)
    before = tf.cumsum(count, exclusive=True)[:, tf.newaxis]
    rank += before
    total = tf.reduce_sum(count)
    ranks, exists = _draw_others(rank, total[tf.newaxis, tf.newaxis], draws, [rank], seed)
    # Places by rank, what is not real behind them all. XLA's searchsorted would compare all with all.
    size, flat = tf.size(mask), tf.reshape(mask, [-1])
    running = tf.cumsum(tf.cast(flat, tf.int32))
    rank_of = tf.where(flat, running - 1, size)[:, tf.newaxis]
    place_of = tf.scatter_nd(rank_of, tf.range(size), [size + 1])
    places = tf.where(exists, tf.gather(place_of, tf.minimum(ranks, size)), 0)
    return Others(places, exists)


SAMPLINGS: dict[str, Callable[..., Others]] = {
    NEIGHBORS: draw_neighbors,
    SEQUENCE: draw_from_sequence,
    BATCH: draw_from_batch,
}


def dynamic_triplet(comparison: Comparison) -> tf.Tensor:
    """Eqs. (6), (7): max(0, dis(h_i, h_p) - dis(h_i, h_n) + alpha_i), [users, anchors].

    The margin alpha_i = dis(s_i, s_n) - dis(s_i, s_p) is what the originals have.
    """
    margin = comparison.original[..., 1] - comparison.original[..., 0]
    return fixed_triplet(comparison, margin)


def fixed_triplet(comparison: Comparison, margin: float | tf.Tensor = 0.2) -> tf.Tensor:
    """Eq. (6) with one margin for all, [users, anchors]."""
    distance = comparison.reduced
    return tf.nn.relu(distance[..., 0] - distance[..., 1] + margin)


def n_pair(comparison: Comparison) -> tf.Tensor:
    """Eq. (12): log(1 + sum_n exp(h_i . h_n - h_i . h_p)), inner products as printed, [users, anchors]."""
    products = tf.reduce_sum(comparison.anchor[:, :, tf.newaxis] * comparison.others, -1)
    difference = products[..., 1:] - products[..., :1]
    difference = tf.where(comparison.mask[..., 1:], difference, difference.dtype.min / 2)
    zero = tf.zeros_like(difference[..., :1])
    return tf.reduce_logsumexp(tf.concat([zero, difference], axis=-1), axis=-1)


def squared_error(comparison: Comparison) -> tf.Tensor:
    """(dis(h_i, h_j) - dis(s_i, s_j))^2 for one random event j, [users, anchors]."""
    return tf.square(comparison.reduced[..., 0] - comparison.original[..., 0])


class Loss(NamedTuple):
    """A loss on anchors and the events drawn for them.

    Attributes:
      formula: from a `Comparison` to [users, anchors].
      draws: how many events are drawn for an anchor.
      least: how many of them there must be.
    """

    formula: Callable[[Comparison], tf.Tensor]
    draws: int
    least: int


LOSSES = {
    "dynamic": Loss(dynamic_triplet, 2, 2),
    "fixed": Loss(fixed_triplet, 2, 2),
    "n_pair": Loss(n_pair, 6, 2),
    "mse": Loss(squared_error, 1, 1),
}


def _draw_others(rank, count, draws, keys, seed):
    """Different ranks other than the anchor's, int32 [users, anchors, draws], and which exist."""
    others = tf.broadcast_to(tf.maximum(count - 1, 0), tf.shape(rank))
    keys = [tf.broadcast_to(key, tf.shape(rank)) for key in keys]
    draw = sampling.stratified(others, draws, keys, seed)
    # The parts from which the draws come begin somewhere else for every anchor.
    some = tf.maximum(others, 1)
    turn = sampling.remainder(hashing.cross_bucket(keys, _BUCKETS, seed + 1), some)
    step = _wrap(draw + turn[..., tf.newaxis], some)
    ranks = _wrap(rank[..., tf.newaxis] + 1 + step, tf.maximum(count, 1))
    return ranks, tf.range(draws) < others[..., tf.newaxis]


def _wrap(value, count):
    """Values [..., draws] below twice a count [...] begin again at zero where they reach it."""
    count = count[..., tf.newaxis]
    return tf.where(value >= count, value - count, value)


def _in_own_row(mask, rank, exists):
    """Ranks [users, anchors, draws] of each user's own events as places in the batch."""
    users, time = tf.unstack(tf.shape(mask))
    row = tf.range(users)[:, tf.newaxis, tf.newaxis] * time
    return Others(row + sampling.places(mask, rank), exists)
