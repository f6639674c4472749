"""Trains the models of a paper's tables on our data and prints the tables with ours beside theirs.

    python -m experiments.tables --paper=dien --config=movielens --data_dir=uniform=D1,popular=D2 \\
        --output_dir=O --seeds=5 --parallel_seeds=2 [--results=EARLIER/dien.json]

Runs that are finished are not trained again, so a stopped command is continued by the same command.
The seeds that files of `--results` have, with the same config, are taken from there and the others are
trained, so that a table can be put together from runs of several days or machines.
With `--measure` the runs of O are measured too, for the tables that have such columns (ENCODE's
relevance indicator and time of a request), one seed of each row; do that on a quiet machine.
Writes `O/<data set>/<row>/` for every model, `O/dien.json` and `O/dien.md`.
"""

import importlib
import importlib.util
import pathlib
import sys
from collections.abc import Mapping

from absl import flags, logging

from dgin_tf.commands import command_line
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.schema import write_text
from experiments.analysis import measures
from experiments.reporting import paper_tables
from experiments.reporting.earlier_results import EarlierResults
from experiments.running import runs

_PAPER = flags.DEFINE_string("paper", "dien", "Folder of experiments/ with the paper's tables.")
_CONFIG = flags.DEFINE_string("config", "movielens", "Config file of that folder, without .py.")
_DATA_DIR = flags.DEFINE_list(
    "data_dir", None, "Prepared data sets, PATH or NAME=PATH each.", required=True
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where runs and tables go.", required=True)
_MODELS = flags.DEFINE_list(
    "models", [], "Rows to train, such as din or din_released; all of the paper's by default."
)
_RESULTS = flags.DEFINE_list(
    "results", [], "JSON files that this command wrote before; seeds they have are not trained."
)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Seeds of every model.", lower_bound=1)
_MEASURE = flags.DEFINE_boolean(
    "measure", False, "Measure what tables have beside test figures, on the runs in --output_dir."
)
_PARALLEL = flags.DEFINE_integer("parallel_seeds", 1, "Runs at a time.", lower_bound=1)


def main(_: object) -> None:
    """Trains what is missing and writes the tables after every model."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow reports every checkpoint's sharding
    paper = _module("paper")
    config_module = _module(_CONFIG.value)
    rows = {row.key: row for table in paper.TABLES for row in table.rows}
    # A row that stands in several tables is called what the first one calls it.
    labels = {row.key: row.label for table in reversed(paper.TABLES) for row in table.rows}
    unknown = sorted(set(_MODELS.value) - set(rows))
    if unknown:
        raise ValueError(f"expected models among {', '.join(rows)}; got {', '.join(unknown)}.")
    if _MEASURE.value and not _measured_rows(paper):
        raise ValueError(f"the tables of {_PAPER.value} have nothing to measure; drop --measure.")
    chosen = [row for key, row in rows.items() if key in (_MODELS.value or rows)]
    earlier = EarlierResults(_RESULTS.value)
    data = _data_sets(_DATA_DIR.value)
    output_dir = pathlib.Path(_OUTPUT_DIR.value)
    output_dir.mkdir(parents=True, exist_ok=True)
    seeds = range(1, _SEEDS.value + 1)
    cells = [
        (row, name, path, _config(config_module, row))
        for row in chosen
        for name, path in data.items()
    ]
    # All are looked up before any is trained, so that a refusal comes at once.
    found = [earlier.find(name, row.key, config, path, seeds) for row, name, path, config in cells]
    results: dict[str, dict[str, Mapping]] = {name: {} for name in data}
    with runs.SeedPool(_PARALLEL.value) as pool:
        waiting = {
            (name, row.key): pool.gather(config, path, output_dir / name / row.key, missing)
            for taken, (row, name, path, config) in zip(found, cells, strict=True)
            if (missing := _missing(seeds, taken))
        }
        for taken, (row, name, _, _) in zip(found, cells, strict=True):
            trained = waiting[name, row.key]() if (name, row.key) in waiting else None
            parts = [part for part in (taken, trained) if part]
            results[name][row.key] = parts[0] if len(parts) == 1 else runs.merge(parts)
            auc = results[name][row.key]["test"]["auc"]
            sys.stdout.write(f"{labels[row.key]} on {name}: test AUC {auc:.4f}\n")
            sys.stdout.flush()
            text = _write(paper, results, labels, output_dir)
    if _MEASURE.value:
        for name, path in data.items():
            _measure(paper, results[name], output_dir / name, PreparedData(path))
        text = _write(paper, results, labels, output_dir)
    sys.stdout.write(text)


def _measure(paper, results, run_dir, data):
    """Measures the runs that are in a folder, and adds what was found to the results."""
    run_dirs = {row: str(run_dir / row) for row in results if (run_dir / row).is_dir()}
    found: dict[str, dict[str, float]] = {}  # row -> measure -> value
    for name, rows in _measured_rows(paper).items():
        chosen = [row for row in rows if row in run_dirs]
        for row, value in measures.MEASURES[name](chosen, run_dirs, data).items():
            found.setdefault(row, {})[name] = value
        if left_out := [row for row in rows if row in results and row not in run_dirs]:
            sys.stdout.write(f"no {name} of {', '.join(left_out)}: no run in {run_dir}\n")
    for row, measured in found.items():
        where = {runs.MEASURED: measured, runs.MEASURED_ON: runs.machine()}
        results[row] = {**results[row], **where}


def _measured_rows(paper):
    """Measure -> the rows of all tables that have it as a column, in order."""
    wanted: dict[str, dict[str, None]] = {}
    for table in paper.TABLES:
        for name in table.measured:
            wanted.setdefault(name, {}).update({row.key: None for row in table.rows})
    return {name: list(rows) for name, rows in wanted.items()}


def _missing(seeds, taken):
    """The seeds that an earlier result, or None, does not have."""
    known = {entry["seed"] for entry in taken["seeds"]} if taken else set()
    return [seed for seed in seeds if seed not in known]


def _write(paper, results, labels, output_dir):
    """Writes the tables of what is there so far; returns them as Markdown."""
    done = {name: models for name, models in results.items() if models}
    claims = paper_tables.check_claims(done, paper.CLAIMS)
    origin = paper_tables.origin(done, labels)
    parts = [paper_tables.markdown(table, done, paper.YARDSTICKS) for table in paper.TABLES]
    text = "\n".join(
        [*filter(None, parts), paper_tables.claims_markdown(claims, labels), origin, ""]
    )
    content = {
        "results": done,
        "claims": claims,
        "paper": [
            {
                "title": table.title,
                "columns": table.columns,
                "rows": [
                    {"key": row.key, "label": row.label, "printed": row.printed}
                    for row in table.rows
                ],
            }
            for table in paper.TABLES
        ],
    }
    runs.write_json(output_dir / f"{_PAPER.value}.json", content)
    write_text(output_dir / f"{_PAPER.value}.md", text)
    return text


def _config(config_module, row):
    """The settings of a row: its model's, and what the row overrides."""
    config = config_module.get_config(row.model)
    config.update_from_flattened_dict(row.override)
    return config


def _module(name):
    """A module of the paper's folder."""
    full = f"experiments.{_PAPER.value}.{name}"
    try:
        found = importlib.util.find_spec(full)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise FileNotFoundError(
            f"expected a file experiments/{_PAPER.value}/{name}.py, found none; check --paper and "
            "--config."
        )
    return importlib.import_module(full)


def _data_sets(values):
    """Name -> path; a path without a name is called after its last part."""
    named = {}
    for value in values:
        name, _, path = value.rpartition("=")
        name = name or pathlib.Path(path).name
        if name in named:
            raise ValueError(f"expected data sets of different names; {name!r} occurs twice.")
        named[name] = path
    return named


if __name__ == "__main__":
    command_line.run(main)
