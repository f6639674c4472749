"""Metrics against their definitions and at their limits."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from dgin_tf import metrics
from tests.oracles import ranking


@st.composite
def samples(draw):
    """Labels, tie-ridden scores and groups of a few samples."""
    size = draw(st.integers(1, 60))
    integers = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from([1, 2, 7, 1000]))
    return (
        integers.integers(0, 2, size),
        integers.integers(0, levels, size).astype(np.float32) / 3.0,
        integers.integers(0, 5, size) * 10**12,
    )


def make_predictions(size=211, seed=0):
    random = np.random.default_rng(seed)
    return metrics.Predictions(
        logits=random.normal(size=size).astype(np.float32),
        labels=random.integers(0, 2, size),
        groups=random.integers(0, 11, size),
        history_lengths=random.integers(0, 30, size),
    )


@given(samples())
@settings(max_examples=200, deadline=None)
def test_auc_and_gauc_equal_their_definitions(drawn):
    labels, scores, groups = drawn
    np.testing.assert_allclose(metrics.auc(labels, scores), ranking.auc(labels, scores))
    np.testing.assert_allclose(
        metrics.gauc(labels, scores, groups), ranking.gauc(labels, scores, groups)
    )


@given(samples())
@settings(max_examples=50, deadline=None)
def test_auc_depends_on_the_order_alone_and_mirrors_when_scores_are_negated(drawn):
    labels, scores, _ = drawn
    value = metrics.auc(labels, scores)
    np.testing.assert_allclose(metrics.auc(labels, np.exp(scores / 1000.0)), value)
    np.testing.assert_allclose(metrics.auc(labels, -scores), 1.0 - value)


def test_ties_count_one_half():
    assert metrics.auc(np.array([1, 0, 0]), np.array([2.0, 2.0, 1.0])) == (0.5 + 1.0) / 2


def test_gauc_weighs_users_by_their_samples_and_skips_users_of_one_class():
    labels = np.array([1, 0, 1, 0, 0, 1, 1])
    scores = np.array([2.0, 1.0, 1.0, 2.0, 3.0, 9.0, 9.0])
    groups = np.array([7, 7, 3, 3, 3, 5, 5])  # AUC 1, 0 and none
    assert metrics.gauc(labels, scores, groups) == (2 * 1.0 + 3 * 0.0) / 5


def test_one_class_has_no_auc():
    ones, scores = np.ones(3, int), np.arange(3.0)
    assert np.isnan(metrics.auc(ones, scores))
    assert np.isnan(metrics.gauc(ones, scores, np.zeros(3, int)))
    assert np.isnan(metrics.auc(ones[:0], scores[:0]))


def test_a_nan_score_is_refused():
    with pytest.raises(ValueError, match="sample 1 has it"):
        metrics.auc(np.array([0, 1]), np.array([0.0, np.nan]))


def test_log_loss_is_exact_where_probabilities_round_to_one():
    labels, logits = np.array([0, 1, 1]), np.array([800.0, 800.0, np.log(3.0)])
    np.testing.assert_allclose(metrics.log_loss(labels, logits), (800.0 + 0.0 - np.log(0.75)) / 3)


def test_calibration_is_predicted_over_observed_clicks():
    logits = np.log(np.array([1.0, 3.0, 1.0 / 3.0]))  # probabilities 1/2, 3/4, 1/4
    np.testing.assert_allclose(metrics.calibration(np.array([1, 1, 0]), logits), 1.5 / 2)
    assert np.isnan(metrics.calibration(np.zeros(3), logits))


def test_calibration_error_of_one_bin_is_the_mean_gap_and_of_many_sees_both_ends():
    labels, logits = np.array([1, 1, 0, 0]), np.array([-50.0, -50.0, 50.0, 50.0])
    assert metrics.expected_calibration_error(labels, logits, bins=1) == pytest.approx(0.0)
    assert metrics.expected_calibration_error(labels, logits, bins=2) == pytest.approx(1.0)
    assert metrics.expected_calibration_error(labels, logits, bins=9) == pytest.approx(1.0)


def test_history_intervals_split_the_samples():
    predictions = make_predictions()
    parts = metrics.by_history_length(predictions, boundaries=(0, 1, 10, 20))
    assert list(parts) == ["0", "1-9", "10-19", "20+"]
    assert sum(part["examples"] for part in parts.values()) == 211
    chosen = (predictions.history_lengths >= 10) & (predictions.history_lengths < 20)
    expected = ranking.auc(predictions.labels[chosen], predictions.logits[chosen])
    np.testing.assert_allclose(parts["10-19"]["auc"], expected)


def test_a_summary_holds_what_result_json_promises():
    predictions = make_predictions()
    found = metrics.summary(predictions)
    assert found["examples"] == 211
    np.testing.assert_allclose(
        found["gauc"], ranking.gauc(predictions.labels, predictions.logits, predictions.groups)
    )
    assert set(found) >= {"auc", "gauc", "log_loss", "calibration", "examples"}


def test_predictions_of_unequal_lengths_or_odd_labels_are_refused():
    with pytest.raises(ValueError, match="one length"):
        metrics.Predictions(np.zeros(3), np.zeros(2), np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="sample 1 has 2"):
        metrics.Predictions(np.zeros(2), np.array([0, 2]), np.zeros(2), np.zeros(2))


def test_paired_test_is_the_one_sided_t_test_of_the_gains():
    better, worse = [0.9, 0.93, 0.91, 0.95], [0.89, 0.9, 0.91, 0.92]
    found = metrics.paired_test(better, worse)
    gains = np.subtract(better, worse)
    t = gains.mean() / (gains.std(ddof=1) / np.sqrt(4))
    assert found["p_value"] == pytest.approx(scipy.stats.t.sf(t, df=3))
    assert found["difference"] == pytest.approx(gains.mean())


def test_paired_test_at_its_limits():
    assert np.isnan(metrics.paired_test([0.9], [0.8])["p_value"])
    assert metrics.paired_test([2.0, 3.0], [1.0, 2.0])["p_value"] == 0.0
    assert metrics.paired_test([0.5, 0.5], [0.5, 0.5])["p_value"] == 1.0
    with pytest.raises(ValueError, match="same seeds"):
        metrics.paired_test([0.9, 0.8], [0.9])


def test_requests_are_ranked_by_their_discounted_gain_and_first_click():
    requests = np.array([7, 7, 7, 3, 3, 5])
    labels = np.array([0, 1, 1, 0, 1, 1])  # request 5 has clicks alone
    scores = np.array([0.9, 0.5, 0.1, 0.2, 0.2, 0.4])  # request 3 ties: its click comes last
    ndcg, mrr = metrics.request_ranking(labels, scores, requests, k=2)
    discounts = 1 / np.log2([2, 3])
    assert ndcg == pytest.approx((discounts[1] / discounts.sum() + discounts[1]) / 2)
    assert mrr == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert np.isnan(metrics.request_ranking(labels[5:], scores[5:], requests[5:])).all()


def test_weights_count_samples_as_often_as_they_weigh():
    rng = np.random.default_rng(3)
    labels, logits = rng.integers(0, 2, 41), np.round(rng.normal(size=41), 1)
    weights = rng.integers(0, 4, 41)
    repeated = [np.repeat(values, weights) for values in (labels, logits)]
    assert metrics.weighted_auc(labels, logits, weights) == pytest.approx(metrics.auc(*repeated))
    loss = metrics.weighted_log_loss(labels, logits, weights)
    assert loss == pytest.approx(metrics.log_loss(*repeated))
    assert np.isnan(metrics.weighted_auc(labels, logits, labels * 1.0))
    assert np.isnan(metrics.weighted_log_loss(labels, logits, 0.0 * weights))


def test_calibrated_log_loss_is_that_of_the_log_before_negatives_were_dropped():
    # Of 1,000 samples with one click in ten, a tenth of the negatives was kept; the model knows the rest.
    labels = np.repeat([1, 0], [100, 90])
    logit = np.log(100 / 90)
    rates = np.full(190, 0.1)
    expected = -(0.1 * np.log(0.1) + 0.9 * np.log(0.9))
    loss = metrics.calibrated_log_loss(labels, np.full(190, logit), rates)
    assert loss == pytest.approx(expected)
    probability = 100 / 190
    corrected = probability / (probability + (1 - probability) / 0.1)
    assert corrected == pytest.approx(0.1)
    same = metrics.calibrated_log_loss(labels, np.full(190, logit), np.ones(190))
    assert same == pytest.approx(metrics.log_loss(labels, np.full(190, logit)))
