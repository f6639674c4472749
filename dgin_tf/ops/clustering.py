"""Clusters of each user's events by a cosine metric (ENCODE, sections 3.2.2 and 4.6.6).

Every way to cluster has one interface: vectors [users, time, dim] and their mask in, `Clusters` out.
Only directions count, so that vectors are normalized first, and a cluster's center is the direction of
the sum of its members. A history of no more events than clusters is not clustered: every event is a
cluster of its own. A vector of zeros is equally far from everything and falls to the first cluster.
No gradient passes, but through `centered` centers, weights and sums.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from dgin_tf.ops import sampling
from dgin_tf.ops.similarity import Relevance, normalize
from dgin_tf.schema import check_positive

_TINY = 1e-8


class Clusters(NamedTuple):
    """Events by cluster.

    Attributes:
      assignment: number of each event's cluster, int32 [users, time]; -1 where masked.
      centers: c_i, of length one, or zero where the members cancel; float32 [users, clusters, dim].
      mask: True where a cluster has members, bool [users, clusters].
    """

    assignment: tf.Tensor
    centers: tf.Tensor
    mask: tf.Tensor


def nearest_center(unit: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """Assignment of unit vectors to the center of the largest cosine, the first of equal ones.

    Args:
      unit: [users, time, dim].

    Returns:
      Function from centers [users, clusters, dim] to assignments int32 [users, time].
    """

    def assign(centers: tf.Tensor) -> tf.Tensor:
        cosine = tf.matmul(unit, centers, transpose_b=True)
        # Along the last axis, which takes half the time of any other.
        return tf.argmax(cosine, axis=-1, output_type=tf.int32)

    return assign


def k_means(
    vectors: tf.Tensor,
    mask: tf.Tensor,
    clusters: int,
    *,
    rounds: int = 15,
    seed: int = 1,
    nearest: Callable[[tf.Tensor], Callable[[tf.Tensor], tf.Tensor]] = nearest_center,
) -> Clusters:
    """Spherical K-means: each event to the center of the largest cosine, the first of equal ones.

    It begins with one random event out of each of as many equal stretches of the history as there are
    clusters, and ends after `rounds`, or when no event changes its cluster. A cluster that loses its
    members keeps its center and may win some back.

    Args:
      vectors: [users, time, dim]; what is masked does not count.
      mask: True where the event is real, bool [users, time]; the real ones lie side by side.
      clusters: K.
      rounds: T, how often events are assigned and centers moved.
      seed: of the first centers.
      nearest: `nearest_center`, or a faster equal of it.

    Raises:
      ValueError: `clusters` or `rounds` is below 1.
    """
    check_positive(rounds=rounds)
    unit = _directions(vectors, mask, clusters)
    first = sampling.stratified(sampling.counts(mask), clusters, [], seed)
    centers = tf.gather(unit, sampling.places(mask, first), batch_dims=1)
    centers = tf.ensure_shape(centers, [None, clusters, None])
    assign, flat, shape = nearest(unit), tf.reshape(unit, [-1, unit.shape[-1]]), tf.shape(centers)

    def goes_on(number, centers, assignment, has_changed):
        return (number < rounds) & has_changed

    def step(number, centers, assignment, has_changed):
        newest = tf.where(mask, assign(centers), -1)
        # As `sum_in_clusters`, which within a loop would copy the events in every round.
        ids = cluster_ids(newest, clusters)
        sums = tf.reshape(tf.math.unsorted_segment_sum(flat, ids, shape[0] * clusters), shape)
        length = tf.norm(sums, axis=-1, keepdims=True)
        new_centers = tf.where(length > _TINY, sums / tf.maximum(length, _TINY), centers)
        return number + 1, new_centers, newest, tf.reduce_any(newest != assignment)

    start = (0, centers, tf.fill(tf.shape(mask), -2), True)
    assignment = tf.while_loop(goes_on, step, start)[2]
    return _clusters_of(unit, mask, assignment, clusters)


def random_clusters(
    vectors: tf.Tensor, mask: tf.Tensor, clusters: int, *, rounds: int = 1, seed: int = 1
) -> Clusters:
    """Every event in a random cluster, the same for the n-th event of all histories."""
    unit = _directions(vectors, mask, clusters)
    count = tf.fill(tf.shape(mask), clusters)
    assignment = sampling.stratified(count, 1, [sampling.ranks(mask)], seed)[..., 0]
    return _clusters_of(unit, mask, assignment, clusters)


def dynamic_routing(
    vectors: tf.Tensor, mask: tf.Tensor, clusters: int, *, rounds: int = 15, seed: int = 1
) -> Clusters:
    """Behavior-to-interest routing of MIND (Li et al., 2019), agreement measured by the cosine.

    Logits b_ij of event i and interest j begin as N(0, 1), which are not trained; each round weighs
    events by w_ij = softmax_j(b_ij), sums them, and adds the cosine of event and sum to b_ij. There is
    no bilinear map, and squashing would not change a cosine. An event belongs to the interest of its
    largest weight.
    """
    unit = _directions(vectors, mask, clusters)
    resolution = 1 << 20
    shape = [*tf.unstack(tf.shape(mask)), clusters]
    rank = tf.broadcast_to(sampling.ranks(mask)[..., tf.newaxis], shape)
    keys = [rank, tf.broadcast_to(tf.range(clusters), shape)]
    uniform = sampling.stratified(tf.fill(shape, resolution), 1, keys, seed)[..., 0]
    logits = tf.math.ndtri((tf.cast(uniform, unit.dtype) + 0.5) / resolution)
    real = tf.cast(mask, unit.dtype)[..., tf.newaxis]
    for _ in range(rounds):
        capsules = normalize(tf.matmul(tf.nn.softmax(logits) * real, unit, transpose_a=True))
        logits += tf.matmul(unit, capsules, transpose_b=True)
    assignment = tf.argmax(logits, axis=-1, output_type=tf.int32)
    return _clusters_of(unit, mask, assignment, clusters)


def agglomerative(
    vectors: tf.Tensor, mask: tf.Tensor, clusters: int, *, rounds: int = 1, seed: int = 1
) -> Clusters:
    """Bottom up: the two clusters of the largest mean cosine become one until `clusters` are left.

    The mean cosine of two clusters is the inner product of the means of their unit vectors. That of a
    union lies between those of its parts, so that what a cluster had as its largest bounds what it has
    after others became one. Each round looks at the cluster of the highest bound: either its nearest is
    as near as that, and the two become one, or the bound is lowered. Some time * time steps in all.
    """
    unit = _directions(vectors, mask, clusters)
    unit = tf.where(tf.math.is_nan(unit), 0.0, unit)  # rounds have to end; sums of events stay NaN
    place = tf.range(tf.shape(mask)[1])
    none = tf.constant(-2.0, unit.dtype)  # below any cosine

    def count(sizes):
        return tf.math.count_nonzero(sizes, axis=1, keepdims=True, dtype=tf.int32)

    def is_left(owner, sizes, sums, bounds):
        return tf.reduce_any(count(sizes) > clusters)

    def look(owner, sizes, sums, bounds):
        row = _argmax(bounds)
        here = place == row
        means = sums / tf.maximum(sizes, 1.0)[..., tf.newaxis]
        mean = tf.gather(means, row, batch_dims=1)
        closeness = tf.reduce_sum(means * mean, axis=-1)
        closeness = tf.where((sizes > 0) & ~here, closeness, none)
        nearest, best = _argmax(closeness), tf.reduce_max(closeness, axis=1, keepdims=True)
        highest = tf.reduce_max(tf.where(here, none, bounds), axis=1, keepdims=True)
        merges = (best >= highest) & (count(sizes) > clusters)
        keep, gone = tf.minimum(row, nearest), tf.maximum(row, nearest)
        into, out = (place == keep) & merges, (place == gone) & merges
        size = tf.reduce_sum(tf.where(out, sizes, 0.0), 1, keepdims=True)
        gone_sum = tf.gather(sums, gone, batch_dims=1)
        sums = tf.where(into[..., tf.newaxis], sums + gone_sum, sums)
        sizes = tf.where(out, 0.0, tf.where(into, sizes + size, sizes))
        bounds = tf.where(out, none, tf.where(here | into, best, bounds))
        return tf.where((owner == gone) & merges, keep, owner), sizes, sums, bounds

    owner = tf.where(mask, tf.broadcast_to(place, tf.shape(mask)), -1)
    start = (owner, tf.cast(mask, unit.dtype), unit, tf.where(mask, 2.0, none))
    owner, sizes, _, _ = tf.while_loop(is_left, look, start)
    number = tf.cumsum(tf.cast(sizes > 0, tf.int32), axis=1, exclusive=True)
    assignment = tf.gather(number, tf.maximum(owner, 0), batch_dims=1)
    return _clusters_of(unit, mask, assignment, clusters)


CLUSTERINGS: dict[str, Callable[..., Clusters]] = {
    "k_means": k_means,
    "random": random_clusters,
    "dynamic_routing": dynamic_routing,
    "agglomerative": agglomerative,
}


class Clustering(NamedTuple):
    """An algorithm and its settings.

    Attributes:
      clusters: K.
      algorithm: a name in `CLUSTERINGS`.
      rounds: T of K-means and dynamic routing.
      seed: of first centers and draws.
    """

    clusters: int = 30
    algorithm: str = "k_means"
    rounds: int = 15
    seed: int = 1

    def check(self) -> "Clustering":
        """Itself; raises ValueError where there is no such algorithm or a number is too small."""
        if self.algorithm not in CLUSTERINGS:
            names = ", ".join(CLUSTERINGS)
            raise ValueError(f"clustering must be one of {names}; got {self.algorithm!r}.")
        check_positive(clusters=self.clusters, rounds=self.rounds)
        return self

    def __call__(self, vectors: tf.Tensor, mask: tf.Tensor, **settings: Any) -> Clusters:
        """Clusters vectors [users, time, dim] under a mask bool [users, time]."""
        if not (time := vectors.shape[1]):
            # Unknown or zero: one event of padding at the end, since nothing is gathered from none.
            vectors = tf.pad(vectors, [[0, 0], [0, 1], [0, 0]])
            mask = tf.pad(mask, [[0, 0], [0, 1]])
        clusters = CLUSTERINGS[self.algorithm](
            vectors, mask, self.clusters, rounds=self.rounds, seed=self.seed, **settings
        )
        return clusters if time else clusters._replace(assignment=clusters.assignment[:, :-1])


def centered(clusters: Clusters, vectors: tf.Tensor) -> Clusters:
    """The same clusters with centers that pass gradients to their members.

    Args:
      clusters: of the vectors.
      vectors: [users, time, dim].
    """
    count = clusters.centers.shape[1]
    sums = sum_in_clusters(normalize(vectors), clusters.assignment, count)
    return clusters._replace(centers=normalize(sums))


def weights_in_clusters(vectors: tf.Tensor, clusters: Clusters, relevance: Relevance) -> tf.Tensor:
    """Eq. (8): the softmax, within each cluster, of the similarity of event and center.

    Args:
      vectors: h, [users, time, m].
      clusters: their clusters.
      relevance: of an event to its center.

    Returns:
      float32 [users, time]; sums to one over each cluster's members, zero where masked.
    """
    assignment, count = clusters.assignment, clusters.centers.shape[1]
    ids = cluster_ids(assignment, count)
    users = tf.shape(assignment)[0]
    scores = relevance.between(vectors, of_clusters(clusters.centers, assignment))
    highest = tf.math.unsorted_segment_max(tf.reshape(scores, [-1]), ids, users * count)
    highest = tf.stop_gradient(tf.reshape(highest, [users, count]))  # changes no weight
    real = assignment >= 0
    scores = tf.where(real, scores - of_clusters(highest, assignment), 0.0)
    exponentials = tf.where(real, tf.exp(scores), 0.0)
    total = sum_in_clusters(exponentials[..., tf.newaxis], assignment, count)[..., 0]
    total = tf.maximum(of_clusters(total, assignment), 1.0)  # at least the highest one's exp(0)
    return tf.where(real, exponentials / total, 0.0)


def sum_interests(
    events: Sequence[tf.Tensor], weights: tf.Tensor, assignment: tf.Tensor, clusters: int
) -> tf.Tensor:
    """Eq. (8): u_i, the weighted sum of each cluster's events.

    Args:
      events: s, one or several fields side by side, each [users, time, dim of one].
      weights: of the events, [users, time], zero where masked.
      assignment: int32 [users, time], -1 where masked.
      clusters: K.

    Returns:
      float32 [users, clusters, dim].
    """
    events = tf.cast(tf.concat(events, axis=-1), weights.dtype)
    return sum_in_clusters(events * weights[..., tf.newaxis], assignment, clusters)


def cluster_ids(assignment: tf.Tensor, clusters: int) -> tf.Tensor:
    """Assignments [users, time] as numbers over all users, -1 where masked, flat [users * time]."""
    first = tf.range(tf.shape(assignment)[0])[:, tf.newaxis] * clusters
    return tf.reshape(tf.where(assignment >= 0, first + assignment, -1), [-1])


def sum_in_clusters(values: tf.Tensor, assignment: tf.Tensor, clusters: int) -> tf.Tensor:
    """Sums values [users, time, dim] by cluster, [users, clusters, dim]."""
    users, dim = tf.shape(values)[0], values.shape[-1]
    flat = tf.reshape(values, [-1, dim])
    sums = tf.math.unsorted_segment_sum(flat, cluster_ids(assignment, clusters), users * clusters)
    return tf.reshape(sums, [users, clusters, dim])


def of_clusters(values: tf.Tensor, assignment: tf.Tensor) -> tf.Tensor:
    """Values of every event's cluster: [users, clusters, ...] -> [users, time, ...]."""
    return tf.gather(values, tf.maximum(assignment, 0), batch_dims=1)


def _directions(vectors: tf.Tensor, mask: tf.Tensor, clusters: int) -> tf.Tensor:
    """Unit vectors in float32, zero where masked."""
    check_positive(clusters=clusters)
    vectors = tf.cast(tf.stop_gradient(vectors), tf.float32)
    return tf.where(mask[..., tf.newaxis], normalize(vectors), 0.0)


def _argmax(values: tf.Tensor) -> tf.Tensor:
    """Place of each user's largest value, int32 [users, 1], for values [users, time]."""
    return tf.argmax(values, axis=1, output_type=tf.int32)[:, tf.newaxis]


def _clusters_of(
    unit: tf.Tensor, mask: tf.Tensor, assignment: tf.Tensor, clusters: int
) -> Clusters:
    """Clusters of an assignment; short histories are a cluster for every event."""
    is_short = sampling.counts(mask)[:, tf.newaxis] <= clusters
    assignment = tf.where(is_short, sampling.ranks(mask), assignment)
    assignment = tf.stop_gradient(tf.where(mask, assignment, -1))
    # Ones beside the vectors count the members.
    sums = tf.concat([unit, tf.ones_like(unit[..., :1])], axis=-1)
    sums = sum_in_clusters(sums, assignment, clusters)
    return Clusters(assignment, normalize(sums[..., :-1]), sums[..., -1] > 0.5)
