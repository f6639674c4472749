"""The frame of all searches: the k best, events that are found and read, and appended ones."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.search.hard import HardSearch
from dgin_tf.layers.search.readers import ExactSearchUnit, MeanOfFound
from dgin_tf.layers.search.unit import Found, SearchedInterest, SearchUnit, best
from dgin_tf.layers.time_gap import GapEmbedding
from tests.layers.search import embedded
from tests.oracles import sim

LENGTHS, TIME, CANDIDATES = (11, 4, 0), 11, 5
HISTORY = embedded.history(LENGTHS, TIME)
TARGET = embedded.target(len(LENGTHS), CANDIDATES)


@pytest.mark.parametrize("k", [1, 4, 13, 99])
def test_the_best_are_those_of_the_highest_score_and_the_newer_ones_among_equals(k):
    random = np.random.default_rng(0)
    scores = random.integers(0, 4, (3, 5, 13)).astype(np.float32)
    lengths = np.array([13, 6, 0])
    mask = (np.arange(13) < lengths[:, None])[:, None]
    values, places, found = best(tf.constant(scores), tf.constant(mask), k)
    assert places.shape == (3, 5, min(k, 13))
    for user, length in enumerate(lengths):
        for candidate in range(5):
            expected = sim.soft_search(list(scores[user, candidate, :length]), k)
            real = found[user, candidate]
            assert list(places[user, candidate][real]) == expected
            assert list(values[user, candidate][real]) == [
                scores[user, candidate, place] for place in expected
            ]


class AtPlaces(SearchUnit):
    """Finds the events at fixed places; nothing at place -1."""

    def __init__(self, places, **kwargs):
        super().__init__(len(places), **kwargs)
        self.places = tf.constant(places)

    def search(self, state, target, training=False):
        shape = [*target.embedding.shape[:2], self.k]
        places = tf.broadcast_to(tf.maximum(self.places, 0), shape)
        mask = tf.broadcast_to(self.places >= 0, shape)
        return Found(places, mask & state["past_mask"][:, :1, None])


class Passing(tf.keras.layers.Layer):
    """A reader that shows what it is given."""

    def call(self, target, found, training=False):
        return {"interest": found.events, "gaps": found.gaps}


def test_found_events_are_embedded_and_zero_where_nothing_was_found():
    encoder = SearchedInterest(AtPlaces([2, -1, 0]), Passing())
    outputs = encoder.interest(encoder.encode(HISTORY), TARGET)
    expected = np.stack(
        [HISTORY.events[:, 2], np.zeros((3, embedded.DIM)), HISTORY.events[:, 0]], 1
    )
    expected[2] = 0
    for candidate in range(CANDIDATES):
        np.testing.assert_array_equal(outputs["interest"][:, candidate], expected)


def test_leaving_out_candidates_that_find_nothing_changes_nothing():
    reader = ExactSearchUnit(gap_embedding=GapEmbedding(2))
    dense = SearchedInterest(HardSearch(3), reader, times=True)
    sparse = SearchedInterest(HardSearch(3), reader, times=True, sparse=True)
    state = dense.encode(HISTORY)
    expected, found = dense.interest(state, TARGET), sparse.interest(state, TARGET)
    some = np.any(expected["found_mask"], axis=-1)
    assert 0 < np.sum(some) < np.size(some)
    assert set(found) == set(expected)
    for name in expected:
        assert found[name].shape == expected[name].shape
        np.testing.assert_allclose(
            np.asarray(found[name])[some], np.asarray(expected[name])[some], rtol=1e-5, atol=1e-6
        )
        assert name.startswith("found") or not np.any(np.asarray(found[name])[~some])


def test_where_no_candidate_finds_anything_a_sparse_reader_gives_zeros():
    encoder = SearchedInterest(AtPlaces([-1, -1]), MeanOfFound(), sparse=True)
    interest = encoder.interest(encoder.encode(HISTORY), TARGET)["interest"]
    np.testing.assert_array_equal(interest, np.zeros((3, CANDIDATES, embedded.DIM)))


def test_gaps_are_seconds_up_to_the_candidate():
    encoder = SearchedInterest(AtPlaces([1, -1]), Passing(), times=True)
    gaps = encoder.interest(encoder.encode(HISTORY), TARGET)["gaps"]
    wanted = 10_000_000 - HISTORY.features["hist_timestamp"].numpy()[0, 1]
    np.testing.assert_array_equal(gaps[0], np.tile([wanted, 0], (CANDIDATES, 1)))


def test_without_times_none_are_kept():
    encoder = SearchedInterest(HardSearch(2), MeanOfFound())
    assert not [name for name in encoder.encode(HISTORY) if "timestamp" in name]


def test_a_target_that_cannot_embed_is_refused():
    encoder = SearchedInterest(HardSearch(2), MeanOfFound())
    with pytest.raises(ValueError, match="need Target.embed"):
        encoder.interest(encoder.encode(HISTORY), TARGET._replace(embed=None))


def test_a_unit_that_looks_for_nothing_is_refused():
    with pytest.raises(ValueError, match="k must be at least 1; got 0"):
        HardSearch(0)


def test_the_base_class_leaves_the_search_to_subclasses():
    assert SearchUnit().prepare(HISTORY) == {}
    with pytest.raises(NotImplementedError):
        SearchUnit().search({}, TARGET)


def test_appending_events_equals_encoding_all_of_them():
    reader = ExactSearchUnit(gap_embedding=GapEmbedding(2))
    encoder, whole = SearchedInterest(HardSearch(3), reader, times=True), HISTORY
    state = encoder.encode(embedded.part_of(whole, 0, 3))
    for start in range(3, TIME, 4):
        state = encoder.update(state, embedded.part_of(whole, start, start + 4))
    expected = encoder.interest(encoder.encode(whole), TARGET)["interest"]
    found = encoder.interest(state, TARGET)["interest"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_encoder_is_rebuilt_from_its_config_with_unit_and_reader():
    encoder = SearchedInterest(HardSearch(7, "item_id"), MeanOfFound(), times=True)
    rebuilt = SearchedInterest.from_config(encoder.get_config())
    assert (rebuilt.unit.k, rebuilt.unit.field, rebuilt.times) == (7, "item_id", True)
    assert isinstance(rebuilt.reader, MeanOfFound)
