"""Plots: principal components are right, pictures are PNGs, names have to fit."""

import matplotlib.text
import numpy as np
import pytest

from dgin_tf.inspection import plots

PNG = b"\x89PNG\r\n"


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_principal_components_are_the_eigenvectors_of_the_covariance(rng):
    points = rng.normal(size=(53, 7)) * np.arange(1, 8)
    found = plots.principal_components(points)
    values, vectors = np.linalg.eigh(np.cov(points.T))
    expected = (points - points.mean(0)) @ vectors[:, [-1, -2]]
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(found.var(0, ddof=1), values[[-1, -2]])


def test_principal_components_do_not_depend_on_a_shift_or_fail_on_a_line(rng):
    points = np.outer(np.arange(11.0), [3.0, 4.0, 0.0])
    found = plots.principal_components(points + 17.0)
    np.testing.assert_allclose(np.abs(np.diff(found[:, 0])), 5.0)
    np.testing.assert_allclose(found[:, 1], 0.0, atol=1e-9)


def test_a_single_dimension_has_a_second_component_of_zero(rng):
    assert plots.principal_components(rng.normal(size=(5, 1)))[:, 1].tolist() == [0.0] * 5


def test_attention_has_one_row_of_bars_a_candidate(rng):
    figure = plots.attention_over_events(rng.random((3, 5)), list("abcde"), ["x", "y", "z"])
    assert [len(axis.patches) for axis in figure.axes] == [5, 5, 5]
    assert plots.to_png(figure).startswith(PNG)


def test_marked_events_have_another_color_and_a_legend(rng):
    marked = np.array([[True, False, False, True, False]])
    figure = plots.attention_over_events(
        rng.random((1, 5)), list("abcde"), ["x"], marked, "a cause"
    )
    colors = [patch.get_facecolor() for patch in figure.axes[0].patches]
    assert [color == colors[0] for color in colors] == marked[0].tolist()
    assert [text.get_text() for text in figure.legends[0].get_texts()][0] == "a cause"


def test_of_a_long_history_the_strongest_events_are_drawn_in_their_order(rng):
    attention = rng.random((2, 97))
    figure = plots.attention_over_events(attention, [f"e{n}" for n in range(97)], ["x", "y"])
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    strongest = np.sort(np.argsort(-attention.max(axis=0))[:60])
    assert labels == [f"e{n}  #{n + 1}" for n in strongest]


def test_evolution_draws_a_curve_a_target_and_its_attention(rng):
    paths, attention = rng.normal(size=(3, 5, 7)), rng.random((3, 5))
    figure = plots.interest_evolution(paths, attention, [plots.NO_TARGET, "x", "y"])
    states, lines = figure.axes
    # A path a target, and a mark at its end.
    assert [len(line.get_xdata()) for line in states.lines] == [5, 1, 5, 1, 5, 1]
    np.testing.assert_array_equal([line.get_ydata() for line in lines.lines], attention)
    assert "None" not in [text.get_text() for text in figure.legends[0].get_texts()]
    assert plots.to_png(figure).startswith(PNG)


def test_weights_are_written_into_their_cells(rng):
    figure = plots.weights_by_name(np.array([[0.25, 0.75]]), ["a", "b"], ["x"], "weight")
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.25", "0.75"]
    assert plots.to_png(figure).startswith(PNG)


def test_a_cluster_is_called_after_its_most_frequent_label():
    names = plots.cluster_names(np.array([3, -1, 3, 0, 3]), ["a", "b", "b", "c", "a"])
    assert list(names) == [0, 3]
    assert names[3].endswith("3 events, most of a")


def test_names_and_arrays_have_to_fit(rng):
    with pytest.raises(ValueError, match="as many as there are names"):
        plots.attention_over_events(rng.random((3, 5)), ["one"], ["x", "y", "z"])
    with pytest.raises(ValueError, match="expected paths"):
        plots.interest_evolution(rng.random((3, 4, 2)), rng.random((3, 5)), ["x", "y", "z"])


def test_names_with_dollars_are_no_formulas():
    name, weights = "b$^$", np.ones((1, 2))
    figures = [
        plots.attention_over_events(weights, [name, "c"], [name]),
        plots.weights_by_name(weights, [name, "c"], [name], "weight"),
        plots.interest_evolution(np.ones((1, 2, 3)), weights, [name]),
        plots.slot_writing(weights, [name], ["1", "2"]),
        plots.clusters(np.eye(2), np.zeros(2, int), [name, name], np.ones(2)),
        plots.retrieved_events({"unit": np.ones(2, bool)}, [name, "c"], name),
    ]
    for figure in figures:
        assert plots.to_png(figure)
        texts = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
        assert [text for text in texts if "$" in text.replace(r"\$", "")] == []
