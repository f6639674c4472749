"""Outputs of a trained run: an exported bundle, and a report with plots."""

import json
import os
import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.inspection import curves, plots, traces, views
from dgin_tf.inspection.report import REPORT_FILE, Report, add_result
from dgin_tf.ownership import claim
from dgin_tf.records import POSITION, decode_record, read_records, shard_paths
from dgin_tf.serving.export.bundle import Release, check_base, export_bundle
from dgin_tf.state_types import FLOAT32
from dgin_tf.training.loop import RESULT_FILE, read_result
from experiments.running import runs
from experiments.running.state_rounding import Rounding, measure_rounding

_BATCHES = 20  # of a split, among which users of a typical length are


def export_run(
    model_dir: str | os.PathLike,
    data: PreparedData,
    export_dir: str | os.PathLike,
    name: str = "",
    state_type: str = FLOAT32,
) -> pathlib.Path:
    """Exports the best weights of a run as the next version of a bundle.

    Args:
      model_dir: a run, or a model directory, whose first seed is taken.
      data: the data set that it was trained on.
      export_dir: base path of the versions.
      name: of the model for servers; its own where empty.
      state_type: number type that users' states are stored in, of `dgin_tf.state_types`.

    Returns:
      The directory of the new version.
    """
    run_dir = runs.find_run(model_dir)
    check_base(export_dir)  # before seconds of loading
    model, config = runs.load_model(run_dir, data)
    max_history = config["data"]["max_history"]
    name = name or config["model"]["name"]
    release = Release(name, data.data_dir, max_history, config, state_type)
    return export_bundle(model, release, export_dir)


def measure_states(model_dir: str | os.PathLike, data: PreparedData, state_type: str) -> Rounding:
    """What a state type costs a run's best weights on validation, see `measure_rounding`."""
    model, config = runs.load_model(runs.find_run(model_dir), data)
    options = BatchOptions(config["evaluation_rows"], config["data"]["max_history"])
    return measure_rounding(model, data, options, state_type)


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
    files = [f"user-{number}-{name}.png" for number in numbers for name in views.PICTURES]
    folder = claim(
        output_dir or run_dir, "a report of a model", [REPORT_FILE, "lengths.png", *files]
    )
    model, config = runs.load_model(run_dir, data)
    name, max_history = config["model"]["name"], config["data"]["max_history"]
    report = Report(f"{name}: {run_dir}")
    if (run_dir / RESULT_FILE).is_file():
        add_result(report, read_result(run_dir))
    lengths = history_lengths(data, split)
    report.section(f"Histories of the {split} split")
    cut = int((lengths > max_history).sum())
    caption = f"All {len(lengths):,} histories of the split by number of events. " + (
        f"{cut:,} of them ({cut / len(lengths):.0%}) are longer than max_history = {max_history:,}: "
        "of these the model reads the newest events alone."
        if cut
        else f"None is longer than max_history = {max_history:,}: the model reads all events."
    )
    figure = curves.history_lengths(curves.length_counts(lengths), max_history)
    _add(report, folder, "lengths", figure, caption)
    options = BatchOptions(config["evaluation_rows"], max_history)
    wanted = views.drawn_length(model)
    names = traces.Names(data.data_dir)
    for number, (batch, row) in enumerate(typical_rows(data, split, options, wanted)[:users], 1):
        features = traces.with_candidates(batch, row, candidates, data.schema)
        pictures = views.user_pictures(model, features, names)
        if pictures:
            events = features["hist_mask"].shape[1]
            report.section(
                f"User {number}",
                f"{plots.plural(events, 'past event')} against {features['cand_mask'].shape[1]} candidates: the "
                "user's own next click first, then negatives and items that other users clicked.",
            )
        for picture in pictures:
            caption = picture.caption
            _add(report, folder, f"user-{number}-{picture.name}", picture.figure, caption)
    report.section("Settings", "Of the run's config.json.")  # last, since they are long
    report.preformatted(json.dumps(config, indent=2))
    return report.save(folder)


def typical_rows(
    data: PreparedData, split: str, options: BatchOptions, wanted: int
) -> list[tuple[Mapping[str, tf.Tensor], int]]:
    """Rows of one batch of a split, those whose histories are nearest to a length first.

    Args:
      data: the data set.
      split: name of the split.
      options: how batches are made.
      wanted: number of events.

    Returns:
      Batch and number of the row, a row a user; neither padding nor rows without events.
    """
    # Batches are in the order of their lengths; evenly spaced ones have histories of all lengths.
    spacing = max(data.steps(split, options) // _BATCHES, 1)
    batches = [dict(b) for b in data.evaluation(split, options).shard(spacing, spacing - 1)]
    lengths = [_lengths(batch) for batch in batches]
    nearest = int(np.argmin([np.abs(length - wanted).min() for length in lengths]))
    batch, length = batches[nearest], lengths[nearest]
    order = np.argsort(np.abs(length - wanted), kind="stable")
    users = batch["user_id"].numpy() if "user_id" in batch else np.arange(len(length))
    rows: dict[int, int] = {}  # one row a user
    for row in order[length[order] > 0]:
        rows.setdefault(int(users[row]), int(row))
    return [(batch, row) for row in rows.values()]


def history_lengths(data: PreparedData, split: str) -> np.ndarray:
    """Number of events of every history of a split, before a model cuts it, [rows]."""
    # Batches hold padding rows too, and cut histories.
    records = (
        decode_record(data.schema, payload)
        for path in shard_paths(data.data_dir, data.shards(split))
        for payload in read_records(path)
    )
    return np.concatenate([np.unique(record[POSITION]) for record in records])


def _lengths(batch: Mapping[str, tf.Tensor]) -> np.ndarray:
    """Numbers of events of real rows, -1 for rows that are all padding, [users]."""
    length = batch["hist_mask"].numpy().sum(axis=1)
    return np.where(batch["cand_mask"].numpy().any(axis=1), length, -1)


def _add(report: Report, folder: pathlib.Path, name: str, figure: Figure, caption: str) -> None:
    """Adds a plot to the report, and writes it beside it as a PNG file."""
    (folder / f"{name}.png").write_bytes(plots.to_png(figure))
    report.picture(figure, caption)
