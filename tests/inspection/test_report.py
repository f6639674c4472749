"""A report is one page that needs nothing else, and shows text as text."""

import re

from dgin_tf.inspection import curves
from dgin_tf.inspection.report import METRIC_MEANINGS, Report, add_metrics, add_result

FIGURES = {"auc": 0.71, "gauc": None, "log_loss": 0.4, "calibration": 1.0, "examples": 6}
RESULT = {
    "best_epoch": 1,
    "validation": FIGURES,
    "test": {**FIGURES, "by_history_length": {"1-9": FIGURES, "10-49": FIGURES}},
    "history": [{"step": 2, "losses": {"loss": 0.7}, "validation": FIGURES}],
}


def test_a_page_refers_to_nothing_outside(tmp_path):
    report = Report("a run")
    add_result(report, RESULT)
    report.picture(curves.learning_curves({"run": RESULT["history"]}), "curves")
    page = report.save(tmp_path).read_text()
    assert page.count("data:image/png;base64,") == 3  # and those of the result: by length, curves
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_figures_are_listed_overall_and_by_length_and_missing_ones_are_dashes(tmp_path):
    report = Report("a run")
    add_result(report, RESULT)
    page = report.save(tmp_path).read_text()
    assert "<td>10-49</td><td>0.7100</td><td>-</td>" in page


def test_text_of_the_data_is_never_markup(tmp_path):
    report = Report("<b>")
    report.section("<i>", "a < b")
    report.table(["<th>"], [["<script>"]])
    report.preformatted("</pre>")
    page = report.save(tmp_path).read_text()
    assert not re.search(r"<script>|<i>|<b>", page)
    assert "&lt;script&gt;" in page


def test_counts_are_integers_and_metrics_are_explained(tmp_path):
    report = Report("a run")
    add_metrics(report, {"test": {**FIGURES, "examples": 6146.0}})  # a mean over seeds
    report.table(["rows"], [[1234567]])
    page = report.save(tmp_path).read_text()
    assert "<td>6,146</td>" in page
    assert "<td>1,234,567</td>" in page
    assert set(METRIC_MEANINGS) == {"AUC", "GAUC", "log loss", "calibration", "examples"}


def test_links_are_relative_addresses(tmp_path):
    report = Report("pages")
    report.links({"din/seed 1/report.html": ("DIN", "its page")})
    page = report.save(tmp_path).read_text()
    assert '<a href="din/seed%201/report.html">DIN</a>: its page' in page


def test_the_auxiliary_loss_has_an_axis_of_its_own():
    losses = {"loss": 54.0, "target": 0.5, "auxiliary": 53.5}
    entry = {"step": 2, "losses": losses, "validation": FIGURES}
    figure = curves.learning_curves({"dien": [entry, {**entry, "step": 4}]})
    drawn = {axis.get_title(loc="left"): axis.lines for axis in figure.axes if axis.get_visible()}
    assert [line.get_ydata().tolist() for line in drawn["training, auxiliary loss"]] == [[53.5] * 2]
    assert [len(lines) for lines in drawn.values()] == [1] * 5
    assert all(axis.get_xlabel() == "training step" for axis in figure.axes if axis.get_visible())
