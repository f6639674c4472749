"""The frame of all searches: the k best, events that are found and read, and appended ones."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.search.eta import SimHashSearch
from dgin_tf.layers.search.hard import HardSearch
from dgin_tf.layers.search.readers import ExactSearchUnit, MeanReader
from dgin_tf.layers.search.reduced import InnerProductSearch, ReducedSearch
from dgin_tf.layers.search.soft import SoftSearch
from dgin_tf.layers.search.unit import (
    SearchedInterest,
    SearchResult,
    SearchUnit,
    add_step_counter,
    draw,
    top_events,
)
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
    places, found, values, _ = top_events(tf.constant(scores), tf.constant(mask), k)
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
        return SearchResult(places, mask & state["mask"][:, :1, None])


class Passing(tf.keras.layers.Layer):
    """A reader that shows what it is given."""

    def call(self, target, found, training=False):
        return {"interest": found.events, "gaps": found.gaps}


def test_found_events_are_embedded_and_zero_where_nothing_was_found():
    encoder = SearchedInterest(AtPlaces([2, -1, 0]), Passing())
    outputs = encoder.interest(encoder.encode(HISTORY), TARGET)
    events = embedded.events_of(HISTORY)
    expected = np.stack([events[:, 2], np.zeros((3, embedded.DIM)), events[:, 0]], 1)
    expected[2] = 0
    for candidate in range(CANDIDATES):
        np.testing.assert_array_equal(outputs["interest"][:, candidate], expected)


def test_leaving_out_candidates_that_find_nothing_changes_nothing():
    reader = ExactSearchUnit(gap_embedding=GapEmbedding(2))
    dense = SearchedInterest(HardSearch(3), reader, times=True)
    sparse = SearchedInterest(HardSearch(3), reader, times=True, sparse=True)
    state = dense.encode(HISTORY)
    expected, found = dense.interest(state, TARGET), sparse.interest(state, TARGET)
    some = np.any(expected["topk_mask"], axis=-1)
    assert 0 < np.sum(some) < np.size(some)
    assert set(found) == set(expected)
    for name in expected:
        assert found[name].shape == expected[name].shape
        np.testing.assert_allclose(
            np.asarray(found[name])[some], np.asarray(expected[name])[some], rtol=1e-5, atol=1e-6
        )
        assert name.startswith("topk") or not np.any(np.asarray(found[name])[~some])


def test_where_no_candidate_finds_anything_a_sparse_reader_gives_zeros():
    encoder = SearchedInterest(AtPlaces([-1, -1]), MeanReader(), sparse=True)
    interest = encoder.interest(encoder.encode(HISTORY), TARGET)["interest"]
    np.testing.assert_array_equal(interest, np.zeros((3, CANDIDATES, embedded.DIM)))


def test_gaps_are_seconds_up_to_the_candidate():
    encoder = SearchedInterest(AtPlaces([1, -1]), Passing(), times=True)
    gaps = encoder.interest(encoder.encode(HISTORY), TARGET)["gaps"]
    wanted = 10_000_000 - HISTORY.features["timestamp"].numpy()[0, 1]
    np.testing.assert_array_equal(gaps[0], np.tile([wanted, 0], (CANDIDATES, 1)))


def test_without_times_none_are_kept():
    encoder = SearchedInterest(HardSearch(2), MeanReader())
    assert set(encoder.encode(HISTORY)["events"]) == {"item_id", "category_id"}


def test_a_target_that_cannot_embed_is_refused():
    encoder = SearchedInterest(HardSearch(2), MeanReader())
    with pytest.raises(ValueError, match="pass .*Target\\(..., tables=\\)"):
        encoder.interest(encoder.encode(HISTORY), TARGET._replace(tables={}))


def test_a_unit_that_looks_for_nothing_is_refused():
    with pytest.raises(ValueError, match="k must be at least 1; got 0"):
        HardSearch(0)


def test_the_base_class_leaves_the_search_to_subclasses():
    assert SearchUnit().prepare(HISTORY) == {}
    with pytest.raises(NotImplementedError, match="SearchUnit does not search"):
        SearchUnit().search({}, TARGET)
    with pytest.raises(NotImplementedError, match="SearchUnit does not search"):
        SearchUnit()(TARGET, HISTORY)


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
    encoder = SearchedInterest(HardSearch(7, "item_id"), MeanReader(), times=True)
    rebuilt = SearchedInterest.from_config(encoder.get_config())
    assert (rebuilt.unit.k, rebuilt.unit.field, rebuilt.times) == (7, "item_id", True)
    assert isinstance(rebuilt.reader, MeanReader)


@pytest.mark.parametrize(
    "unit",
    [SoftSearch(4, 5), InnerProductSearch(4), SimHashSearch(4), ReducedSearch(4)],
    ids=lambda unit: type(unit).__name__,
)
def test_embeddings_and_a_mask_are_searched_as_ids_with_tables_are(unit):
    events = embedded.events_of(HISTORY)
    alone = unit(TARGET.embedding, (events, HISTORY.mask))
    by_ids = unit(TARGET, HISTORY)
    np.testing.assert_array_equal(alone.mask, by_ids.mask)
    np.testing.assert_array_equal(
        np.where(alone.mask, alone.topk_indices, -1), np.where(by_ids.mask, by_ids.topk_indices, -1)
    )


def test_an_encoder_reads_embeddings_and_a_mask_as_it_reads_ids_with_tables():
    encoder = SearchedInterest(InnerProductSearch(3), ExactSearchUnit())
    by_ids = encoder(TARGET, HISTORY)
    alone = encoder(TARGET.embedding, (embedded.events_of(HISTORY), HISTORY.mask))
    np.testing.assert_allclose(alone["interest"], by_ids["interest"], rtol=1e-5, atol=1e-6)
    assert np.any(alone["interest"])


def test_draws_of_a_resumed_run_are_those_of_an_uninterrupted_one():
    ids = [tf.range(97)[:, None], tf.range(89)]

    def draws(unit, steps):
        return [draw(unit.step, ids, seed=3).numpy() for _ in range(steps)]

    units = [AtPlaces([0]) for _ in range(2)]
    for unit in units:
        unit.step = add_step_counter(unit)
    whole = draws(units[0], 4)
    draws(units[1], 2)
    resumed = AtPlaces([0])
    resumed.step = add_step_counter(resumed)
    resumed.set_weights(units[1].get_weights())
    np.testing.assert_array_equal(draws(resumed, 2), whole[2:])
    assert np.mean(whole[0] == whole[1]) < 0.01
    np.testing.assert_allclose(np.mean(whole), 0.5, atol=4 / np.sqrt(12 * np.size(whole)))
    assert np.min(whole) >= 0.0
    assert np.max(whole) < 1.0
