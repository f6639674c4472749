"""Search by asymmetric hashes: a subset of brute force, and with every event at hand the same."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import store_events
from dgin_tf.layers.search.alsh import ALSHSearch, AsymmetricHash, recall
from dgin_tf.layers.search.readers import MeanReader
from dgin_tf.layers.search.unit import SearchedInterest
from tests.layers.search import embedded

LENGTHS, TIME, CANDIDATES, K = (41, 17, 2, 0), 41, 5, 6
HISTORY = embedded.history(LENGTHS, TIME)
TARGET = embedded.target(len(LENGTHS), CANDIDATES)
both_kinds = pytest.mark.parametrize("signs", [False, True], ids=["l2", "signs"])


@pytest.fixture(autouse=True)
def seeded():
    """The weights of the search are the same every time."""
    tf.keras.utils.set_random_seed(5)


def made(tables, hashes, signs=False, **settings):
    return ALSHSearch(AsymmetricHash(tables, hashes, signs), **{"k": K, "bucket": TIME, **settings})


def search(unit, history=HISTORY, target=TARGET):
    state = {**store_events(history), **unit.prepare(history)}
    return unit.search(state, target)


def brute(unit, history=HISTORY, target=TARGET):
    return unit.brute_force(store_events(history), unit.query(target.embedding), target.tables)


def assert_same(found, expected):
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_array_equal(
        np.where(found.mask, found.topk_indices, -1),
        np.where(expected.mask, expected.topk_indices, -1),
    )


class OneBucket(AsymmetricHash):
    """A hash that tells nothing apart."""

    def call(self, vectors, mask=None):
        return tf.zeros_like(super().call(vectors, mask))


@pytest.mark.parametrize("k", [1, K, 2 * TIME])
def test_a_bucket_that_holds_everything_gives_what_brute_force_gives(k):
    unit = ALSHSearch(OneBucket(3, 2), k=k, bucket=TIME, fallback=False)
    assert_same(search(unit), brute(unit))


@both_kinds
def test_what_is_found_is_ordered_by_exact_products_and_named_once(signs):
    unit = made(tables=2, hashes=9 if signs else 4, signs=signs, fallback=False)
    found = search(unit)
    events = embedded.events_of(HISTORY).numpy()
    exact = unit.query(TARGET.embedding).numpy() @ events.transpose(0, 2, 1)
    assert np.any(found.mask)
    assert np.sum(found.mask) < np.sum(brute(unit).mask)
    for user in range(len(LENGTHS)):
        for candidate in range(CANDIDATES):
            places = found.topk_indices[user, candidate][found.mask[user, candidate]].numpy()
            assert len(set(places)) == len(places)
            assert np.all(places < LENGTHS[user])
            scores = exact[user, candidate, places]
            assert np.all(np.diff(scores) <= 1e-6)


@both_kinds
def test_a_bucket_that_holds_too_little_is_helped_out_by_brute_force(signs):
    unit = made(tables=1, hashes=30, signs=signs)
    assert_same(search(unit), brute(unit))


def test_recall_is_one_where_every_bucket_holds_everything():
    unit = ALSHSearch(OneBucket(3, 2), k=K, bucket=TIME, fallback=False)
    assert recall(unit, HISTORY, TARGET) == (1.0, 1.0)


def test_recall_counts_what_exact_search_finds_too():
    unit = ALSHSearch(OneBucket(1, 1), k=K, bucket=K, fallback=False)  # the newest k events
    share, seen = recall(unit, HISTORY, TARGET)
    exact = brute(unit)
    newest = exact.topk_indices.numpy() >= np.array(LENGTHS)[:, None, None] - K
    expected = [newest[u, c][exact.mask[u, c]].mean() for u in range(2) for c in range(CANDIDATES)]
    assert share == pytest.approx(np.mean(expected))
    assert seen == pytest.approx(np.mean([K / 41, K / 17]))


def test_more_tables_see_and_find_more():
    found = []
    for tables in (1, 8, 64):
        tf.keras.utils.set_random_seed(5)
        found.append(recall(made(tables, 3, fallback=False), HISTORY, TARGET))
    assert found == sorted(found)
    assert found[-1][0] > found[0][0]


def test_the_recall_of_a_search_that_falls_back_is_not_the_indexs():
    with pytest.raises(ValueError, match="give the unit fallback=False"):
        recall(made(3, 2), HISTORY, TARGET)


def test_training_searches_by_brute_force_and_trains_the_relevance():
    unit = made(tables=2, hashes=3)
    state = {**store_events(HISTORY), **unit.prepare(HISTORY, training=True)}
    found = unit.search(state, TARGET, training=True)
    assert_same(found, brute(unit))
    assert "auxiliary_logits" in found.outputs


def test_a_zero_query_takes_the_newest_events():
    unit = made(tables=3, hashes=2)
    nothing = TARGET._replace(embedding=tf.zeros_like(TARGET.embedding))
    found = search(unit, target=nothing)
    np.testing.assert_array_equal(found.topk_indices[0, 0], TIME - 1 - np.arange(K))


def test_appended_events_are_indexed_like_all_others():
    encoder = SearchedInterest(made(tables=5, hashes=2, fallback=False), MeanReader())
    state = encoder.encode(embedded.part_of(HISTORY, 0, 9))
    for start in range(9, TIME, 8):
        state = encoder.update(state, embedded.part_of(HISTORY, start, start + 8))
    whole = encoder.encode(HISTORY)
    for name in ("table_keys", "mask"):
        np.testing.assert_array_equal(state[name], whole[name])
    found, expected = (encoder.interest(s, TARGET)["interest"] for s in (state, whole))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_hash_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1; got 3 and 0"):
        AsymmetricHash(3, 0)


@pytest.mark.parametrize("fallback", [False, True])
def test_a_time_axis_of_no_length_finds_nothing_also_compiled(fallback):
    unit, nobody = made(tables=3, hashes=2, fallback=fallback), embedded.part_of(HISTORY, 0, 0)
    search(unit)
    assert search(unit, nobody).topk_indices.shape == (len(LENGTHS), CANDIDATES, 0)
    compiled = tf.function(lambda: search(unit)[:2], jit_compile=True, autograph=False)()
    expected = search(unit)
    np.testing.assert_array_equal(compiled[1], expected.mask)
