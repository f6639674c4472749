"""ETA's search by reduced cosines and by inner products (ENCODE, table 4)."""

import numpy as np
import pytest

from dgin_tf.layers.dimension_reduction import DimensionReduction
from dgin_tf.layers.events import store_events
from dgin_tf.layers.search.reduced import REDUCED, InnerProductSearch, ReducedSearch
from tests.layers.search.searching import Data, real_places
from tests.oracles import encode


def search(unit, data):
    state = {**store_events(data.history), **unit.prepare(data.history)}
    return unit.search(state, data.target)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_the_nearest_by_their_reduced_cosine_are_found(k):
    data, unit = Data(), ReducedSearch(k, DimensionReduction(2))
    found = search(unit, data)
    kernel = unit.reduction.kernel.numpy()
    for user, place, candidate, events in data.pairs():
        cosines = [encode.cosine(event @ kernel, candidate @ kernel) for event in events]
        wanted = sorted(cosines, reverse=True)[:k]
        places = real_places(found.topk_indices, found.mask, user, place)
        chosen = [cosines[t] for t in places]
        np.testing.assert_allclose(chosen, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_the_largest_inner_products_are_found(k):
    data = Data()
    found = search(InnerProductSearch(k), data)
    for user, place, candidate, events in data.pairs():
        scores = events @ candidate
        wanted = np.sort(scores)[::-1][:k]
        chosen = scores[real_places(found.topk_indices, found.mask, user, place)]
        np.testing.assert_allclose(chosen, wanted, rtol=1e-4, atol=1e-5)


def test_the_state_is_m_numbers_an_event_and_the_loss_the_reductions():
    data, unit = Data(), ReducedSearch(3, DimensionReduction(2))
    assert unit.prepare(data.history)[REDUCED].shape == (3, 9, 2)
    state, losses = unit.prepare_with_losses(data.history)
    np.testing.assert_array_equal(state[REDUCED], unit.prepare(data.history)[REDUCED])
    assert np.all(losses["reduction"].numpy()[:2] > 0)
    assert losses["reduction"][2] == 0
    assert (
        ReducedSearch(3, DimensionReduction(2, "none")).prepare_with_losses(data.history)[1] == {}
    )
    assert InnerProductSearch(3).prepare_with_losses(data.history)[1] == {}
