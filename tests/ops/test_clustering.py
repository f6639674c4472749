"""Four ways to cluster, against numpy, and what they do with little or nothing to cluster."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops import sampling
from dgin_tf.ops.clustering import (
    CLUSTERINGS,
    agglomerative,
    dynamic_routing,
    k_means,
    nearest_center,
)
from dgin_tf.ops.fast import clustering as fast
from tests.oracles import encode

LENGTHS, TIME, DIM, CLUSTERS = (23, 11, 5, 3, 1, 0), 23, 3, 5
every_clustering = pytest.mark.parametrize("name", CLUSTERINGS)


def vectors(users=6, time=TIME, dim=DIM, seed=0):
    return np.random.default_rng(seed).normal(size=(users, time, dim)).astype(np.float32)


def mask_of(lengths=LENGTHS, time=TIME):
    return np.arange(time) < np.array(lengths)[:, None]


def run(name, values, mask, clusters=CLUSTERS, **settings):
    return CLUSTERINGS[name](tf.constant(values), tf.constant(mask), clusters, **settings)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("nearest", [nearest_center, fast.nearest_center])
@pytest.mark.parametrize("rounds", [1, 4])
def test_k_means_is_that_of_numpy_from_the_same_first_centres(rounds, nearest, jit):
    values, mask = vectors(), mask_of()
    cluster = tf.function(
        lambda: run("k_means", values, mask, rounds=rounds, nearest=nearest),
        jit_compile=jit,
        autograph=False,
    )
    found = cluster()
    drawn = sampling.stratified(tf.constant(LENGTHS), CLUSTERS, [], 1).numpy()
    for user, length in enumerate(LENGTHS):
        if length > CLUSTERS:
            wanted = encode.k_means(values[user, :length], values[user, drawn[user]], rounds)
            np.testing.assert_array_equal(found.assignment[user, :length], wanted)


def test_every_round_of_k_means_brings_events_nearer_to_their_centres():
    values, mask = vectors(users=1, time=200), mask_of((200,), 200)
    unit = values[0] / np.linalg.norm(values[0], axis=-1, keepdims=True)
    closeness = []
    for rounds in (1, 2, 4, 8, 16):
        found = run("k_means", values, mask, 9, rounds=rounds)
        centers = found.centers.numpy()[0, found.assignment[0]]
        closeness.append((unit * centers).sum())
    assert closeness == sorted(closeness)
    assert closeness[-1] > 1.01 * closeness[0]


def test_agglomerative_merges_as_numpy_does():
    values, mask = vectors(), mask_of()
    found = agglomerative(tf.constant(values), tf.constant(mask), CLUSTERS).assignment.numpy()
    for user, length in enumerate(LENGTHS):
        if length > CLUSTERS:
            row = found[user, :length]
            groups = {frozenset(np.flatnonzero(row == number)) for number in set(row)}
            assert groups == encode.agglomerative(values[user, :length], CLUSTERS)


def test_routing_brings_agreeing_events_together():
    values = np.repeat(np.eye(2), 20, axis=0)[None].astype(np.float32)
    found = dynamic_routing(tf.constant(values), tf.constant(mask_of((40,), 40)), 2, rounds=30)
    assert len(set(found.assignment[0, :20].numpy())) == 1
    assert len(set(found.assignment[0].numpy())) == 2


@every_clustering
def test_a_history_of_no_more_events_than_clusters_is_not_clustered(name):
    values, mask = vectors(), mask_of()
    values[2] = values[2, :1]  # five times the same event
    found = run(name, values, mask)
    for user, length in enumerate(LENGTHS):
        if length <= CLUSTERS:
            np.testing.assert_array_equal(found.assignment[user, :length], range(length))
            np.testing.assert_array_equal(found.mask[user], np.arange(CLUSTERS) < length)


@every_clustering
def test_more_clusters_than_time_are_mostly_empty(name):
    found = run(name, vectors(), mask_of(), TIME + 8)
    np.testing.assert_array_equal(found.mask.numpy().sum(1), LENGTHS)
    assert np.all(np.isfinite(found.centers))


@every_clustering
def test_clusters_are_numbered_below_their_number_and_padding_has_none(name):
    found, mask = run(name, vectors(), mask_of()), mask_of()
    assignment = found.assignment.numpy()
    assert np.all(assignment[~mask] == -1)
    for row, real, exists in zip(assignment, mask, found.mask.numpy(), strict=True):
        assert set(row[real]) == set(np.flatnonzero(exists))


@every_clustering
def test_centres_are_the_directions_of_their_members(name):
    values = vectors()
    found = run(name, values, mask_of())
    row = found.assignment[0].numpy()
    for number in set(row):
        wanted = encode.direction(values[0, row == number])
        np.testing.assert_allclose(found.centers[0, number], wanted, rtol=1e-4, atol=1e-5)


@every_clustering
def test_identical_events_are_one_cluster_unless_chance_parts_them(name):
    values = np.broadcast_to(vectors(1, 1), (1, 17, DIM))
    found = run(name, values, mask_of((17,), 17))
    count = int(found.mask.numpy().sum())
    assert count == {"k_means": 1, "agglomerative": CLUSTERS}.get(name, count)
    assert np.all(np.isfinite(found.centers))


@every_clustering
def test_zeros_go_somewhere_and_the_same_place_every_time(name):
    values = vectors()
    values[0, ::3] = 0
    first, second = (run(name, values, mask_of()) for _ in range(2))
    np.testing.assert_array_equal(first.assignment, second.assignment)
    assert np.all(first.assignment.numpy()[0] >= 0)
    assert np.all(np.isfinite(first.centers))


@every_clustering
def test_an_event_that_is_not_a_number_does_not_keep_rounds_going(name):
    values = vectors()
    values[0, 3] = np.nan
    assert run(name, values, mask_of()).assignment.shape == mask_of().shape


@every_clustering
def test_lengths_of_vectors_and_padding_change_nothing(name):
    values, mask = vectors(), mask_of()
    plain = run(name, values, mask).assignment.numpy()
    longer = np.where(mask[..., None], 64.0 * values, np.nan)
    np.testing.assert_array_equal(run(name, longer, mask).assignment, plain)
    left = [np.roll(array, TIME - 11, axis=1)[1:2] for array in (values, mask)]
    np.testing.assert_array_equal(run(name, *left).assignment[0, -11:], plain[1, :11])


def test_the_seed_decides_where_k_means_begins():
    values, mask = vectors(time=200, users=1), mask_of((200,), 200)
    first, other = (k_means(values, mask, 9, seed=seed).assignment for seed in (1, 2))
    assert np.any(first != other)


def test_an_assignment_that_stands_ends_the_rounds():
    values, mask = vectors(), mask_of()
    few, many = (run("k_means", values, mask, rounds=rounds) for rounds in (40, 1000))
    np.testing.assert_array_equal(few.assignment, many.assignment)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"clusters": 0}, "clusters must be at least 1"), ({"rounds": 0}, "rounds must be at least")],
)
def test_no_clusters_and_no_rounds_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        run("k_means", vectors(), mask_of(), **settings)
