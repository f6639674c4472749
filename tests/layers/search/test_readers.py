"""What is read from found events: SIM's exact search unit, and the mean."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.multi_head_attention import MultiHeadAttention, head_kernel
from dgin_tf.layers.search.readers import ExactSearchUnit, MeanReader
from dgin_tf.layers.search.unit import RetrievedEvents
from dgin_tf.layers.time_gap import GapEmbedding
from tests.oracles import sim

USERS, CANDIDATES, K, DIM, HEADS, KEY_DIM, GAP_DIM = 3, 2, 5, 7, 2, 4, 3
RANDOM = np.random.default_rng(0)
TARGET = tf.constant(RANDOM.normal(size=(USERS, CANDIDATES, DIM)), tf.float32)
COUNTS = np.array([[5, 3], [1, 0], [2, 4]])
MASK = np.arange(K) < COUNTS[..., None]
EVENTS = tf.constant(RANDOM.normal(size=(USERS, CANDIDATES, K, DIM)) * MASK[..., None], tf.float32)
GAPS = tf.constant(RANDOM.integers(0, 10**7, (USERS, CANDIDATES, K)) * MASK, tf.int64)
FOUND = RetrievedEvents(EVENTS, tf.constant(MASK), GAPS)


def unit(time):
    attention = MultiHeadAttention(HEADS, KEY_DIM, project=False, scale=False)
    return ExactSearchUnit(attention, GapEmbedding(GAP_DIM) if time else None)


@pytest.mark.parametrize("time", [False, True])
def test_the_exact_search_unit_is_equations_3_and_4_over_events_and_gaps(time):
    reader = unit(time)
    found = reader(TARGET, FOUND)["interest"]
    z = EVENTS
    if time:
        z = tf.concat([EVENTS, reader.gap_embedding(GAPS)], -1)
    kernels = [
        head_kernel(kernel, HEADS, tf.float32).numpy()
        for kernel in (reader.attention.query_kernel, reader.attention.key_kernel)
    ]
    for user in range(USERS):
        for candidate, count in enumerate(COUNTS[user]):
            chosen = z[user, candidate, :count].numpy()
            expected = sim.exact_search(TARGET[user, candidate].numpy(), chosen, *kernels)
            np.testing.assert_allclose(found[user, candidate], expected, rtol=1e-4, atol=1e-5)


def test_the_order_of_found_events_does_not_matter():
    reader, order = unit(True), RANDOM.permutation(K)
    one, other = (
        reader(TARGET, RetrievedEvents(*(tf.gather(part, places, axis=2) for part in FOUND[:3])))
        for places in (np.arange(K), order)
    )
    np.testing.assert_allclose(one["interest"], other["interest"], rtol=1e-5, atol=1e-6)


def test_gaps_that_nobody_kept_are_asked_for():
    with pytest.raises(ValueError, match="there are no times; set times=True"):
        unit(True)(TARGET, FOUND._replace(gaps=None))


def test_the_mean_divides_by_what_was_found():
    found = MeanReader()(TARGET, FOUND)["interest"]
    expected = EVENTS.numpy().sum(2) / np.maximum(COUNTS, 1)[..., None]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reader", [unit(True), unit(False), MeanReader()])
def test_nothing_found_reads_as_exactly_zero(reader):
    assert not np.any(reader(TARGET, FOUND)["interest"][1, 1])


def test_events_and_their_mask_are_all_that_a_reader_needs():
    reader = unit(False)
    alone = reader(TARGET, RetrievedEvents(EVENTS, tf.constant(MASK)))
    np.testing.assert_array_equal(alone["interest"], reader(TARGET, FOUND)["interest"])
