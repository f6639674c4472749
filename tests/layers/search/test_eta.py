"""ETA's search: nearest signatures first, defined ties, no gradient but through what was found."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import store_events
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.search.eta import SIGNATURES, SimHashSearch
from dgin_tf.layers.search.readers import ExactSearchUnit
from dgin_tf.layers.search.unit import TOPK_INDICES, TOPK_MASK, SearchedInterest
from tests.layers.search.searching import Data, real_places
from tests.oracles import searchers


def search(unit, data):
    state = {**store_events(data.history), **unit.prepare(data.history)}
    return unit.search(state, data.target)


def encoder(k, bits=12):
    attention = MultiHeadAttention(2, name="attention")
    return SearchedInterest(SimHashSearch(k, bits, name="unit"), ExactSearchUnit(attention))


@pytest.mark.parametrize(("k", "bits"), [(1, 3), (3, 64), (4, 70), (50, 16)])
def test_the_nearest_are_found_and_of_equal_ones_the_later(k, bits):
    data, unit = Data(items=5), SimHashSearch(k, bits)
    found = search(unit, data)
    directions = unit.hyperplanes.directions.numpy()
    for user, place, candidate, events in data.pairs():
        wanted = searchers.nearest(candidate, events, directions, k)
        assert real_places(found.topk_indices, found.mask, user, place) == wanted


def test_an_embedding_of_zeros_is_as_far_away_as_its_signature_0():
    data, unit = Data(), SimHashSearch(9, 32)
    data.table.assign(tf.tensor_scatter_nd_update(data.table, [[data.items[0, 3]]], [[0.0] * 6]))
    found = search(unit, data)
    directions = unit.hyperplanes.directions.numpy()
    candidate = data.table.numpy()[data.candidates[0, 0]]
    place = real_places(found.topk_indices, found.mask, 0, 0).index(3)
    assert -found.scores[0, 0, place] == np.sum(candidate @ directions > 0)


def test_a_candidate_outside_the_vocabulary_is_searched_by_its_own_embedding():
    data, unit = Data(), SimHashSearch(3, 16)
    data.candidates[:] = 1
    found = search(unit, data)
    events = data.table.numpy()[data.items[0]]
    wanted = searchers.nearest(
        data.table.numpy()[1], events, unit.hyperplanes.directions.numpy(), 3
    )
    assert real_places(found.topk_indices, found.mask, 0, 1) == wanted


def test_with_k_above_the_history_it_is_full_target_attention():
    data, layer = Data(), encoder(50)
    outputs = layer.interest(layer.encode(data.history), data.target)
    full, _ = layer.reader.attention(data.target.embedding, data.events, data.mask)
    np.testing.assert_allclose(outputs["interest"], full, rtol=1e-5, atol=1e-6)
    assert not np.any(outputs["interest"][2])


def test_gradients_reach_the_found_events_and_nothing_else():
    data, layer = Data(length=(9,), candidates=1, items=40), encoder(3)
    with tf.GradientTape() as tape:
        outputs = layer.interest(layer.encode(data.history), data.target)
        loss = tf.reduce_sum(tf.square(outputs["interest"]))
    gradient = tf.convert_to_tensor(tape.gradient(loss, data.table)).numpy()
    places = real_places(outputs[TOPK_INDICES], outputs[TOPK_MASK], 0, 0)
    touched = set(data.items[0][places]) | set(data.candidates[0])
    assert set(np.flatnonzero(np.abs(gradient).sum(1))) == touched
    assert [v.name for v in layer.non_trainable_variables] == ["hyperplanes/directions:0"]


def test_signatures_are_a_function_of_the_seed_and_travel_with_the_weights():
    data = Data()
    first, same, other = (SimHashSearch(3, 48, seed) for seed in (7, 7, 8))
    states = [unit.prepare(data.history)[SIGNATURES].numpy() for unit in (first, same, other)]
    np.testing.assert_array_equal(states[0], states[1])
    assert np.any(states[0] != states[2])
    other.set_weights(first.get_weights())
    np.testing.assert_array_equal(other.prepare(data.history)[SIGNATURES], states[0])


def test_a_signature_needs_bits():
    with pytest.raises(ValueError, match="bits must be at least 1; got 0"):
        SimHashSearch(3, 0)
