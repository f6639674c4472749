"""Plots of runs and logs: every bar and mark is a figure of the data."""

import numpy as np

from dgin_tf.inspection import curves, plots

PNG = b"\x89PNG\r\n"
AUC = {"auc": 0.7, "gauc": None, "log_loss": 0.5, "examples": 7}


def test_curves_of_two_runs_share_their_axes():
    entry = {"step": 3, "losses": {"loss": 1.0, "target": 0.9}, "validation": AUC}
    runs = {"din": [entry, {**entry, "step": 5}], "dien": [entry]}
    figure = curves.learning_curves(runs)
    assert [len(axis.lines) for axis in figure.axes if axis.get_visible()] == [2, 2, 2, 2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["din", "dien"]
    assert plots.to_png(figure).startswith(PNG)


def test_a_metric_has_a_bar_a_run_and_interval_and_the_number_of_examples_below():
    runs = {"din": {"1-9": AUC, "10-19": AUC}, "dien": {"1-9": AUC}}
    figure = curves.metric_by_length(runs)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    np.testing.assert_array_equal(heights, [0.7, 0.7, 0.7, np.nan])
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["1-9\n7", "10-19\n7"]


def test_lengths_are_counted_in_intervals_that_double():
    assert curves.length_counts(np.array([0, 1, 1, 2, 3, 4, 7, 8])) == [1, 2, 2, 2, 1]


def test_a_histogram_has_the_counts_and_says_where_histories_are_cut():
    figure = curves.history_lengths([0, 9, 22, 93], max_history=5)
    assert [bar.get_height() for bar in figure.axes[0].patches] == [9, 22, 93]
    assert [text.get_text().strip() for text in figure.axes[0].texts][-1] == "cut to the newest 5"
    assert curves.history_lengths([3]).axes  # empty histories alone are a picture too


def test_no_line_is_drawn_where_no_history_is_cut():
    assert not curves.history_lengths([0, 9, 22, 93], max_history=8).axes[0].lines


def test_counts_have_their_shares_beside_them():
    figure = curves.counts_by_name({"pv": 3, "buy": 1}, "events")
    assert [t.get_text().strip() for t in figure.axes[0].texts] == ["3 (75.0%)", "1 (25.0%)"]
