"""The hash of crosses: the same numbers as in numpy, everywhere and for ever, and well spread."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops.hashing import cross_bucket

IDS = np.random.default_rng(1).integers(0, 2**31, (2, 5003))


def numpy_mix(value):
    """MurmurHash3's finaliser on arrays of uint32, which wrap."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        value = (value ^ (value >> np.uint32(shift))) * np.uint32(factor)
    return value ^ (value >> np.uint32(16))


def numpy_bucket(ids, buckets, salt):
    state = numpy_mix(np.array([salt], np.uint32))
    for part in ids:
        state = numpy_mix(state * np.uint32(0x9E3779B1) + part.astype(np.uint32))
    return state % buckets


@pytest.mark.parametrize("jit", [False, True])
def test_buckets_are_those_of_numpy(jit):
    found = tf.function(
        lambda a, b: cross_bucket((a, b), 997, salt=3), jit_compile=jit, autograph=False
    )(*IDS)
    np.testing.assert_array_equal(found, numpy_bucket(IDS, 997, 3))


def test_small_ids_spread_evenly():
    past, candidate = np.meshgrid(np.arange(211), np.arange(223))
    counts = np.bincount(cross_bucket((past.ravel(), candidate.ravel()), 101), minlength=101)
    mean = 211 * 223 / 101
    assert ((counts - mean) ** 2 / mean).sum() < 2 * 101  # chi-squared of 100 degrees of freedom


def test_order_and_salt_matter():
    straight = cross_bucket(IDS, 10007)
    for other in (cross_bucket(IDS[::-1], 10007), cross_bucket(IDS, 10007, salt=1)):
        assert np.mean(straight == other) < 0.01


def test_a_number_of_buckets_out_of_range_is_refused():
    with pytest.raises(ValueError, match="between 1 and 2"):
        cross_bucket(IDS, 0)
