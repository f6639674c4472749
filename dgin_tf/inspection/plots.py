"""Plots of trained models: attention over events, evolving interests, clusters, groups, slots.

Every function draws and returns a matplotlib figure of its own, without a display and without
touching pyplot's global state.
"""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

NO_TARGET = "no target: equal attention"  # "None" in the paper's figure 3
_MAX_LABELS = 60  # of more events than these, the strongest are drawn
_LABEL_LENGTH = 44
_PIXELS_PER_INCH = 140
CSS_PIXELS_PER_INCH = 100  # a figure is shown at this size, and drawn finer
SMALL, TEXT, TITLE = 8, 9, 10  # font sizes in points
_MARKED, _OTHER = "C1", "C0"


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
    attention: np.ndarray,
    events: Sequence[str],
    candidates: Sequence[str],
    marked: np.ndarray | None = None,
    mark: str = "",
    what: str = "past event",
) -> Figure:
    """Attention of each candidate to past events: a row an event, a column of bars a candidate.

    Of more than 60 events, those 60 are drawn that any candidate attends to most, with their numbers.

    Args:
      attention: [candidates, time], oldest event first.
      events: names of the events, [time].
      candidates: names of the candidates, [candidates].
      marked: events that are drawn in another color, bool [candidates, time].
      mark: what these are, for the legend.
      what: what a row is, where the history is one of groups.

    Raises:
      ValueError: there are not as many names as events or candidates.
    """
    _check_names(attention, events, candidates)
    rows = list(range(len(events)))
    if len(events) > _MAX_LABELS:
        strongest = np.argsort(-attention.max(axis=0), kind="stable")[:_MAX_LABELS]
        rows = sorted(strongest.tolist())
    labels = [_label(events[row]) for row in rows]
    if len(rows) < len(events):
        labels = [f"{_label(events[row], 36)}  #{row + 1}" for row in rows]
    width = max(_gutter(labels) + 1.75 * len(candidates), 6.0)
    height = 1.5 + 0.17 * max(len(rows), 5)
    figure, axes = new_figure(width, height, 1, len(candidates), sharex=True, squeeze=False)
    is_marked = np.zeros(attention.shape, bool) if marked is None else marked
    for number, (axis, name) in enumerate(zip(axes[0], candidates, strict=True)):
        colors = np.where(is_marked[number, rows], _MARKED, _OTHER)
        axis.barh(range(len(rows)), attention[number, rows], color=colors.tolist())
        axis.set_title(_wrap(name), fontsize=SMALL, loc="left")
        axis.set_xlabel("attention", fontsize=SMALL)
        axis.locator_params(axis="x", nbins=4)
        axis.grid(axis="x", color="0.9")
        axis.set_axisbelow(True)
        # Marked events are seen where their bars are short, too.
        marks = np.flatnonzero(is_marked[number, rows])
        axis.plot(np.zeros(len(marks)), marks, "s", color=_MARKED, markersize=4)
        tidy(axis)
        # Axes that share their ticks would each get room for the labels.
        axis.set_yticks(range(len(rows)), [""] * len(rows) if number else labels, fontsize=SMALL)
        axis.set_ylim(max(len(rows), 1) - 0.5, -0.5)  # the oldest above
    axes[0, 0].set_ylabel(f"{what}, the newest below", fontsize=SMALL)
    if is_marked.any():
        patches = [Patch(color=_MARKED, label=mark), Patch(color=_OTHER, label=f"another {what}")]
        figure.legend(
            handles=patches, loc="outside lower left", fontsize=SMALL, ncols=2, frameon=False
        )
    return figure


def weights_by_name(
    weights: np.ndarray,
    names: Sequence[str],
    candidates: Sequence[str],
    label: str,
    title: str = "",
) -> Figure:
    """Weights as a map of colors, a row a name and a column a candidate, with their figures.

    Args:
      weights: [candidates, names].
      names: of the rows: clusters, groups, slots.
      candidates: of the columns.
      label: what a weight is, for the bar of colors.
      title: above the map.

    Raises:
      ValueError: there are not as many names as weights.
    """
    _check_names(weights, names, candidates)
    labels = [_label(name, 60) for name in names]
    width = _gutter(labels) + 1.6 + 1.45 * len(candidates)
    figure, axis = new_figure(width, 1.8 + 0.26 * len(names))
    image = axis.imshow(weights.T, aspect="auto", cmap="Blues", vmin=0.0)
    middle = 0.6 * max(float(weights.max(initial=0.0)), 1e-12)
    for column, row in np.ndindex(weights.shape):
        value = weights[column, row]
        shade = "white" if value > middle else "0.2"
        axis.text(
            column, row, f"{value:.2f}", ha="center", va="center", color=shade, fontsize=SMALL
        )
    axis.set_yticks(range(len(names)), labels, fontsize=SMALL)
    axis.set_xticks(
        range(len(candidates)), [_wrap(name, 18) for name in candidates], fontsize=SMALL
    )
    axis.set_title(title, fontsize=TITLE, loc="left")
    _colorbar(figure, image, axis, label)
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
    steps = np.arange(1, attention.shape[1] + 1)
    _check_names(attention, list(events) or list(map(str, steps)), candidates)
    flat = principal_components(paths.reshape(-1, paths.shape[-1])).reshape(*paths.shape[:2], 2)
    figure, (states, lines) = new_figure(8.6, 4.8, 1, 2)
    colors = iter(f"C{number}" for number in range(len(candidates)))
    for number, name in enumerate(candidates):
        is_none = name == NO_TARGET
        style = {"color": "0.4", "linestyle": "--"} if is_none else {"color": next(colors)}
        states.plot(*flat[number].T, marker="o", markersize=2.5, linewidth=1, label=name, **style)
        # Every path starts at the same point; a larger mark is where it ends.
        states.plot(*flat[number, -1], marker="o", markersize=7, color=style["color"])
        lines.plot(steps, attention[number], marker=".", linewidth=1, label=name, **style)
    states.set_title("(a) hidden states, a mark an event", fontsize=TITLE, loc="left")
    states.set_xlabel("first principal component", fontsize=SMALL)
    states.set_ylabel("second principal component", fontsize=SMALL)
    lines.set_title("(b) attention to each event", fontsize=TITLE, loc="left")
    lines.set_xlabel("number of the past event, oldest first", fontsize=SMALL)
    lines.set_ylabel("attention", fontsize=SMALL)
    for axis in (states, lines):
        tidy(axis)
    handles, labels = states.get_legend_handles_labels()
    labels = [_label(label) for label in labels]
    figure.legend(handles, labels, fontsize=SMALL, loc="outside lower left", ncols=2, frameon=False)
    return figure


def retrieved_events(
    retrievals: Mapping[str, np.ndarray], events: Sequence[str], title: str = ""
) -> Figure:
    """Past events that search units retrieve for one candidate: a row an event, a column of marks a unit.

    Args:
      retrievals: unit -> bool [time], oldest event first.
      events: names of the events, [time].
      title: the candidate.

    Raises:
      ValueError: there are not as many names as events.
    """
    marks = np.stack(list(retrievals.values()))  # [units, time]
    _check_names(marks, events, list(retrievals))
    labels = [_label(event) for event in events] if len(events) <= _MAX_LABELS else []
    height = 1.3 + 0.17 * min(max(len(events), 5), _MAX_LABELS)
    figure, axis = new_figure(_gutter(labels) + 1.0 * len(retrievals), height)
    for column, unit in enumerate(marks):
        axis.scatter(np.full(unit.sum(), column), np.flatnonzero(unit), marker="s", s=18)
    names = [f"{name}\n{unit.sum()}" for name, unit in zip(retrievals, marks, strict=True)]
    axis.set_xticks(range(len(retrievals)), names)
    axis.set_xlim(-0.5, len(retrievals) - 0.5)
    axis.set_xlabel("search unit, and number of events that it retrieves", fontsize=SMALL)
    if labels:
        axis.set_yticks(range(len(events)), labels)
    axis.set_ylim(max(len(events), 1) - 0.5, -0.5)  # the oldest above
    axis.set_ylabel("past event, the newest below", fontsize=SMALL)
    axis.grid(axis="y", color="0.93")
    axis.set_axisbelow(True)
    axis.set_title(_label(title, 90), fontsize=TITLE, loc="left")
    tidy(axis)
    return figure


def search_recall(units: Mapping[str, Mapping[str, float]]) -> Figure:
    """Recall of full target attention by each unit; argument as `searches.recall` returns it."""
    figure, axis = new_figure(3.0 + 1.1 * len(units), 3.4)
    places = np.arange(len(units))
    labels = {"recall": "of the events of highest attention", "attention": "of the attention"}
    for shift, (name, label) in zip((-0.2, 0.2), labels.items(), strict=True):
        axis.bar(places + shift, [unit[name] for unit in units.values()], 0.4, label=label)
    axis.set_xticks(places, list(units), fontsize=TEXT)
    axis.set_ylim(0.0, 1.0)
    axis.set_ylabel("share that the unit retrieves", fontsize=SMALL)
    axis.set_xlabel("search unit", fontsize=SMALL)
    tidy(axis)
    figure.legend(fontsize=SMALL, loc="outside upper left", ncols=2, frameon=False)
    return figure


def slot_use(models: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """Figure 6 of the MIMN paper: share of the write weight of each slot, for several models.

    Args:
      models: name -> share of the slots, the most used first, [slots].
      title: whose writing it is.
    """
    slots = max(map(len, models.values()))
    figure, axis = new_figure(3.0 + 0.55 * slots, 3.4)
    width = 0.8 / len(models)
    for number, (name, shares) in enumerate(models.items()):
        places = np.arange(1, len(shares) + 1) + (number - (len(models) - 1) / 2) * width
        axis.bar(places, shares, width, label=name)
    axis.axhline(1.0 / slots, color="0.4", linestyle="--", linewidth=1, label="all slots alike")
    axis.set_xticks(range(1, slots + 1))
    axis.set_xlabel("slot, the most used first", fontsize=SMALL)
    axis.set_ylabel("share of the writing", fontsize=SMALL)
    axis.set_title(title, fontsize=TITLE, loc="left")
    tidy(axis)
    axis.legend(fontsize=SMALL, frameon=False)
    return figure


def slot_writing(writing: np.ndarray, events: Sequence[str], slots: Sequence[str]) -> Figure:
    """Write weights of a memory as a map of colors, a row an event and a column a slot.

    Args:
      writing: write weights, [time, slots], oldest event first; of more than 60 events the newest are
        drawn.
      events: names of the events, [time].
      slots: names of the slots, [slots].

    Raises:
      ValueError: there are not as many names as events or slots.
    """
    _check_names(writing.T, events, slots)
    writing, events = writing[-_MAX_LABELS:], list(events)[-_MAX_LABELS:]
    labels = [_label(event) for event in events]
    figure, axis = new_figure(
        _gutter(labels) + 1.6 + 0.55 * len(slots), 1.6 + 0.17 * max(len(events), 5)
    )
    image = axis.imshow(writing, aspect="auto", cmap="Blues", interpolation="nearest")
    axis.set_yticks(range(len(events)), labels, fontsize=SMALL)
    axis.set_ylabel("past event, the newest below", fontsize=SMALL)
    axis.set_xticks(range(len(slots)), slots, fontsize=SMALL)
    axis.set_xlabel("slot", fontsize=SMALL)
    _colorbar(figure, image, axis, "write weight of the event")
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
    figure, axis = new_figure(8.0, 5.4)
    flat = principal_components(points)  # [time, 2]
    largest = max(float(np.max(weights, initial=0.0)), 1e-12)
    names = cluster_names(assignment, labels)
    for color, (number, name) in enumerate(names.items()):
        members = assignment == number
        size = 12 + 150 * weights[members] / largest
        style = {"color": f"C{color % 10}", "alpha": 0.7, "label": _literal(name)}
        axis.scatter(flat[members, 0], flat[members, 1], size, **style)
    axis.set_xlabel("first principal component of the embedded events", fontsize=SMALL)
    axis.set_ylabel("second principal component", fontsize=SMALL)
    axis.set_title(
        f"{len(names)} clusters; the larger, the more weight", fontsize=TITLE, loc="left"
    )
    tidy(axis)
    legend = figure.legend(fontsize=SMALL, loc="outside right upper", frameon=False)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([30])  # that of the first event would be its weight's
    return figure


def cluster_names(assignment: np.ndarray, labels: Sequence[str]) -> dict[int, str]:
    """Number of each cluster -> its number of events and its most frequent label.

    Args:
      assignment: number of each event's cluster, [time]; events of none have a negative one.
      labels: names of the events, [time].
    """
    names = {}
    for number in np.unique(assignment[assignment >= 0]).tolist():
        members = assignment == number
        values, counts = np.unique(np.asarray(labels)[members], return_counts=True)
        most = shorten(str(values[counts.argmax()]), 24)
        events = plural(int(members.sum()), "event")
        names[number] = f"cluster {number}: {events}, most of {most}"
    return names


def grouping_lengths(
    quantiles: Sequence[tuple[float, int, int]], sizes: Sequence[tuple[str, float]]
) -> Figure:
    """Lengths of histories before and after grouping, and how large the groups are (DGIN, figure 1).

    Args:
      quantiles: (quantile, events, groups), as `group_lengths.at_quantiles` gives them.
      sizes: (class, share of the groups), as `group_lengths.size_shares` gives them.
    """
    figure, (left, right) = new_figure(10, 3.6, 1, 2)
    ranks, before, after = zip(*quantiles, strict=True)
    place = np.arange(len(ranks))
    left.bar(place - 0.2, before, 0.4, label="events")
    left.bar(place + 0.2, after, 0.4, label="groups")
    left.set_xticks(place, [f"{rank:.0%}" for rank in ranks], fontsize=SMALL)
    left.set_yscale("log")
    left.set_xlabel("quantile of histories by length", fontsize=SMALL)
    left.set_ylabel("length of the history", fontsize=SMALL)
    left.legend(fontsize=SMALL, frameon=False)
    names, shares = zip(*sizes, strict=True)
    right.bar(names, shares)
    right.set_xlabel("events in a group", fontsize=SMALL)
    right.set_ylabel("share of the groups", fontsize=SMALL)
    for axis in (left, right):
        tidy(axis)
    return figure


def to_png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file of at most 128 colors, a third of the size of one of all."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(128)
    target = io.BytesIO()
    image.save(target, "png", optimize=True)
    return target.getvalue()


def shorten(text: str, length: int = _LABEL_LENGTH) -> str:
    """A text of at most so many characters, with an ellipsis where it was cut."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def _label(text: str, length: int = _LABEL_LENGTH) -> str:
    """A text as a figure shows it: short, and no formula whatever is in it."""
    return _literal(shorten(text, length))


def _literal(text: str) -> str:
    """A text without formulas, which matplotlib finds between dollars; names come from data."""
    return text.replace("$", r"\$")


def plural(count: int, noun: str) -> str:
    """A count with its noun, such as `1 event` and `1,200 events`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def new_figure(width: float, height: float, *grid: int, **options: Any) -> tuple[Figure, Any]:
    """An empty figure and its axes, as `Figure.subplots` gives them."""
    figure = Figure(figsize=(width, height), dpi=_PIXELS_PER_INCH, layout="constrained")
    return figure, figure.subplots(*grid, **options)


def _gutter(labels: Sequence[str]) -> float:
    """Inches that the labels of rows take up on the left."""
    return 0.8 + 0.07 * max(map(len, labels), default=0)


def tidy(axis: Any) -> None:
    """Takes away the frame above and on the right, and makes ticks small."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=SMALL)


def _colorbar(figure: Figure, image: Any, axis: Any, label: str) -> None:
    bar = figure.colorbar(image, ax=axis, shrink=0.8)
    bar.set_label(label, fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)


def _wrap(text: str, width: int = 24) -> str:
    """A text in lines of at most so many characters, three at most."""
    lines = textwrap.wrap(text, width) or [""]
    lines = [*lines[:2], shorten(" ".join(lines[2:]), width)] if lines[2:] else lines
    return _literal("\n".join(lines))


def _check_names(attention, events, candidates) -> None:
    if attention.shape != (len(candidates), len(events)):
        raise ValueError(
            f"expected attention for {len(candidates)} candidates and {len(events)} events, as many "
            f"as there are names; got {attention.shape}."
        )
