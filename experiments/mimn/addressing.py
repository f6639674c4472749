"""Addressing of MIMN's memory, row by row of its settings, on validation.

Eqs. (1)-(8) as printed leave much open, and a memory whose slots are all written alike has one slot:
lambda, the growth of g_t, what L_reg trains, and the sharpness of the addresses decide it (`ROWS`).

    python -m experiments.mimn.addressing --data_dir=D --output_dir=O --epochs=1 --seeds=1 \\
        [--rows="printed+no MUR"] [--config=movielens]

Trains MIMN with each row's settings, except finished runs, and writes `O/addressing.md`: validation AUC,
and what `dgin_tf.inspection.memories.addressing` says of the best weights. The test split has no part in it.

Cost: one core, 67,923 rows of MovieLens-1M: one to two minutes an epoch.
"""

import importlib
import pathlib
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags, logging

from dgin_tf.commands import command_line
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.inspection import memories
from dgin_tf.ownership import claim
from dgin_tf.schema import write_text
from experiments.running import runs

_W_G: dict[str, Any] = {"normalize_usage": True, "stop_gradient": True}
_LEARNED: dict[str, Any] = {**_W_G, "sharpness": 0.0}
ROWS: dict[str, dict[str, Any]] = {
    "printed": {"utilization_weight": 1e-3},
    **{f"printed, lambda 1e-{n}": {"utilization_weight": 10.0**-n} for n in (4, 5, 6, 7)},
    "no MUR": {"utilization_weight": 0.0},
    "no MUR, beta 5": {"utilization_weight": 0.0, "sharpness": 5.0},
    "no MUR, learned": {"utilization_weight": 0.0, "sharpness": 0.0},
    "normalized": {"normalize_usage": True},
    "W_g alone": {"stop_gradient": True},
    "normalized, W_g alone": _W_G,
    "beta 5": {**_W_G, "sharpness": 5.0},
    **{
        f"learned, lambda 1e-{n}": {**_LEARNED, "utilization_weight": 10.0**-n}
        for n in (3, 4, 5, 6, 7)
    },
    "learned, without MIU": {**_LEARNED, "top_k": 0},
    **{f"learned, top {k}": {**_LEARNED, "top_k": k} for k in (2, 4)},
    **{f"learned, {m} slots": {**_LEARNED, "slots": m} for m in (4, 6)},
    "neither": {"utilization_weight": 0.0, "top_k": 0},
    "neither, learned": {"utilization_weight": 0.0, "top_k": 0, "sharpness": 0.0},
}
COLUMNS = ("write_entropy", "largest_read", "effective_slots")
_BATCHES = 8


def measure(run_dir: pathlib.Path, data: PreparedData) -> dict[str, float]:
    """Means of `memories.addressing` over some batches of the validation split."""
    model, config = runs.load_model(run_dir, data)
    options = BatchOptions(config["evaluation_rows"], config["data"]["max_history"])
    batches = data.evaluation("validation", options).take(_BATCHES)
    values = [memories.addressing(model, batch) for batch in batches]
    return {name: statistics.mean(value[name] for value in values) for name in COLUMNS}


def markdown(results: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Formats every row's means over seeds as Markdown."""
    names = ("auc", *COLUMNS)
    lines = [
        "| settings | seeds | validation AUC | write entropy | largest read | effective slots |",
        "|" + " --- |" * 6,
    ]
    for row, entries in results.items():
        means = [statistics.mean(entry[name] for entry in entries) for name in names]
        cells = [
            row,
            str(len(entries)),
            f"{means[0]:.4f}",
            *(f"{value:.3f}" for value in means[1:]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def run(
    config_module: Any,
    data_dir: str,
    output_dir: pathlib.Path,
    rows: Sequence[str],
    seeds: Sequence[int],
    epochs: int,
) -> str:
    """Trains and measures rows, and writes the table after every one; returns it."""
    claim(output_dir, "addressing of a memory", ["addressing.md", "addressing.json"])
    data = PreparedData(data_dir)
    results: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        config = config_module.get_config("mimn")
        config.model.update(ROWS[row])
        config.loop.epochs = epochs
        results[row] = []
        for seed in seeds:
            run_dir = output_dir / row.replace(" ", "_").replace(",", "") / f"seed-{seed}"
            result = runs.train_seed(runs.plain_config(config), data_dir, run_dir, seed)
            with data.naming_damage():
                measures = measure(run_dir, data)
            results[row].append({"auc": result["validation"]["auc"], **measures})
        write_text(output_dir / "addressing.md", markdown(results))
        content = {"results": results, "machine": runs.machine(), "versions": runs.versions()}
        runs.write_json(output_dir / "addressing.json", content)
    return markdown(results)


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags to `values`; not on import, since tests import this module."""
    flags.DEFINE_string("data_dir", None, "Prepared.", flag_values=values, required=True)
    flags.DEFINE_string("output_dir", None, "For runs.", flag_values=values, required=True)
    flags.DEFINE_string("config", "movielens", "Of experiments/mimn.", flag_values=values)
    flags.DEFINE_string("rows", None, "Of ROWS, a + between two; all of them.", flag_values=values)
    flags.DEFINE_integer("seeds", 1, "Of every row.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("epochs", 1, "Of a run.", lower_bound=1, flag_values=values)


def main(_: object) -> None:
    """Runs the sweep."""
    values = flags.FLAGS
    logging.set_verbosity(logging.WARNING)
    rows = values.rows.split("+") if values.rows else list(ROWS)
    if unknown := sorted(set(rows) - set(ROWS)):
        raise ValueError(f"expected rows among {', '.join(ROWS)}; got {', '.join(unknown)}.")
    config_module = importlib.import_module(f"experiments.mimn.{values.config}")
    output_dir, seeds = pathlib.Path(values.output_dir), range(1, 1 + values.seeds)
    text = run(config_module, values.data_dir, output_dir, rows, seeds, values.epochs)
    sys.stdout.write(text)


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    command_line.run(main)
