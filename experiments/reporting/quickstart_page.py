"""The quickstart's `report.html`: from the log to a served model, in pictures."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from data_prep.outputs import CARD_FILE
from data_prep.synthetic import Truth
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.inspection import causes, curves, plots, traces
from dgin_tf.inspection.report import METRIC_MEANINGS, REPORT_FILE, Report, add_metrics
from dgin_tf.models.base import CTRModel
from dgin_tf.records import SPLITS
from dgin_tf.serving.export.bundle import usage
from dgin_tf.training.loop import RESULT_FILE
from experiments.running import runs

_ROWS = 128  # of a batch
_SHORTEST, _LONGEST = 20, 40  # events of the user who is shown
_FEWEST_CAUSES = 3
_TEST = "test"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the quickstart's steps gave.

    Attributes:
      results: model -> common result of its run.
      versions: model -> directory of its exported version.
      ranking: name, probability and label of one user's candidates, most probable first.
      truth: causes of the log's events; None for a real log.
    """

    results: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, pathlib.Path]
    ranking: Sequence[tuple[str, float, bool]]
    truth: Truth | None


class _Example(NamedTuple):
    """A batch, the number of a row, and the causes of its click among its events, None where unknown."""

    batch: Mapping[str, tf.Tensor]
    row: int
    is_cause: np.ndarray | None


def write_page(
    folder: pathlib.Path,
    data: PreparedData,
    outcome: Outcome,
    pages: Mapping[str, pathlib.Path],
) -> tuple[pathlib.Path, dict[str, causes.CauseShares]]:
    """Writes the page.

    Args:
      folder: of the quickstart, with a folder for each model.
      data: the data set.
      outcome: of the steps.
      pages: model -> its own report.

    Returns:
      The page's path, and model -> its attention on the true causes; none for a real log.
    """
    report = Report("From a raw log to a served model")
    report.paragraph(
        "DIN (Zhou et al., 2018) attends to the past events that resemble a candidate. DIEN (Zhou et "
        "al., 2019) also follows how interests evolve from event to event. Both were trained on the "
        "log below to tell a user's next click from an item that the user did not choose; this page "
        "shows how well they do it and what they look at."
    )
    _add_log(report, data, outcome)
    _add_training(report, folder, outcome)
    models = {name: runs.load_model(folder / name, data)[0] for name in outcome.results}
    options = BatchOptions(_ROWS, _max_history(outcome))
    finder, shares = None, {}
    if outcome.truth is not None:
        finder = causes.CauseFinder(data.data_dir, _TEST, outcome.truth)
        for name, model in models.items():
            batches = data.evaluation(_TEST, options)
            shares[name] = causes.mean_shares(model, batches, finder)
    example = _example(data.evaluation(_TEST, options), finder)
    _add_timeline(report, models, data, example, shares)
    report.section(
        "One user's candidates, ranked",
        "The exported DIEN, loaded in a fresh process by TensorFlow alone, scored the user's own next "
        "click (orange) among items that other users clicked. The bars are probabilities of a click.",
    )
    report.probabilities(outcome.ranking)
    _add_exports(report, outcome, folder)
    report.section("Next steps")
    report.links(
        {
            **{
                _relative(page, folder): (
                    f"The page of {name.upper()}",
                    "its metrics, learning curves, and attention for three users.",
                )
                for name, page in pages.items()
            },
            _relative(pathlib.Path(data.data_dir) / REPORT_FILE, folder): (
                "The data card",
                "what became of every line of the log, and the leak checks.",
            ),
        }
    )
    report.paragraph(
        "The same command runs on a log of yours: name its layout by --dataset and its files by "
        "--input. To train another model of the papers on this data set, and to see what it does:"
    )
    data_dir, model_dir = folder / "data", folder / "sim_hard"
    report.preformatted(
        "python -m experiments.train --config=experiments/running/defaults.py:sim_hard "
        f"--data_dir={data_dir} --model_dir={model_dir} --config.model.short_events=10\n"
        f"python -m experiments.inspect_model --data_dir={data_dir} --model_dir={model_dir}"
    )
    return report.save(folder), shares


def _add_log(report: Report, data: PreparedData, outcome: Outcome) -> None:
    card = json.loads((pathlib.Path(data.data_dir) / CARD_FILE).read_text(encoding="utf-8"))
    log, splits = card["histories"], card["splits"]
    kind = "The log" if outcome.truth is None else "The log is synthetic, and it"
    rows = ", ".join(f"{splits[name]['rows']:,} for {name}" for name in SPLITS if name in splits)
    report.section(
        "The log",
        f"{kind} has {log['events']:,} events of {log['users']:,} users on "
        f"{card['vocabulary']['items']:,} items. A user's newest clicks became questions, each with the "
        f"history before it and a negative, an item that the user did not choose: {rows}. Users of "
        "the test split are in no other one.",
    )
    figure = curves.history_lengths(splits["train"]["history_lengths"], _max_history(outcome))
    report.picture(
        figure,
        "Lengths of the histories in the training split, in intervals that double. Beyond the "
        "dashed line the models read the newest events alone.",
    )
    names, counts = card["behavior_types"], log["behaviors"]
    if len(names) > 1:
        counts = counts + [0] * (len(names) - len(counts))
        report.picture(
            curves.counts_by_name(dict(zip(names, counts, strict=True)), "events"),
            "Events of the log by behavior type.",
        )


def _add_training(report: Report, folder: pathlib.Path, outcome: Outcome) -> None:
    histories = {
        name.upper(): json.loads((runs.find_run(folder / name) / RESULT_FILE).read_text())[
            "history"
        ]
        for name in outcome.results
    }
    report.section("Learning")
    report.picture(
        curves.learning_curves(histories),
        "A mark is the end of an epoch. The loss of the clicks is a training loss, lower is better; "
        "AUC and GAUC are of the validation split, higher is better. DIEN's auxiliary loss, which asks "
        "each hidden state for the next event, has an axis of its own: it sums over all past events.",
    )
    report.section(
        "How well they predict",
        "The test split was scored once, with the weights that did best on the validation split.",
    )
    add_metrics(
        report, {name.upper(): result["test"] for name, result in outcome.results.items()}, "model"
    )
    report.definitions(METRIC_MEANINGS)
    lengths = {
        name.upper(): result["test"]["by_history_length"]
        for name, result in outcome.results.items()
    }
    report.picture(
        curves.metric_by_length(lengths),
        "AUC of the test examples by the length of their histories; below each interval its number of "
        "examples, of which few make a noisy AUC.",
    )


def _add_timeline(
    report: Report,
    models: Mapping[str, CTRModel],
    data: PreparedData,
    example: _Example,
    shares: Mapping[str, causes.CauseShares],
) -> None:
    batch, row, is_cause = example
    report.section("What the models look at")
    if shares:
        chance = next(iter(shares.values())).chance
        has = " and ".join(f"{name.upper()} {share.share:.0%}" for name, share in shares.items())
        report.paragraph(
            "The synthetic log has on record which past events caused each click. Of their attention, "
            f"{has} lie on the true causes, where equal attention would have {chance:.0%} (mean over "
            f"{next(iter(shares.values())).clicks:,} clicks of the test split that have a cause). "
            "Nobody told the models about causes: they were trained on clicks alone."
        )
    user = traces.with_candidates(batch, row, 1, data.schema)
    rows = {name: traces.trace(model, user) for name, model in models.items()}
    first = next(iter(rows.values()))
    names = traces.Names(data.data_dir)
    events = traces.event_names(first.features, data.schema, names)
    (clicked,) = traces.candidate_names(first.features, data.schema, names)
    attention = np.stack([_normalized(trace.array("attention")[0, 0]) for trace in rows.values()])
    labels = [f"{name.upper()}: {trace.probabilities[0, 0]:.3f}" for name, trace in rows.items()]
    marked = None if is_cause is None else np.stack([is_cause] * len(rows))
    figure = plots.attention_over_events(attention, events, labels, marked, "a true cause")
    told = "" if is_cause is None else " Orange events are the true causes of the click."
    report.picture(
        figure,
        f"One test user's history from the oldest event to the newest, and the attention of each model "
        f"to it when it scores the user's next click ({clicked}); beside the models' names are their "
        f"probabilities. Attention is drawn as shares that sum to one.{told}",
    )


def _add_exports(report: Report, outcome: Outcome, folder: pathlib.Path) -> None:
    report.section(
        "What was exported",
        "A version of each model that loads with TensorFlow alone: scores from padded ids or from "
        "records, and, apart, what depends on the user and what depends on the candidates.",
    )
    rows = [
        [
            name.upper(),
            _relative(version, folder),
            f"{_bytes(version) / 1e6:.1f} MB",
            result["parameters"],
        ]
        for (name, version), result in zip(
            outcome.versions.items(), outcome.results.values(), strict=True
        )
    ]
    report.table(["model", "folder", "size", "parameters"], rows)
    report.paragraph("DIEN's state, the commands that serve it, and one that asks it for scores:")
    report.preformatted(usage(outcome.versions["dien"]))


def _example(
    batches: Iterable[Mapping[str, tf.Tensor]], finder: causes.CauseFinder | None
) -> _Example:
    """The first row of a length that can be drawn, and with several causes.

    Where none is so, the first one with events.
    """
    fallback: _Example | None = None
    for batch in batches:
        features = {name: value.numpy() for name, value in batch.items()}
        length = features["hist_mask"].sum(axis=1)
        is_real = features["cand_mask"].any(axis=1) & (length > 0)
        masks: Any = None  # [users, time]
        enough: np.ndarray = is_real & (length >= _SHORTEST) & (length <= _LONGEST)
        if finder is not None:
            # A row has one clicked candidate.
            masks = finder.masks(features).any(axis=1)
            count = masks.sum(axis=1)
            enough &= (count >= _FEWEST_CAUSES) & (count <= length // 2)
        for is_wanted in (enough, is_real):
            if is_wanted.any():
                row = int(is_wanted.argmax())
                own = None if masks is None else masks[row, : length[row]]
                if is_wanted is enough:
                    return _Example(batch, row, own)
                fallback = fallback or _Example(batch, row, own)
    if fallback is None:
        raise ValueError("expected a test split with histories; all its rows are empty.")
    return fallback


def _normalized(attention: np.ndarray) -> np.ndarray:
    """Attention by size, as shares; DIN's scores are no distribution and may be negative."""
    weights = np.abs(attention)
    return weights / max(float(weights.sum()), 1e-12)


def _max_history(outcome: Outcome) -> int:
    return next(iter(outcome.results.values()))["config"]["data"]["max_history"]


def _bytes(folder: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _relative(path: pathlib.Path, folder: pathlib.Path) -> str:
    return pathlib.PurePath(os.path.relpath(path, folder)).as_posix()
