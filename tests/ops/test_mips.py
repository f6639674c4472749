"""Asymmetric hashing: the transforms' identity, and hashes that collide as the theory says."""

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from dgin_tf.ops import mips

RANDOM = np.random.default_rng(0)
DIM, EVENTS, QUERIES = 7, 53, 11
BOUND, ORDER, WIDTH = 0.83, 3, 2.5
VECTORS = tf.constant(RANDOM.normal(size=(1, EVENTS, DIM)), tf.float64)
MASK = tf.ones([1, EVENTS], tf.bool)


def data(bound=BOUND):
    return mips.scaled(VECTORS, MASK, bound)[0]


def queries():
    return mips.normalized(tf.constant(RANDOM.normal(size=(QUERIES, DIM)), tf.float64))


def l2_collision_probability(distance: np.ndarray, width: float) -> np.ndarray:
    """F_r(d): how often two vectors at a distance share an L2 hash; it falls with the distance.

    Args:
      distance: above zero.
      width: r.
    """
    ratio = width / np.asarray(distance)
    inside = 1 - 2 * scipy.special.ndtr(-ratio)
    return inside - 2 / (np.sqrt(2 * np.pi) * ratio) * (1 - np.exp(-(ratio**2) / 2))


def test_the_longest_real_vector_becomes_as_long_as_the_bound():
    mask = tf.constant([[True, False, True]])
    vectors = tf.constant([[[3.0, 4.0], [50.0, 0.0], [0.0, 1.0]]])
    found = mips.scaled(vectors, mask, BOUND)[0].numpy()
    np.testing.assert_allclose(found[0], [0.6 * BOUND, 0.8 * BOUND], rtol=1e-6)
    np.testing.assert_allclose(found[2], [0.0, 0.2 * BOUND], rtol=1e-6)


def test_nobodys_vectors_and_queries_of_zero_stay_zero():
    nobody = mips.scaled(tf.zeros([2, 3, DIM]), tf.zeros([2, 3], tf.bool), BOUND)
    assert not np.any(nobody)
    assert not np.any(mips.normalized(tf.zeros([2, DIM])))
    assert mips.scaled(tf.zeros([2, 0, DIM]), tf.zeros([2, 0], tf.bool), BOUND).shape == (2, 0, DIM)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_distance_of_the_transforms_is_the_inner_product_and_a_vanishing_rest(order):
    x, q = data(), queries()
    left = mips.l2_query(q, order)[:, None] - mips.l2_data(x, order)
    distance = np.sum(np.square(left), axis=-1)
    norm = np.linalg.norm(x, axis=-1)
    expected = 1 + order / 4 - 2 * q.numpy() @ x.numpy().T + norm**2 ** (order + 1)
    np.testing.assert_allclose(distance, expected, atol=1e-12)
    assert (norm**2 ** (order + 1)).max() == pytest.approx(BOUND**2 ** (order + 1))


def test_vectors_of_one_length_are_ordered_as_their_inner_products():
    x = mips.normalized(data()) * BOUND
    q = queries()
    left = mips.l2_query(q, ORDER)[:, None] - mips.l2_data(x, ORDER)
    by_distance = np.argsort(np.sum(np.square(left), axis=-1), axis=-1)
    by_product = np.argsort(-(q.numpy() @ x.numpy().T), axis=-1)
    np.testing.assert_array_equal(by_distance, by_product)


def test_the_cosine_of_the_sign_transforms_orders_by_the_inner_product():
    x, q = mips.normalized(data()) * 0.75, queries()
    p = mips.normalized(mips.sign_data(x, 2)).numpy()
    cosines = mips.sign_query(q, 2).numpy() @ p.T
    np.testing.assert_array_equal(
        np.argsort(cosines, axis=-1), np.argsort(q.numpy() @ x.numpy().T, axis=-1)
    )


@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0, 4.0])
def test_hashes_collide_as_often_as_the_theory_says(distance):
    count = 40_000
    one = RANDOM.normal(size=DIM)
    step = RANDOM.normal(size=DIM)
    pair = tf.constant(np.stack([one, one + distance * step / np.linalg.norm(step)]))
    projections = tf.constant(RANDOM.normal(size=(DIM, count)))
    offsets = tf.constant(RANDOM.uniform(0, WIDTH, count))
    hashes = mips.l2_hashes(pair, projections, offsets, WIDTH).numpy()
    expected = l2_collision_probability(distance, WIDTH)
    deviation = np.sqrt(expected * (1 - expected) / count)
    assert np.mean(hashes[0] == hashes[1]) == pytest.approx(expected, abs=5 * deviation)


def test_the_collision_probability_falls_with_the_distance():
    distances = np.linspace(0.01, 20, 101)
    found = l2_collision_probability(distances, WIDTH)
    assert np.all(np.diff(found) < 0)
    assert 0 < found[-1] < 0.1
    assert found[0] == pytest.approx(1, abs=0.01)


def test_codes_are_equal_where_all_hashes_of_the_table_are():
    hashes = RANDOM.integers(-2, 2, (97, 6)).astype(np.int32)
    codes = mips.table_codes(tf.constant(hashes), tables=2).numpy()
    for table in range(2):
        rows = hashes[:, 3 * table : 3 * table + 3]
        same = np.all(rows[:, None] == rows[None], axis=-1)
        np.testing.assert_array_equal(codes[:, None, table] == codes[None, :, table], same)
    assert codes.max() < tf.int32.max
