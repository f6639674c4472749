"""What search units find: sets of events, shares of other sets, shares of attention."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.inspection import plots, searches, traces
from tests.conformance.catalogue import batch, build

FOUND = np.array([[[1, 1, 0, 0], [0, 0, 0, 1]]], bool)
OTHER = np.array([[[1, 0, 1, 0], [0, 0, 0, 0]]], bool)
ATTENTION = np.array([[[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.0, 0.0]]])


def test_retrieved_events_are_those_that_the_unit_names():
    features = batch()
    trace = traces.trace(build("sim_hard"), features)
    retrieved = searches.retrieved_events(trace)
    past, wanted = trace.features["hist_category_id"], trace.features["cand_category_id"]
    recent = trace.length[:, None] - 1 - np.arange(past.shape[1]) < 2  # the short part
    same = (past[:, None] == wanted[..., None]) & trace.features["hist_mask"][:, None]
    expected = same & ~recent[:, None] & trace.features["cand_mask"][..., None]
    assert retrieved.any()
    assert not (retrieved & ~expected).any()


def test_padding_candidates_have_no_relevant_events():
    features = dict(batch())
    real = np.ones(features["cand_mask"].shape, bool)
    real[:, -1] = False
    features["cand_mask"] = tf.constant(real)
    attention = searches.long_attention(traces.trace(build("din_long"), features))
    assert attention[:, :-1].any()
    assert not attention[:, -1].any()


def test_a_model_that_searches_nothing_is_refused():
    with pytest.raises(ValueError, match="names 'topk_indices' among its outputs"):
        searches.retrieved_events(traces.trace(build("din"), batch()))


def test_coverage_is_the_mean_share_over_candidates_with_relevant_events():
    assert searches.coverage(FOUND, OTHER) == pytest.approx(0.5)
    assert searches.coverage(OTHER, FOUND) == pytest.approx((0.5 + 0.0) / 2)
    assert np.isnan(searches.coverage(FOUND, np.zeros_like(FOUND)))


def test_overlap_holds_every_pair():
    found = searches.overlap({"a": FOUND, "b": OTHER})
    assert found == {"a": {"a": 1.0, "b": 0.5}, "b": {"a": 0.25, "b": 1.0}}


def test_top_attention_is_the_highest_weights_and_never_masked_ones():
    is_top = searches.top_attention(ATTENTION, 2)
    assert is_top[0, 0].tolist() == [False, False, True, True]
    assert not is_top[0, 1].any()


def test_recall_is_of_top_attention_and_of_its_mass():
    found = searches.recall({"unit": FOUND}, ATTENTION, 3)["unit"]
    assert found["recall"] == pytest.approx(1 / 3)
    assert found["attention"] == pytest.approx(0.3)
    assert found["found"] == pytest.approx(2.0)


def test_a_unit_that_retrieves_everything_has_all_the_attention():
    found = searches.recall({"all": np.ones_like(FOUND)}, ATTENTION, 4)["all"]
    assert found["recall"] == 1.0
    assert found["attention"] == pytest.approx(1.0)


def test_the_pictures_have_a_column_a_unit():
    figure = plots.retrieved_events({"a": FOUND[0, 0], "b": OTHER[0, 0]}, list("wxyz"), "candidate")
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["a\n2", "b\n2"]
    bars = plots.search_recall(searches.recall({"a": FOUND, "b": OTHER}, ATTENTION, 2))
    assert len(bars.axes[0].patches) == 4
