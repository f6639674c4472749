"""The figures that README shows are those of the committed results."""

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


def committed_rows(name):
    """Label -> AUC, its deviation and public code's AUC, of the committed tables of a data set."""
    found = {}
    text = (RESULTS / f"dien_movielens_{name}.md").read_text(encoding="utf-8")
    for part in text.split("### ")[1:]:
        head, *rows = table(part)
        if f"{name}: AUC" in head:
            for cells in rows:
                row = dict(zip(head, cells, strict=True))
                auc, deviation = row[f"{name}: AUC"].split(" ± ")
                found[row["model"]] = float(auc), float(deviation), row["public code"]
    return found


HEAD, *ROWS = table(section("**Accuracy**", "The whole tables"))
CELLS = [(row[0], name, cell) for row in ROWS for name, cell in zip(HEAD[1:], row[1:], strict=True)]


@pytest.mark.parametrize(("label", "name", "cell"), [cell for cell in CELLS if cell[2]])
def test_an_auc_is_that_of_the_committed_table(label, name, cell):
    auc, deviation, public = committed_rows(name)[label]
    shown = [float(figure) for figure in re.findall(r"\.\d{3}", cell)]
    assert shown[:2] == pytest.approx([auc, deviation], abs=ROUNDING)
    assert shown[2:] == ([] if public == "-" else [float(public)])


def test_no_committed_row_is_left_out():
    for name in HEAD[1:]:
        shown = {label for label, data, cell in CELLS if data == name and cell}
        assert shown == set(committed_rows(name))


def medians(name):
    """Second column of every table of a committed benchmark."""
    return {cells[1] for cells in table((RESULTS / name).read_text(encoding="utf-8"))}


def test_every_rate_is_a_median_of_the_committed_benchmark():
    speed = section("**Speed**", "Long histories")
    shown = re.findall(r"(\d[\d,]+) examples/s", speed)
    shown += re.findall(r"\d+,\d+", " ".join(" ".join(row[1:]) for row in table(speed)[1:]))
    assert len(shown) > 10
    assert set(shown) <= medians("benchmark.md")


def test_every_rate_of_long_histories_is_a_median_of_their_benchmark():
    rows = table(section("Long histories", "A public PyTorch"))
    shown = [cell for row in rows[1:] for cell in row[1:]]
    assert len(shown) == 12
    assert set(shown) <= medians("benchmark_long.md")


def rows_of(name):
    """Case -> cells of a committed benchmark."""
    return {cells[0]: cells for cells in table((RESULTS / name).read_text(encoding="utf-8"))}


@pytest.mark.parametrize(
    ("label", "model"),
    [
        ("MIMN's memory alone", "mimn_plain paper"),
        ("with utilisation and induction", "mimn_full paper"),
    ],
)
def test_what_is_said_of_memories_is_in_their_benchmark(label, model):
    (shown,) = (row[1:] for row in table(section("Memories (", "Requests end")) if row[0] == label)
    committed = rows_of("benchmark_memory.md")
    step, score = committed[f"{model} step 128x1"], committed[f"{model} score 128x1"]
    assert shown == [step[1], score[1], f"{step[8]} s", f"{step[9]} MiB"]


def test_times_of_requests_are_those_of_their_benchmark():
    names = {"SIM, hard search": "sim_hard", "SDIM": "sdim", "MIMN": "mimn"}
    committed = rows_of("benchmark_requests.md")
    for label, *shown in table(section("Requests end to end", "With 54,000 events each"))[1:]:
        for events, cell in zip(("1,000", "54,000"), shown, strict=True):
            row = committed[f"{names[label]} paper request 1x1000, {events} events"]
            assert cell == f"{row[6]} / {row[7]}"
