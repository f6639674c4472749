"""Evaluates a trained run on a split of a prepared data set and prints a table of its metrics.

    python -m experiments.evaluate --data_dir=D --model_dir=M --split=test

`--json` prints the metrics as JSON. `--predictions=FILE` writes the score of every example as CSV or Parquet, the
table of `experiments.predict`.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags

from dgin_tf.commands import command_line
from dgin_tf.inputs.pipeline import BatchOptions
from dgin_tf.records import SPLITS
from dgin_tf.training import loop
from dgin_tf.training.evaluation import Evaluator, predictions_of, summary_of
from experiments.running import predictions, runs
from experiments.running.program import versions

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "A run, or a folder of seeds.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", SPLITS, "Split to score.")
_JSON = flags.DEFINE_boolean("json", False, "Print the metrics as JSON.")
_PREDICTIONS = flags.DEFINE_string(
    "predictions", None, "A .csv or .parquet file for the score of every example."
)

_COLUMNS = {
    "examples": "{:,.0f}",
    "auc": "{:.4f}",
    "gauc": "{:.4f}",
    "log_loss": "{:.4f}",
    "calibration": "{:.3f}",
}
# Of data that has requests, weights, or rates of negatives.
_OPTIONAL_COLUMNS = (
    "request_gauc",
    "ndcg_10",
    "mrr",
    "weighted_auc",
    "weighted_log_loss",
    "calibrated_log_loss",
)


def main(_: object) -> None:
    """Scores the split, prints its metrics, and writes the predictions where they are asked for."""
    if _PREDICTIONS.value:
        predictions.claim_file(_PREDICTIONS.value)
    data = runs.open_data(_DATA_DIR.value, _MODEL_DIR.value)
    model, config = runs.load_model(_MODEL_DIR.value, data)
    options = BatchOptions(config["evaluation_rows"], config["data"]["max_history"])
    columns = predictions.columns(data) if _PREDICTIONS.value else {}
    evaluator = Evaluator(model, list(columns.values()))
    with data.naming_damage():
        batches = data.evaluation(_SPLIT.value, options, model.input_transforms)
        scores = evaluator.score(batches)
    result = summary_of(predictions_of(scores))
    if _PREDICTIONS.value:
        table = predictions.table(scores, columns, data)
        predictions.write(table, _PREDICTIONS.value)
    if _JSON.value:
        content = {**loop.without_nan(result), "versions": versions()}
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return
    sys.stdout.write(f"{config['model']['name']}, {_SPLIT.value} split\n{_text(result)}")
    if _PREDICTIONS.value:
        sys.stdout.write(f"{len(table):,} scores in {_PREDICTIONS.value}\n")


def _text(result: Mapping[str, Any]) -> str:
    """Metrics as a table: of all examples, and by the number of events in their history."""
    forms = _COLUMNS | {name: "{:.4f}" for name in _OPTIONAL_COLUMNS if name in result}
    rows = {"all": result, **result["by_history_length"]}
    lines = [["history length", *(name.replace("_", " ") for name in forms)]]
    for name, values in rows.items():
        cells = [
            form.format(values[column]) if np.isfinite(values[column]) else "-"
            for column, form in forms.items()
        ]
        lines.append([name, *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]) + "\n"
        for first, *rest in lines
    )


if __name__ == "__main__":
    command_line.run(main)
