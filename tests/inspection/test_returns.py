"""Days till the last event of the category, on a history that can be read at a glance."""

import numpy as np
import pytest

from dgin_tf.inspection.returns import days_since, distribution, ranked_first, summarize

DAY = 86_400
FEATURES = {
    "hist_category_id": np.array([[5, 7, 5, 0], [6, 0, 0, 0], [0, 0, 0, 0]]),
    "hist_timestamp": np.array([[1, 3, 8, 0], [2, 0, 0, 0], [0, 0, 0, 0]]) * DAY,
    "hist_mask": np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool),
    "cand_category_id": np.array([[5, 7, 9], [6, 0, 5], [5, 6, 7]]),
    "cand_timestamp": np.array([[10, 10, 10], [30, 30, 30], [9, 9, 9]]) * DAY + 100,
}


def test_days_are_counted_from_the_last_event_of_the_category():
    found = days_since(FEATURES)
    np.testing.assert_array_equal(found, [[2, 7, -1], [28, -1, -1], [-1, -1, -1]])


def test_a_part_of_a_day_is_none():
    late = {**FEATURES, "cand_timestamp": FEATURES["cand_timestamp"] - 101}
    assert days_since(late)[0, 0] == 1


def test_the_batch_of_users_without_a_time_axis_has_met_nothing():
    empty = {k: v[:, :0] if k.startswith("hist_") else v for k, v in FEATURES.items()}
    assert np.all(days_since(empty) == -1)


def test_the_table_averages_days_over_those_who_came_back():
    found = summarize(np.array([2, 7, -1, 28, -1]))
    assert found.mean == pytest.approx(37 / 3)
    assert (found.share, found.long_term, found.samples) == (0.6, 0.2, 5)
    assert np.isnan(summarize(np.array([])).mean)


def test_the_figure_has_a_share_for_never_and_for_every_interval():
    found = distribution(np.array([-1, 0, 0, 3, 7, 50]), boundaries=(0, 1, 7))
    np.testing.assert_allclose(found, np.array([1, 2, 1, 2]) / 6)


def test_each_row_has_one_real_candidate_in_front():
    logits = np.array([[0.1, 0.9, 5.0], [3.0, 1.0, 2.0], [1.0, 1.0, 1.0]])
    mask = np.array([[True, True, False], [True, True, True], [False, False, False]])
    np.testing.assert_array_equal(ranked_first(logits, mask), [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
