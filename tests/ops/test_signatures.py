"""SimHash in packed bits: the angle law, packing, distances and buckets."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops import signatures


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("bits", [1, 8, 13, 48, 64, 65, 131])
def test_packed_bits_can_be_read_back(bits):
    drawn = normal(5, 3, bits) > 0
    words = signatures.pack(tf.constant(drawn)).numpy()
    assert words.shape == (5, 3, -(-bits // 64))
    found = [(words[..., i // 64] >> (i % 64)) & 1 for i in range(bits)]
    np.testing.assert_array_equal(np.stack(found, -1), drawn)


@pytest.mark.parametrize("bits", [7, 64, 100])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_distance_is_the_number_of_differing_bits(bits, jit_compile):
    left, right = normal(7, 1, bits) > 0, normal(1, 11, bits, seed=1) > 0
    distance = tf.function(
        lambda a, b: signatures.hamming(signatures.pack(a), signatures.pack(b)),
        jit_compile=jit_compile,
        autograph=False,
    )
    np.testing.assert_array_equal(
        distance(tf.constant(left), tf.constant(right)), (left != right).sum(-1)
    )


def test_the_expected_distance_is_the_angle():
    bits, angle = 20_000, 0.7
    plane = np.linalg.qr(normal(5, 2))[0].T.astype(np.float32)
    vectors = np.stack([plane[0], np.cos(angle) * plane[0] + np.sin(angle) * plane[1]])
    packed = signatures.pack(signatures.sides(vectors, normal(5, bits, seed=2)))
    share = signatures.hamming(packed[0], packed[1]).numpy() / bits
    deviation = np.sqrt(angle / np.pi * (1 - angle / np.pi) / bits)
    assert abs(share - angle / np.pi) < 4 * deviation


def test_equal_vectors_are_at_0_opposite_ones_at_all_bits_and_length_does_not_matter():
    vector, directions = normal(1, 6), normal(6, 77, seed=1)
    packed = signatures.pack(
        signatures.sides(np.concatenate([vector, -vector, 3e-4 * vector]), directions)
    )
    distance = signatures.hamming(packed, packed[:1]).numpy()
    assert distance.tolist() == [0, 77, 0]


def test_a_vector_of_zeros_has_the_signature_0():
    packed = signatures.pack(signatures.sides(np.zeros([2, 3], np.float32), normal(3, 48)))
    assert not np.any(packed)


def test_a_bucket_is_the_number_that_its_bits_write():
    bits = tf.constant([[True, False, True, False, True, True]])
    assert signatures.buckets(bits, 3).numpy().tolist() == [[1 + 4, 2 + 4]]
    assert signatures.buckets(bits, 2).numpy().tolist() == [[1, 1, 1 + 2]]


def test_all_of_tau_bits_agree_with_the_power_of_the_probability_of_one():
    """Eq. (13) of SDIM: E[p_j] = (1 - angle / pi)^tau."""
    tables, tau, angle = 20_000, 3, 0.9
    plane = np.linalg.qr(normal(4, 2))[0].T.astype(np.float32)
    vectors = np.stack([plane[0], np.cos(angle) * plane[0] + np.sin(angle) * plane[1], -plane[0]])
    filed = signatures.buckets(signatures.sides(vectors, normal(4, tables * tau, seed=2)), tau)
    wanted = (1 - angle / np.pi) ** tau
    share = np.mean(filed[0] == filed[1])
    assert abs(share - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / tables)
    assert not np.any(filed[0] == filed[2])
