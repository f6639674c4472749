"""Time gaps: how seconds fall into buckets, and their table."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.time_gap import BUCKETS, GapEmbedding, gap_buckets, gap_starts

HOUR, DAY = 3_600, 86_400


def bucket(gap):
    return int(gap_buckets(tf.constant([gap], tf.int64))[0])


def test_what_is_not_yet_counts_as_now():
    assert bucket(-5) == bucket(0) == 0


def test_buckets_never_fall_and_end_in_the_last():
    gaps = tf.constant(np.unique(np.logspace(0, 11, 997).astype(np.int64)))
    buckets = gap_buckets(gaps).numpy()
    assert np.all(np.diff(buckets) >= 0)
    assert buckets[-1] == BUCKETS - 1


def test_every_bucket_has_a_shortest_gap():
    starts = np.array(gap_starts())
    np.testing.assert_array_equal(gap_buckets(tf.constant(starts)), np.arange(BUCKETS))
    np.testing.assert_array_equal(gap_buckets(tf.constant(starts[1:] - 1)), np.arange(BUCKETS - 1))


@pytest.mark.parametrize("gap", [HOUR, DAY, 30 * DAY, 300 * DAY])
def test_doubling_a_gap_moves_it_by_two_buckets(gap):
    assert bucket(2 * gap) - bucket(gap) in (1, 2, 3)
    assert bucket(16 * gap) - bucket(gap) == pytest.approx(8, abs=1)


def test_an_hour_matters_today_and_not_after_a_year():
    assert bucket(2 * HOUR) > bucket(HOUR)
    assert bucket(365 * DAY + HOUR) == bucket(365 * DAY)


def test_gaps_of_one_bucket_are_embedded_alike_and_keep_their_shape():
    layer, gaps = GapEmbedding(3), tf.constant([[0, 1], [DAY, DAY + 1]], tf.int64)
    found = layer(gaps).numpy()
    assert found.shape == (2, 2, 3)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    assert not np.allclose(found[0], found[1])
