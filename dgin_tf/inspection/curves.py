"""Plots of runs and logs: learning curves, metrics by history length, lengths of histories, counts.

Every function draws and returns a matplotlib figure of its own, as those of `plots` do.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dgin_tf.inspection import plots

_VALIDATION = {"auc": "AUC", "gauc": "GAUC", "log_loss": "log loss"}


def learning_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Training losses and validation metrics over steps, a line a run.

    The loss of the clicks and every auxiliary loss have an axis each: an auxiliary loss sums over all
    past events, and beside it the loss of the clicks would be a line at zero.

    Args:
      histories: name of the run -> entries of its `result.json`: `step`, `losses`, `validation`.
    """
    first = next(iter(histories.values()))
    losses = {name: None for history in histories.values() for name in history[0]["losses"]}
    parts = [name for name in losses if name != "loss"] or list(losses)
    curves = [("losses", name, f"training, {_loss(name)}") for name in parts]
    curves += [
        ("validation", name, f"validation, {text}")
        for name, text in _VALIDATION.items()
        if name in first[0]["validation"]
    ]
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure, axes = plots.new_figure(9.0, 0.5 + 2.5 * rows, rows, columns, squeeze=False)
    for axis, (group, name, title) in zip(axes.flat, curves, strict=False):
        for number, (run, history) in enumerate(histories.items()):
            entries = [entry for entry in history if name in entry[group]]
            steps = [entry["step"] for entry in entries]
            values = [_number(entry[group][name]) for entry in entries]
            axis.plot(steps, values, "o-", color=f"C{number}", markersize=4, label=run)
        axis.set_title(title, fontsize=plots.TITLE, loc="left")
        axis.set_xlabel("training step", fontsize=plots.SMALL)
        plots.tidy(axis)
    for axis in axes.flat[len(curves) :]:
        axis.set_visible(False)
    if len(histories) > 1:
        handles, labels = axes[-1, 0].get_legend_handles_labels()
        options = {"fontsize": plots.SMALL, "frameon": False, "ncols": len(labels)}
        figure.legend(handles, labels, loc="outside lower left", **options)
    return figure


def metric_by_length(
    runs: Mapping[str, Mapping[str, Mapping[str, Any]]], metric: str = "auc", title: str = "AUC"
) -> Figure:
    """A metric in each interval of history length, a bar a run.

    Args:
      runs: name of the run -> interval such as `10-19` -> metrics, `examples` among them.
      metric: which one.
      title: its name on the axis.
    """
    intervals = list(dict.fromkeys(name for metrics in runs.values() for name in metrics))
    figure, axis = plots.new_figure(max(5.5, 1.5 + 1.1 * len(intervals)), 3.4)
    width = 0.8 / len(runs)
    values = np.array(
        [
            [_number(metrics.get(interval, {}).get(metric)) for interval in intervals]
            for metrics in runs.values()
        ]
    )
    for number, (name, row) in enumerate(zip(runs, values, strict=True)):
        places = np.arange(len(intervals)) + (number - (len(runs) - 1) / 2) * width
        axis.bar(places, row, width, label=name)
        for place, value in zip(places, row, strict=True):
            if np.isfinite(value):
                text = f"{value:.3f}".removeprefix("0")
                axis.text(place, value, text, ha="center", va="bottom", fontsize=plots.SMALL)
    examples = [
        next(int(m[interval]["examples"]) for m in runs.values() if interval in m)
        for interval in intervals
    ]
    labels = [f"{name}\n{count:,}" for name, count in zip(intervals, examples, strict=True)]
    axis.set_xticks(range(len(intervals)), labels)
    axis.set_xlabel("events in the history, and number of test examples", fontsize=plots.SMALL)
    axis.set_ylabel(title, fontsize=plots.SMALL)
    lowest = np.nanmin(values) if np.isfinite(values).any() else 0.0
    axis.set_ylim(max(0.0, np.floor(10 * lowest - 0.5) / 10), None)
    plots.tidy(axis)
    if len(runs) > 1:
        figure.legend(fontsize=plots.SMALL, loc="outside upper left", ncols=4, frameon=False)
    return figure


def length_counts(lengths: np.ndarray) -> list[int]:
    """Number of histories of 0, 1, 2-3, 4-7, ... events, as data cards count them.

    Args:
      lengths: of the histories, [rows].
    """
    digits = np.ceil(np.log2(np.asarray(lengths, np.float64) + 1)).astype(np.int64)
    return np.bincount(digits, minlength=1).tolist()


def history_lengths(counts: Sequence[int], max_history: int = 0) -> Figure:
    """Histories by number of events.

    Args:
      counts: number of histories of 0, 1, 2-3, 4-7, ... events, see `length_counts`.
      max_history: events that a model reads at most, marked by a line; 0 for no line.
    """
    first = 0 if counts[0] else 1  # most logs have no empty history
    names = [_length_interval(digits) for digits in range(len(counts))][first:]
    figure, axis = plots.new_figure(max(5.5, 1.2 + 0.75 * len(names)), 3.0)
    bars = axis.bar(range(first, len(counts)), counts[first:])
    axis.bar_label(bars, [f"{count:,}" for count in counts[first:]], fontsize=plots.SMALL)
    axis.set_xticks(range(first, len(counts)), names)
    axis.set_ylim(0, 1.2 * max(*counts, 1))
    axis.set_xlabel("events in the history", fontsize=plots.SMALL)
    axis.set_ylabel("histories", fontsize=plots.SMALL)
    if max_history and max_history < 2 ** (len(counts) - 1):
        # A length of n is log2(n) + 1/2 bars to the right of the left edge of the bar of one event.
        place = np.log2(max_history) + 0.5
        axis.axvline(place, color="C3", linestyle="--")
        axis.annotate(
            f" cut to the newest {max_history:,}",
            (place, 1.0),
            xycoords=("data", "axes fraction"),
            va="top",
            color="C3",
            fontsize=plots.SMALL,
        )
    plots.tidy(axis)
    return figure


def counts_by_name(counts: Mapping[str, int], label: str) -> Figure:
    """Counts as a row of bars each, with their shares.

    Args:
      counts: name -> count.
      label: what is counted.
    """
    total = max(sum(counts.values()), 1)
    figure, axis = plots.new_figure(6.0, 0.9 + 0.32 * len(counts))
    bars = axis.barh(list(counts), list(counts.values()))
    texts = [f" {count:,} ({count / total:.1%})" for count in counts.values()]
    axis.bar_label(bars, texts, fontsize=plots.SMALL)
    axis.set_xlim(0, 1.25 * max(counts.values()))
    axis.set_ylim(len(counts) - 0.5, -0.5)
    axis.set_xlabel(label, fontsize=plots.SMALL)
    plots.tidy(axis)
    return figure


def _loss(name: str) -> str:
    return {"target": "loss of the clicks", "loss": "loss"}.get(name, f"{name} loss")


def _length_interval(digits: int) -> str:
    smallest = 2**digits // 2
    return str(smallest) if digits < 2 else f"{smallest:,}\N{EN DASH}{2 * smallest - 1:,}"


def _number(value: float | None) -> float:
    return np.nan if value is None else value
