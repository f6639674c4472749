"""Draws docs/images/results.svg from the committed results: each paper's model beside its best baseline.

    python docs/images/draw_results.py

A baseline is a row of the paper's table that is neither the paper's model or a part of it, nor the
attention over everything that SIM and ENCODE take as their upper bound.
"""

import json
import pathlib

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt  # noqa: E402

IMAGE = pathlib.Path(__file__).with_name("results.svg")
RESULTS = pathlib.Path(__file__).resolve().parents[2] / "experiments/results"

# Committed file, data set, what the picture calls both, the paper's model, the best baseline.
PAIRS = (
    ("dien_movielens_popular", "popular", "DIEN: MovieLens-1M, popular negatives", "dien"),
    ("sim_synthetic_500", "deep_500", "SIM: 500 events, synthetic", "sim_hard"),
    ("mimn_movielens_uniform", "uniform", "MIMN: MovieLens-1M, uniform negatives", "mimn"),
    ("dgin_synthetic", "lifelong", "DGIN: 800 events, synthetic", "dgin"),
    ("encode_movielens_1m", "ml_1m", "ENCODE: MovieLens-1M, every rating", "encode"),
)
BASELINES = {
    "dien": ("two_layer_gru_attention", "Two-layer GRU attention"),
    "sim_hard": ("eta", "ETA"),
    "mimn": ("arnn", "ARNN"),
    "dgin": ("sim_tm", "SIM-TM"),
    "encode": ("twin", "TWIN"),
}
LABELS = {
    "dien": "DIEN",
    "sim_hard": "SIM(hard)",
    "mimn": "MIMN",
    "dgin": "DGIN",
    "encode": "ENCODE",
}
OURS, THEIRS, TEXT = "#1f5fa8", "#8a8f98", "#24292f"


def points() -> list[tuple[str, list[tuple[str, float, float]]]]:
    """For every pair its title, and (label, test AUC, deviation over seeds) of baseline and model."""
    rows = []
    for file, data, title, model in PAIRS:
        path = RESULTS / f"{file}.json"
        results = json.loads(path.read_text(encoding="utf-8"))["results"][data]
        baseline, baseline_label = BASELINES[model]
        pair = [
            (label, results[key]["test"]["auc"], results[key]["deviation"]["test"]["auc"])
            for key, label in ((baseline, baseline_label), (model, LABELS[model]))
        ]
        rows.append((title, pair))
    return rows


def digits(value: float) -> str:
    """Three digits, as the tables of the documentation have them."""
    return f"{value:.3f}".removeprefix("0")


def draw(path: pathlib.Path = IMAGE) -> None:
    """Writes the picture."""
    # Text stays text, so that a reader can search it, and a test can read the figures.
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "results", "font.size": 10})
    rows = points()
    figure, axes = plt.subplots(figsize=(8.2, 3.9), layout="constrained")
    for y, (_, pair) in zip(range(len(rows) - 1, -1, -1), rows, strict=True):
        axes.plot([auc for _, auc, _ in pair], [y, y], color="#d0d7de", linewidth=2, zorder=1)
        right = max(pair, key=lambda point: point[1])
        for point, color in zip(pair, (THEIRS, OURS), strict=True):
            label, auc, deviation = point
            axes.errorbar(auc, y, xerr=deviation, fmt="o", color=color, capsize=3, markersize=7)
            on_the_right = point == right
            axes.annotate(
                f"{label} {digits(auc)}",
                (auc + (deviation if on_the_right else -deviation), y),
                xytext=(9 if on_the_right else -9, 0),
                textcoords="offset points",
                ha="left" if on_the_right else "right",
                va="center",
                color=color,
            )
    axes.set_yticks(range(len(rows)), [title for title, _ in reversed(rows)], color=TEXT)
    axes.set_xlim(0.56, 1.0)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("test AUC, mean and deviation over seeds", color=TEXT)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, metadata={"Date": None, "Creator": None}, facecolor="white")
    plt.close(figure)


if __name__ == "__main__":
    draw()
