"""Plots of trained models: attention over events, evolving interests, curves, lengths.

Every function draws and returns a matplotlib figure of its own, without a display and without
touching pyplot's global state.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

NO_TARGET = "None"  # the paper's name for equal attention
_MAX_LABELS = 60  # with more events than these, labels would overlap
_LABEL_LENGTH = 40
_PIXELS_PER_INCH = 90


def principal_components(points: np.ndarray, count: int = 2) -> np.ndarray:
    """Projects points on the directions of their largest variance.

    Args:
      points: [points, dim].
      count: number of components.

    Returns:
      [points, count]; each direction's largest coordinate is positive, so that the same points
      always give the same picture. Components beyond the rank are zero.
    """
    left, singular, _ = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    scores = (left * singular)[:, :count]  # coordinates along the right singular vectors
    if not scores.size:
        return np.zeros((len(points), count))
    # An SVD leaves the sign of every direction open.
    largest = np.abs(scores).argmax(axis=0)
    scores = scores * np.where(scores[largest, range(scores.shape[1])] < 0, -1.0, 1.0)
    return np.pad(scores, ((0, 0), (0, count - scores.shape[1])))


def attention_over_events(
    attention: np.ndarray, events: Sequence[str], candidates: Sequence[str]
) -> Figure:
    """Attention of each candidate to past events, one row of bars a candidate.

    Args:
      attention: [candidates, time], oldest event first.
      events: names of the events, [time].
      candidates: names of the candidates, [candidates].

    Raises:
      ValueError: there are not as many names as events or candidates.
    """
    _check_names(attention, events, candidates)
    width = min(4 + 0.18 * len(events), 24)
    figure, axes = _figure(
        width, 1.2 + 1.1 * len(candidates), len(candidates), sharex=True, squeeze=False
    )
    for number, (axis, name) in enumerate(zip(axes[:, 0], candidates, strict=True)):
        axis.bar(range(len(events)), attention[number], color=f"C{number}")
        axis.set_title(name[:_LABEL_LENGTH], fontsize=8, loc="left", pad=2)
        axis.tick_params(labelsize=7)
    _name_events(axes[-1, 0], events)
    return figure


def interest_evolution(
    paths: np.ndarray, attention: np.ndarray, candidates: Sequence[str], events: Sequence[str] = ()
) -> Figure:
    """Figure 3 of the DIEN paper: (a) hidden states of AUGRU, (b) attention, for several targets.

    Args:
      paths: evolving states h'_t, [candidates, time, units].
      attention: a_t, [candidates, time].
      candidates: names of the targets, `NO_TARGET` among them where it is, [candidates].
      events: names of the events, [time]; their numbers where left out.

    Raises:
      ValueError: the arrays do not fit each other.
    """
    if paths.shape[:2] != attention.shape:
        raise ValueError(
            "expected paths [candidates, time, units] and attention [candidates, time]; got "
            f"{paths.shape} and {attention.shape}."
        )
    events = list(events) or [str(step + 1) for step in range(attention.shape[1])]
    _check_names(attention, events, candidates)
    flat = principal_components(paths.reshape(-1, paths.shape[-1])).reshape(*paths.shape[:2], 2)
    figure, (states, bars) = _figure(13, 5.5, 1, 2)
    width = 0.8 / len(candidates)
    colors = iter(f"C{number}" for number in range(len(candidates)))  # as in attention's bars
    for number, name in enumerate(candidates):
        is_none = name == NO_TARGET
        style = {"color": "0.4", "linestyle": "--"} if is_none else {"color": next(colors)}
        states.plot(*flat[number].T, marker="o", markersize=3, label=name[:_LABEL_LENGTH], **style)
        states.annotate("end", flat[number, -1], fontsize=7)
        places = np.arange(len(events)) + (number - (len(candidates) - 1) / 2) * width
        bars.bar(places, attention[number], width, color=style["color"])
    states.set_title("(a) states of the evolving recurrence, two principal components", fontsize=9)
    bars.set_title("(b) attention on the past events", fontsize=9)
    states.legend(fontsize=7)
    _name_events(bars, events)
    return figure


def retrieved_events(
    retrievals: Mapping[str, np.ndarray], events: Sequence[str], title: str = ""
) -> Figure:
    """Past events that search units retrieve for one candidate: a row of marks a unit.

    Args:
      retrievals: unit -> bool [time], oldest event first.
      events: names of the events, [time].
      title: the candidate.

    Raises:
      ValueError: there are not as many names as events.
    """
    marks = np.stack(list(retrievals.values()))  # [units, time]
    _check_names(marks, events, list(retrievals))
    figure, axis = _figure(min(4 + 0.18 * len(events), 24), 1.5 + 0.35 * len(retrievals))
    for row, unit in enumerate(marks):
        axis.scatter(np.flatnonzero(unit), np.full(unit.sum(), row), marker="s", s=18)
    axis.set_yticks(range(len(retrievals)), list(retrievals), fontsize=8)
    axis.set_ylim(len(retrievals) - 0.5, -0.5)
    axis.set_xlim(-0.5, max(len(events), 1) - 0.5)
    axis.set_title(title[:_LABEL_LENGTH], fontsize=9, loc="left")
    _name_events(axis, events)
    return figure


def search_recall(units: Mapping[str, Mapping[str, float]]) -> Figure:
    """Recall of full target attention by each unit; argument as `searches.recall` returns it."""
    figure, axis = _figure(1.5 + 1.1 * len(units), 3.4)
    places = np.arange(len(units))
    for shift, name in ((-0.2, "recall"), (0.2, "attention")):
        axis.bar(places + shift, [unit[name] for unit in units.values()], 0.4, label=name)
    axis.set_xticks(places, list(units), fontsize=8)
    axis.set_ylim(0.0, 1.0)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=7)
    return figure


def slot_use(models: Mapping[str, np.ndarray]) -> Figure:
    """Figure 6 of the MIMN paper: share of the write weight of each slot, for several models.

    Args:
      models: name -> share of the slots, the most used first, [slots].
    """
    figure, axis = _figure(2.5 + 0.5 * max(map(len, models.values())), 3.4)
    width = 0.8 / len(models)
    for number, (name, shares) in enumerate(models.items()):
        places = np.arange(len(shares)) + (number - (len(models) - 1) / 2) * width
        axis.bar(places, shares, width, label=name)
    axis.set_xlabel("slot, the most used first", fontsize=8)
    axis.set_ylabel("share of the writing", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=7)
    return figure


def clusters(
    points: np.ndarray, assignment: np.ndarray, labels: Sequence[str], weights: np.ndarray
) -> Figure:
    """Events in two principal components, colored by cluster, as large as their weight.

    Args:
      points: embedded events, [time, dim].
      assignment: number of each event's cluster, [time].
      labels: names of the events, such as their categories, [time].
      weights: of the events for one candidate, [time].

    Raises:
      ValueError: the arrays do not fit each other.
    """
    if not len(points) == len(assignment) == len(labels) == len(weights):
        raise ValueError(
            "expected a cluster, a label and a weight for each point; got "
            f"{len(points)}, {len(assignment)}, {len(labels)} and {len(weights)}."
        )
    figure, axis = _figure(9, 6)
    flat = principal_components(points)  # [time, 2]
    largest = max(float(np.max(weights, initial=0.0)), 1e-12)
    numbers = np.unique(assignment)
    for color, number in enumerate(numbers):
        members = assignment == number
        size = 12 + 150 * weights[members] / largest
        axis.scatter(flat[members, 0], flat[members, 1], size, color=f"C{color % 10}", alpha=0.7)
        # A cluster is called after its most frequent label.
        names, counts = np.unique(np.asarray(labels)[members], return_counts=True)
        text = str(names[counts.argmax()])[:_LABEL_LENGTH]
        axis.annotate(text, flat[members].mean(axis=0), fontsize=7)
    axis.set_title(f"{len(numbers)} clusters; the larger, the more weight", fontsize=9, loc="left")
    axis.tick_params(labelsize=7)
    return figure


def learning_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Training losses and validation metrics over steps.

    Args:
      history: entries of a run's `result.json`: `step`, `losses`, `validation`.
    """
    steps = [entry["step"] for entry in history]
    metrics = [name for name in ("auc", "gauc", "log_loss") if name in history[0]["validation"]]
    figure, axes = _figure(12, 3.4, 1, 1 + len(metrics))
    for name in history[0]["losses"]:
        axes[0].plot(steps, [entry["losses"][name] for entry in history], "o-", label=name)
    axes[0].set_title("training losses", fontsize=9)
    axes[0].legend(fontsize=7)
    for axis, name in zip(axes[1:], metrics, strict=True):
        values = [entry["validation"][name] for entry in history]
        axis.plot(steps, [np.nan if value is None else value for value in values], "o-")
        axis.set_title(f"validation {name}", fontsize=9)
    for axis in axes:
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
    return figure


def length_histogram(lengths: np.ndarray) -> Figure:
    """Histogram of the lengths of histories, in events, on a logarithmic axis."""
    figure, axis = _figure(6, 3.2)
    longest = max(int(np.max(lengths, initial=1)), 2)
    # A logarithmic axis has no place for zero; empty histories fall into the first bin.
    axis.hist(np.maximum(lengths, 1), bins=np.geomspace(1, longest, 30).tolist())
    axis.set_xscale("log")
    axis.set_xlabel("events in the history", fontsize=8)
    axis.set_ylabel("rows", fontsize=8)
    axis.tick_params(labelsize=7)
    return figure


def grouping_lengths(
    quantiles: Sequence[tuple[float, int, int]], sizes: Sequence[tuple[str, float]]
) -> Figure:
    """Lengths of histories before and after grouping, and how large the groups are (DGIN, figure 1).

    Args:
      quantiles: (quantile, events, groups), as `group_lengths.at_quantiles` gives them.
      sizes: (class, share of the groups), as `group_lengths.size_shares` gives them.
    """
    figure, (left, right) = _figure(10, 3.6, 1, 2)
    ranks, before, after = zip(*quantiles, strict=True)
    place = np.arange(len(ranks))
    left.bar(place - 0.2, before, 0.4, label="events")
    left.bar(place + 0.2, after, 0.4, label="groups")
    left.set_xticks(place, [f"{rank:.0%}" for rank in ranks], fontsize=8)
    left.set_yscale("log")
    left.set_xlabel("quantile of histories by length", fontsize=8)
    left.legend(fontsize=8)
    names, shares = zip(*sizes, strict=True)
    right.bar(names, shares)
    right.set_xlabel("events in a group", fontsize=8)
    right.set_ylabel("share of the groups", fontsize=8)
    return figure


def to_png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    target = io.BytesIO()
    FigureCanvasAgg(figure).print_png(target)
    return target.getvalue()


def _figure(width: float, height: float, *grid: int, **options: Any) -> tuple[Figure, Any]:
    """An empty figure and its axes, as `Figure.subplots` gives them."""
    figure = Figure(figsize=(width, height), dpi=_PIXELS_PER_INCH, layout="constrained")
    return figure, figure.subplots(*grid, **options)


def _name_events(axis, events: Sequence[str]) -> None:
    if len(events) <= _MAX_LABELS:
        labels = [event[:_LABEL_LENGTH] for event in events]
        axis.set_xticks(range(len(events)), labels, rotation=90, fontsize=6)
    else:
        axis.set_xlabel("event, oldest first", fontsize=8)


def _check_names(attention, events, candidates) -> None:
    if attention.shape != (len(candidates), len(events)):
        raise ValueError(
            f"expected attention for {len(candidates)} candidates and {len(events)} events, as many "
            f"as there are names; got {attention.shape}."
        )
