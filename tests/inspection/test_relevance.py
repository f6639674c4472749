"""Weights of past events, and their cross-entropy against full target attention."""

import numpy as np
import pytest

from dgin_tf.inspection import plots, relevance
from dgin_tf.inspection.traces import trace
from tests.conformance.catalogue import batch, build

WEIGHING = (
    "din_long",
    "avg_pooling_long_din",
    "sim_hard",
    "sim_hard_first_stage",
    "ubr4ctr",
    "eta",
    "eta_encode",
    "twin",
    "sdim",
    "encode",
    "encode-minus",
)


@pytest.mark.parametrize("entry", WEIGHING)
def test_weights_lie_on_the_long_history_and_sum_to_one_or_nothing(entry):
    model, features = build(entry), batch()
    weights = relevance.long_weights(model, features)
    mask = features["hist_mask"].numpy()
    newest = mask.sum(1, keepdims=True) - 1 - np.arange(mask.shape[1])
    is_long = mask & (newest >= model.encoders["interest"].short_events)
    assert not np.any(weights[~np.broadcast_to(is_long[:, None], weights.shape)])
    total = weights.sum(-1)
    np.testing.assert_allclose(total[total > 0], 1.0, rtol=1e-6)
    assert np.any(total > 0)


def test_encodes_weights_reproduce_its_interest():
    model, features = build("encode"), batch()
    weights = relevance.long_weights(model, features)
    assignment, events = relevance.clusters_of(model, features)
    assert (assignment[0] >= 0).sum() == 5
    run = trace(model, features)
    interests, between = run.find("long", "interests"), run.find("long", "interest_weights")
    np.testing.assert_allclose(weights @ events, between @ interests, rtol=1e-4, atol=1e-6)


def test_the_indicator_is_lowest_for_the_reference_itself():
    reference = np.array([[[0.7, 0.2, 0.1, 0.0]]])
    mask = np.ones((1, 1), bool)
    entropy = -(0.7 * np.log(0.7) + 0.2 * np.log(0.2) + 0.1 * np.log(0.1))
    own = relevance.relevance_indicator(reference, reference, mask, floor=0.0)
    equal = relevance.relevance_indicator(np.full((1, 1, 4), 0.25), reference, mask)
    blind = relevance.relevance_indicator(np.array([[[0.0, 0.5, 0.5, 0.0]]]), reference, mask)
    assert own == pytest.approx(entropy)
    assert equal == pytest.approx(np.log(3))
    assert own < equal < blind


def test_candidates_without_a_long_history_do_not_count():
    nothing = np.zeros((2, 3, 5))
    assert np.isnan(relevance.relevance_indicator(nothing, nothing, np.ones((2, 3), bool)))


def test_models_without_a_long_part_or_clusters_are_refused():
    with pytest.raises(ValueError, match="a long history beside a short one"):
        relevance.long_weights(build("din"), batch())
    with pytest.raises(ValueError, match="a model that clusters events"):
        relevance.clusters_of(build("din_long"), batch())


def test_clusters_are_drawn_with_a_label_each():
    points = np.random.default_rng(0).normal(size=(7, 3))
    figure = plots.clusters(points, np.array([0, 0, 2, 2, 2, 5, 5]), list("aabbbcc"), np.ones(7))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "cluster 0: 2 events, most of a",
        "cluster 2: 3 events, most of b",
        "cluster 5: 2 events, most of c",
    ]
    with pytest.raises(ValueError, match="got 7, 6, 7 and 7"):
        plots.clusters(points, np.zeros(6), list("aabbbcc"), np.ones(7))
