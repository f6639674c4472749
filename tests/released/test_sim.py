"""SIM's released search, reader and models, where they differ from the paper's."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import store_events
from dgin_tf.layers.search.unit import RetrievedEvents, SearchedInterest
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.registry import make_model
from dgin_tf.released.sim import ReleasedExactSearchUnit, ReleasedSoftSearch
from tests.layers.search import embedded
from tests.layers.search.test_soft import Shown
from tests.prepared import make_schema

LENGTHS, TIME, CANDIDATES = (13, 6, 2, 0), 13, 3
HISTORY = embedded.history(LENGTHS, TIME)
TARGET = embedded.target(len(LENGTHS), CANDIDATES)


@pytest.fixture
def released():
    """A released search for three candidates of one user whose weights share values."""
    item = np.array([[5, 9, 5, 12, 5, 12, 21, 9, 3]])
    mask = np.ones(item.shape, bool)
    history = embedded.history_of(mask, item, np.full_like(item, 2), np.full_like(item, 7))
    return history, embedded.target(1, CANDIDATES)


@pytest.mark.parametrize("k", [2, 3, 5, 20])
def test_the_release_finds_what_lies_above_the_kth_different_weight(released, k):
    history, target = released
    unit = ReleasedSoftSearch(k, Shown())
    found = unit.search(store_events(history), target)
    for candidate in range(CANDIDATES):
        scores = embedded.events_of(history)[0].numpy() @ target.embedding[0, candidate].numpy()
        weights = np.exp(scores - scores.max())
        different = sorted(set(weights.round(5)), reverse=True)
        kth = different[k - 1] if k <= len(different) else 0
        expected = {i for i, w in enumerate(weights.round(5)) if w > kth}
        assert set(found.topk_indices[0, candidate][found.mask[0, candidate]].numpy()) == expected


def test_the_released_network_reads_the_target_and_the_softmax_mean(released):
    history, target = released
    unit = ReleasedSoftSearch(4, Shown())
    unit.search(store_events(history), target)
    scores = embedded.events_of(history)[0].numpy() @ target.embedding[0, 0].numpy()
    weights = np.exp(scores) / np.exp(scores).sum()
    expected = np.concatenate(
        [target.embedding[0, 0], weights @ embedded.events_of(history)[0].numpy()]
    )
    np.testing.assert_allclose(unit.network.inputs[0, 0], expected, rtol=1e-4, atol=1e-5)


def test_the_released_search_and_reader_give_zero_for_nobody():
    encoder = SearchedInterest(ReleasedSoftSearch(3), ReleasedExactSearchUnit())
    outputs = encoder.interest(encoder.encode(HISTORY), TARGET)
    assert not np.any(outputs["interest"][-1])
    assert np.any(outputs["interest"][0])


def test_the_released_reader_attends_by_inner_products_and_counts_one_too_many():
    events = tf.reverse(embedded.events_of(HISTORY)[:1, None], [2])
    mask = tf.constant(np.arange(TIME)[None, None] < 4)
    events = tf.where(mask[..., None], events, 0.0)
    target = TARGET.embedding[:1, :1]
    interest = ReleasedExactSearchUnit()(target, RetrievedEvents(events, mask))["interest"]
    chosen = events[0, 0, :4].numpy()
    scores = chosen @ target[0, 0].numpy()
    weights = np.exp(scores) / np.exp(scores).sum()
    expected = np.concatenate([weights @ chosen, chosen.sum(0) / 5])
    np.testing.assert_allclose(interest[0, 0], expected, rtol=1e-4, atol=1e-5)


def test_the_releases_choices_are_those_that_the_ledger_lists():
    schema, config = make_schema(), ModelConfig(embedding_dim=3, tower_units=(7, 5))
    hard, soft = (make_model(f"sim_{kind}_released", schema, config) for kind in ("hard", "soft"))
    assert hard.search.k == schema.max_history
    assert isinstance(soft.search, ReleasedSoftSearch)
    for model in (hard, soft):
        assert isinstance(model.reader, ReleasedExactSearchUnit)
        assert model.short.attention.unit.units == (80, 40)
        assert model.short.attention.softmax
        assert model.config.loss_scale == "official_half"
        assert model.embedding.user_fields == ()
        assert model.config.tower_units == (7, 5)
    with pytest.raises(ValueError, match="sim_hard_released has the settings .*; got time"):
        make_model("sim_hard_released", schema, config, time=True)
