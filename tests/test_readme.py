"""The figures that README shows are those of the committed results."""

import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments/results"
# README gives three digits of the four that the committed tables print.
ROUNDING = 0.0005 + 1e-9


def section(start, end):
    """README's text between two marks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text[text.index(start) : text.index(end, text.index(start))]


def table(text):
    """Rows of the first table in a text, as cells, without the rule under its head."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip(" *") for cell in cells] for cells in lines if "--" not in cells[0]]


def committed_row(label):
    """AUC, its deviation and the authors' AUC of a model in the committed table."""
    text = (RESULTS / "dien_movielens_popular.md").read_text(encoding="utf-8")
    head, *rows = table(text)
    (cells,) = [cells for cells in rows[: rows.index(head)] if cells[0] == label]
    auc, deviation = cells[head.index("popular: AUC")].split(" ± ")
    return float(auc), float(deviation), cells[head.index("authors' code")]


LABELS, FIGURES = table(section("**Accuracy**", "The whole tables"))


@pytest.mark.parametrize(("label", "figures"), list(zip(LABELS, FIGURES, strict=True)))
def test_an_auc_is_that_of_the_committed_table(label, figures):
    auc, deviation, authors = committed_row(label)
    shown = [float(figure) for figure in re.findall(r"\.\d{3}", figures)]
    assert shown[:2] == pytest.approx([auc, deviation], abs=ROUNDING)
    assert shown[2:] == ([] if authors == "-" else [float(authors)])


def test_every_rate_is_a_median_of_the_committed_benchmark():
    medians = {cells[1] for cells in table((RESULTS / "benchmark.md").read_text())}
    speed = section("**Speed**", "## Serving")
    shown = re.findall(r"(\d[\d,]+) examples/s", speed)
    shown += re.findall(r"\d+,\d+", " ".join(" ".join(row[1:]) for row in table(speed)[1:]))
    assert len(shown) > 10
    assert set(shown) <= medians


def test_the_seeds_that_the_text_names_are_those_of_their_file():
    # The sentence goes when the tables have the row.
    for first, second, name in re.findall(
        r"gave (\.\d{3}) and (\.\d{3}) \(`(\w+\.json)`", section("## Results", "## Serving")
    ):
        seeds = json.loads((RESULTS / name).read_text(encoding="utf-8"))["seeds"]
        aucs = sorted(seed["test"]["auc"] for seed in seeds)
        assert sorted(map(float, (first, second))) == pytest.approx(aucs, abs=ROUNDING)
