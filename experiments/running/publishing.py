"""Outputs of a trained run: an exported bundle, and a report with plots."""

import json
import os
import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.inspection import plots, traces
from dgin_tf.inspection.report import REPORT_FILE, Report, add_result
from dgin_tf.models.base import CTRModel
from dgin_tf.ownership import claim
from dgin_tf.serving.export.bundle import Release, check_base, export_bundle
from dgin_tf.training.loop import RESULT_FILE, read_result
from experiments.running import runs

_ATTENTION, _EVOLUTION = "attention", "evolution"  # names of plots
_TYPICAL_LENGTH = 40  # events: enough for an interest to evolve, few enough to be drawn


def export_run(
    model_dir: str | os.PathLike, data: PreparedData, export_dir: str | os.PathLike, name: str = ""
) -> pathlib.Path:
    """Exports the best weights of a run as the next version of a bundle.

    Args:
      model_dir: a run, or a model directory, whose first seed is taken.
      data: the data set that it was trained on.
      export_dir: base path of the versions.
      name: of the model for servers; its own where empty.

    Returns:
      The directory of the new version.
    """
    run_dir = runs.find_run(model_dir)
    check_base(export_dir)  # before seconds of loading
    model, config = runs.load_model(run_dir, data)
    max_history = config["data"]["max_history"]
    release = Release(name or config["model"]["name"], data.data_dir, max_history, config)
    return export_bundle(model, release, export_dir)


def write_report(
    model_dir: str | os.PathLike,
    data: PreparedData,
    output_dir: str | os.PathLike = "",
    users: int = 3,
    candidates: int = 4,
    split: str = "test",
) -> pathlib.Path:
    """Writes the report of a trained run: metrics, curves, and plots of some users.

    Args:
      model_dir: a run, or a model directory, whose first seed is taken.
      data: the data set that it was trained on.
      output_dir: for the report and its PNG files; the run's directory where empty.
      users: number of users to draw.
      candidates: number of candidates for each.
      split: name of the split that the users are of.

    Returns:
      The path of `report.html`.
    """
    run_dir = runs.find_run(model_dir)
    numbers = range(1, users + 1)
    names = [f"user-{number}-{name}.png" for number in numbers for name in (_ATTENTION, _EVOLUTION)]
    folder = claim(
        output_dir or run_dir, "a report of a model", [REPORT_FILE, "lengths.png", *names]
    )
    model, config = runs.load_model(run_dir, data)
    report = Report(f"{config['model']['name']}: {run_dir}")
    if (run_dir / RESULT_FILE).is_file():
        add_result(report, read_result(run_dir))
    options = BatchOptions(config["evaluation_rows"], config["data"]["max_history"])
    # The first batches are enough for a histogram and for users of a typical length.
    with data.naming_damage():
        batches = [dict(batch) for batch in data.evaluation(split, options).take(20)]
    lengths = np.concatenate([_lengths(batch) for batch in batches])
    report.section("Histories", "Lengths of the histories of the first batches, in events.")
    _add(report, folder, "lengths", plots.length_histogram(lengths))
    batch = min(batches, key=lambda batch: np.abs(_lengths(batch) - _TYPICAL_LENGTH).min())
    nearest = np.argsort(np.abs(_lengths(batch) - _TYPICAL_LENGTH), kind="stable")
    for number, row in enumerate(nearest[:users], start=1):
        if _lengths(batch)[row] > 0:  # neither padding nor a user without events
            features = traces.with_candidates(batch, int(row), candidates, data.schema)
            report.section(f"User {number}")
            for name, figure in draw_user(model, features, traces.Names(data.data_dir)).items():
                _add(report, folder, f"user-{number}-{name}", figure)
    report.section("Settings")  # last, since they are long
    report.preformatted(json.dumps(config, indent=2))
    return report.save(folder)


def draw_user(
    model: CTRModel, features: Mapping[str, tf.Tensor], names: traces.Names
) -> dict[str, Figure]:
    """Plots of one history against some candidates.

    Args:
      model: any model; one without attention has no plots.
      features: a batch of one row without padding in its history, see `traces.with_candidates`.
      names: raw values of ids.

    Returns:
      `attention`, and `evolution` (the paper's figure 3) for a DIEN.
    """
    trace = traces.trace(model, features)
    if trace.attention is None:
        return {}
    events = traces.event_names(trace.features, model.schema, names)
    candidate_names = traces.candidate_names(trace.features, model.schema, names)
    labels = [
        f"{name}: {probability:.3f}"
        for name, probability in zip(candidate_names, trace.probabilities[0], strict=True)
    ]
    figures = {_ATTENTION: plots.attention_over_events(trace.attention[0], events, labels)}
    if traces.has_evolution(model):
        paths, weights = traces.trace_evolution(model, features)
        targets = [plots.NO_TARGET, *labels]
        figures[_EVOLUTION] = plots.interest_evolution(paths[0], weights[0], targets, events)
    return figures


def _lengths(batch: Mapping[str, tf.Tensor]) -> np.ndarray:
    """Numbers of events of real rows, -1 for rows that are all padding, [users]."""
    length = batch["hist_mask"].numpy().sum(axis=1)
    return np.where(batch["cand_mask"].numpy().any(axis=1), length, -1)


def _add(report: Report, folder: pathlib.Path, name: str, figure: Figure) -> None:
    """Adds a plot to the report, and writes it beside it as a PNG file."""
    (folder / f"{name}.png").write_bytes(plots.to_png(figure))
    report.picture(figure, name)
