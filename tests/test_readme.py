"""The figures that docs/ and the results' own README show are those of the committed results."""

import itertools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments/results"
SHORT_PAGE = ROOT / "docs/results.md"
# They give three digits of the four that the committed tables print.
ROUNDING = 0.0005 + 1e-9


def section(start, end, path=RESULTS / "README.md"):
    """The text of a README between two marks."""
    text = path.read_text(encoding="utf-8")
    return text[text.index(start) : text.index(end, text.index(start))]


def table(text):
    """Rows of the first table in a text, as cells, without the rule under its head."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip(" *") for cell in cells] for cells in lines if "--" not in cells[0]]


# The tables of accuracy: first words, first words behind it, and for each column the committed
# tables that it is from and what the data set is called there.
ACCURACY = (
    (
        "**Accuracy**",
        "The whole tables",
        {
            "popular": ("dien_movielens_popular.md", "popular"),
            "uniform": ("dien_movielens_uniform.md", "uniform"),
        },
    ),
    (
        "**SIM and later searches**",
        "Figures of a public",
        {
            "popular": ("sim_movielens.md", "popular"),
            "uniform": ("sim_movielens.md", "uniform"),
            "deep_500": ("sim_synthetic_500.md", "deep_500"),
        },
    ),
    (
        "**DGIN**, a synthetic log",
        "Figures of `lifelong`",
        {
            "lifelong": ("dgin_synthetic.md", "lifelong"),
            "taobao": ("dgin_small_logs.md", "taobao"),
            "grocery": ("dgin_small_logs.md", "grocery"),
            "uniform": ("dgin_movielens_uniform.md", "uniform"),
            "popular": ("dgin_movielens_popular.md", "popular"),
        },
    ),
    (
        "**ENCODE**, whole users",
        "ENCODE's mean is",
        {
            "ml_1m": ("encode_movielens_1m.md", "ml_1m"),
            "ml_small": ("encode_movielens_small.md", "ml_small"),
        },
    ),
    (
        "**MIMN and other memories**",
        "Embedding&MLP < DIN < MIMN",
        {
            "popular": ("mimn_movielens_popular.md", "popular"),
            "uniform": ("mimn_movielens_uniform.md", "uniform"),
            "deep_500": ("mimn_synthetic_200.md", "deep_500"),
        },
    ),
)


def committed_rows(file, name):
    """Label -> AUC, its deviation and public code's AUC, of the committed tables of a data set."""
    found = {}
    text = (RESULTS / file).read_text(encoding="utf-8")
    for part in text.split("### ")[1:]:
        head, *rows = table(part)
        if f"{name}: AUC" in head:
            start = head.index(f"{name}: AUC")  # the columns behind it are called alike everywhere
            for cells in rows:
                row = dict(zip(head[start : start + 6], cells[start : start + 6], strict=True))
                public = row.get("public code", "-")  # no column where nobody has a figure
                auc, _, deviation = row[f"{name}: AUC"].partition(" ± ")
                if re.fullmatch(r"[\d.]+", auc):
                    found[cells[0]] = float(auc), float(deviation) if deviation else None, public
    return found


def cells():
    """(label, file, data set, cell) of every accuracy that is shown."""
    for start, end, columns in ACCURACY:
        head, *rows = table(section(start, end))
        for label, *shown in rows:
            for name, cell in zip(head[1:], shown, strict=True):
                if cell:
                    yield label, *columns[name], cell


@pytest.mark.parametrize(("label", "file", "name", "cell"), list(cells()))
def test_an_auc_is_that_of_the_committed_table(label, file, name, cell):
    auc, deviation, public = committed_rows(file, name)[label]
    shown = [float(figure) for figure in re.findall(r"\.\d{3}", cell)]
    ours = [auc] if deviation is None else [auc, deviation]  # one seed has none
    assert shown[: len(ours)] == pytest.approx(ours, abs=ROUNDING)
    assert shown[len(ours) :] == ([] if public == "-" else [float(public)])


@pytest.mark.parametrize(
    ("file", "name"), [place for *_, columns in ACCURACY for place in columns.values()]
)
def test_no_committed_row_is_left_out(file, name):
    committed = committed_rows(file, name)
    shown = {committed[label] for label, *place, _ in cells() if place == [file, name]}
    assert shown == set(committed.values())  # a row may have another label in another table


# What the short table takes its rows from: its words for the data -> file and data set.
SHORT = {
    "MovieLens-1M, popular negatives": ("dien_movielens_popular.md", "popular"),
    "500 events, synthetic": ("sim_synthetic_500.md", "deep_500"),
    "MovieLens-1M, uniform negatives": ("mimn_movielens_uniform.md", "uniform"),
    "800 events of all types, synthetic": ("dgin_synthetic.md", "lifelong"),
    "MovieLens-1M, every rating an example": ("encode_movielens_1m.md", "ml_1m"),
}


def short_rows():
    """Rows of the short table: paper, data, best baseline, the paper's model."""
    return table(section("# Results in short", "## Speed", SHORT_PAGE))[1:]


def test_the_short_table_is_of_committed_rows():
    assert len(short_rows()) == len(SHORT)
    for _, data, *shown in short_rows():
        committed = committed_rows(*SHORT[data])
        for cell in shown:
            label, auc, deviation = re.fullmatch(r"(.+) (\.\d{3}) ± (\.\d{3})", cell).groups()
            wanted = committed[label][:2]
            assert [float(auc), float(deviation)] == pytest.approx(wanted, abs=ROUNDING)


# The short table's words for the data -> beginnings of rows that are no baselines: the paper's own, upper bounds.
OWN = {
    "MovieLens-1M, popular negatives": ("DIEN", "BaseModel + GRU"),
    "500 events, synthetic": ("SIM", "DIN-L"),
    "MovieLens-1M, uniform negatives": ("MIMN",),
    "800 events of all types, synthetic": ("DGIN", "+", "click-only", "category_id", "item_id"),
    "MovieLens-1M, every rating an example": (
        *("ENCODE", "DIN-L", "ETA-", "Within", "None", "MSE", "N-pair", "Triplets", "Random"),
        *("Dynamic", "Agglomerative", *"123456789"),
    ),
}


def test_the_short_table_compares_with_the_best_baseline_of_the_committed_one():
    for _, data, baseline, ours in short_rows():
        committed = committed_rows(*SHORT[data])
        baselines = {
            name: row[0] for name, row in committed.items() if not name.startswith(OWN[data])
        }
        assert baseline.startswith(max(baselines, key=baselines.get))
        assert ours.startswith(OWN[data][0])


def test_the_picture_shows_the_short_table():
    drawing = (ROOT / "docs/images/results.svg").read_text(encoding="utf-8")
    shown = [cell.partition(" ±")[0] for row in short_rows() for cell in row[2:]]
    assert len(shown) == 10
    assert [
        text for text in shown if f">{text}<" not in drawing
    ] == []  # run docs/images/draw_results.py


def test_ratios_of_the_short_text_are_those_of_the_details():
    short = section("Two cores, no GPU: DIN trains", "## More", SHORT_PAGE)
    details = section("**Speed**", "Groups (")
    for ratio in re.search(r"DIN trains ([\d.]+) and DIEN ([\d.]+) times", short).groups():
        assert f"({ratio}x released" in details
    requests = rows_of("benchmark_requests.md")
    milliseconds = [
        f"{float(requests[f'sim_hard paper request 1x1000, {events} events'][6]):.0f} ms"
        for events in ("1,000", "54,000")
    ]
    assert re.findall(r"\d+ ms", short) == milliseconds
    (ratio,) = re.findall(r"events ([\d.]+) times as fast", short)
    assert f"{ratio} times DIN-L's rate" in section("Groups (", "ENCODE (`")


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
        ("with utilization and induction", "mimn_full paper"),
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
    for label, *shown in table(section("Requests end to end", "Groups ("))[1:]:
        for events, cell in zip(("1,000", "54,000"), shown, strict=True):
            row = committed[f"{names[label]} paper request 1x1000, {events} events"]
            assert cell == f"{row[6]} / {row[7]}"


MEMORY = (12, 10)  # columns: tensors of a step, and what the process holds more, without oneDNN


def test_what_is_said_of_groups_is_in_their_benchmark():
    runs = [rows_of(f"benchmark_groups{name}.md") for name in ("", "_without_onednn")]
    requests = rows_of("benchmark_groups_requests.md")
    names = {"DGIN": "dgin", "DIN-L, attention over everything": "din_long"}
    names["SIM, hard search"] = "sim_hard"
    text = section("Groups (", "ENCODE (`")
    for label, *measured, request in table(text)[1:]:
        steps = [run.get(f"{names[label]} paper step 128x2") for run in runs]
        wanted = [
            cell
            for step, column in zip(steps, MEMORY, strict=True)
            if step
            for cell in (step[1], f"{step[column]} MiB")
        ]
        assert [cell for cell in measured if cell] == wanted
        if request:
            times = [
                requests[f"{names[label]} paper request 1x500, {events} events"][6]
                for events in ("1,000", "54,000")
            ]
            assert request == f"{' / '.join(times)} ms"
    said = re.findall(r"([\d.]+) times(?: DIN-L's rate)? at ([\d.]+)%", " ".join(text.split()))
    compared = itertools.product(("128x2", "256x1"), zip(runs, MEMORY, strict=True))
    for (times, share), (users, (run, memory)) in zip(said, compared, strict=True):
        ours, theirs = (run[f"{name} paper step {users}"] for name in ("dgin", "din_long"))
        rates, memories = (
            [float(row[column].replace(",", "")) for row in (ours, theirs)]
            for column in (1, memory)
        )
        assert abs(rates[0] / rates[1] - float(times)) < 0.2
        assert abs(100 * memories[0] / memories[1] - float(share)) < 0.6


def test_what_is_said_of_serving_states_is_in_its_benchmarks():
    text = section("ENCODE (`benchmark_online.md`)", "With 54,000 events each")
    online, center = rows_of("benchmark_online.md"), rows_of("benchmark_center.md")
    extraction, clusters = rows_of("benchmark_extraction.md"), rows_of("benchmark_clusters.md")
    for case in ("extract", "export"):
        assert extraction[f"encode paper {case}, 256 (users/s)"][1] in text
    rate = {name: float(row[1].replace(",", "")) for name, row in clusters.items() if "x2" in name}
    for model, said in (("encode", "2.8"), ("avg_pooling_long_din", "1.3")):
        assert f"{rate['eta paper step 512x2'] / rate[f'{model} paper step 512x2']:.1f}" == said
        assert f"in {said} times" in text
    for model in ("encode", "avg_pooling_long_din", "din_long"):
        assert online[f"{model} paper score 1x3000, state cached"][6] in text
    row = center["mimn_full paper center, batches of 1024 (events/s)"]
    assert f"{row[1]} events/s" in text
    assert f"{row[7]} ms" in text
