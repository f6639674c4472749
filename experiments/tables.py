"""Trains the models of a paper's tables on our data and prints the tables with our results beside.

    python -m experiments.tables --paper=dien --config=movielens --data_dir=uniform=D1,popular=D2 \\
        --output_dir=O --seeds=5 --parallel_seeds=2 [--results=EARLIER/dien.json]

Finished runs are not trained again, so that the same command resumes a stopped one. Seeds that files of
`--results` have, with the same config and of the same program, are read from there and the others are
trained; a table can so be put together from runs of several days or machines, and all of it is of one
program (`experiments.running.program`). A run in O that another program began is refused. With
`--second_short_reader` the rows whose newest events can be read in two ways have a second column. With
`--choose_starts` every row has the start of its embeddings and the momentum that one more seed has the
best validation with (`experiments.running.starts`); the grid is printed.

With `--measure` the runs of O are measured too, for the tables that have such columns (ENCODE's relevance
indicator and time of a request), one seed of each row; this needs a quiet machine. Writes
`O/<data set>/<row>/` for every model, `O/dien.json` and `O/dien.md`.
"""

import importlib
import importlib.util
import pathlib
import sys
from collections.abc import Mapping

from absl import flags, logging

from dgin_tf.commands import command_line
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.integrity import sealed
from dgin_tf.ownership import claim
from dgin_tf.schema import write_text
from dgin_tf.training.loop import without_nan
from experiments.analysis import measures
from experiments.reporting import paper_tables
from experiments.reporting.earlier_results import EarlierResults
from experiments.running import runs
from experiments.running.starts import best_start, set_start, starts_markdown, try_starts

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
    "measure", False, "Measure the runs in --output_dir for the tables' other columns."
)
_SECOND_READER = flags.DEFINE_enum(
    "second_short_reader",
    None,
    ["din", "heads"],
    "What reads the newest events in a second column for every data set, NAME-READER; in the first one "
    "it is what the config says, the same for all rows.",
)
_CHOOSE_STARTS = flags.DEFINE_boolean(
    "choose_starts", False, "Choose embedding_limit and momentum of every row on validation."
)
_PARALLEL = flags.DEFINE_integer("parallel_seeds", 1, "Runs at a time.", lower_bound=1)


def main(_: object) -> None:
    """Trains missing runs and writes the tables after every model."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow reports every checkpoint's sharding
    paper = _module("paper")
    config_module = _module(_CONFIG.value)
    rows = {row.key: row for table in paper.TABLES for row in table.rows}
    # A row of several tables is called as in the first one.
    labels = {row.key: row.label for table in reversed(paper.TABLES) for row in table.rows}
    unknown = sorted(set(_MODELS.value) - set(rows))
    if unknown:
        raise ValueError(f"expected models among {', '.join(rows)}; got {', '.join(unknown)}.")
    if _MEASURE.value and not _rows_by_measure(paper):
        raise ValueError(f"the tables of {_PAPER.value} have nothing to measure; drop --measure.")
    selection = [row for key, row in rows.items() if key in (_MODELS.value or rows)]
    earlier = EarlierResults(_RESULTS.value)
    data = _data_sets(_DATA_DIR.value)
    names = [f"{_PAPER.value}.json", f"{_PAPER.value}.md"]
    output_dir = claim(_OUTPUT_DIR.value, "tables of a paper", names)
    seeds = range(1, _SEEDS.value + 1)
    cells = [
        (row, name, path, _config(config_module, row))
        for row in selection
        for name, path in data.items()
    ]
    if reader := _SECOND_READER.value:
        for row, name, path, _ in list(cells):
            config = _config(config_module, row)
            if "short_reader" in config.model:
                config.model.short_reader = reader
                cells.append((row, f"{name}-{reader}", path, config))
    # All are looked up before any is trained, so that an error comes at once.
    known_results = [
        earlier.find(name, row.key, config, path, seeds) for row, name, path, config in cells
    ]
    results: dict[str, dict[str, Mapping]] = {name: {} for _, name, *_ in cells}
    with runs.SeedPool(_PARALLEL.value) as pool:
        starts: dict[tuple[str, str], list] = {}
        if _CHOOSE_STARTS.value:
            unknown_cells = [
                cell for cell, known in zip(cells, known_results, strict=True) if not known
            ]
            tries = [
                try_starts(pool, config, path, output_dir / name / row.key)
                for row, name, path, config in unknown_cells
            ]
            for (row, name, _, config), grid in zip(unknown_cells, tries, strict=True):
                starts[name, row.key] = grid()
                set_start(config, *best_start(starts[name, row.key]))
        # All runs are submitted before the first one is waited for.
        waiting = {
            (name, row.key): pool.gather(config, path, output_dir / name / row.key, missing)
            for known_result, (row, name, path, config) in zip(known_results, cells, strict=True)
            if (missing := _missing(seeds, known_result))
        }
        for known_result, (row, name, _, _) in zip(known_results, cells, strict=True):
            new_result = waiting[name, row.key]() if (name, row.key) in waiting else None
            if new_result and (name, row.key) in starts:
                new_result = {**new_result, runs.STARTS: starts[name, row.key]}
            parts = [part for part in (known_result, new_result) if part]
            results[name][row.key] = parts[0] if len(parts) == 1 else runs.merge(parts)
            auc = results[name][row.key]["test"]["auc"]
            sys.stdout.write(f"{labels[row.key]} on {name}: test AUC {auc:.4f}\n")
            sys.stdout.flush()
            # After every model, so that a stopped command leaves the tables of what is done.
            text = _write(paper, results, labels, output_dir)
    if _MEASURE.value:
        for name, path in {name: path for _, name, path, _ in cells}.items():
            data_set = PreparedData(path)
            with data_set.naming_damage():
                _measure(paper, results[name], output_dir / name, data_set)
        text = _write(paper, results, labels, output_dir)
    sys.stdout.write(text)


def _measure(paper, results, run_dir, data):
    """Measures the runs in a folder, and adds the measurements to the results."""
    run_dirs = {row: str(run_dir / row) for row in results if (run_dir / row).is_dir()}
    measurements: dict[str, dict[str, float]] = {}  # row -> measure -> value
    for name, rows in _rows_by_measure(paper).items():
        rows_with_run = [row for row in rows if row in run_dirs]
        for row, value in measures.MEASURES[name](rows_with_run, run_dirs, data).items():
            measurements.setdefault(row, {})[name] = value
        if left_out := [row for row in rows if row in results and row not in run_dirs]:
            sys.stdout.write(f"no {name} of {', '.join(left_out)}: no run in {run_dir}\n")
    for row, values in measurements.items():
        entry = {runs.MEASURED: values, runs.MEASURED_ON: runs.machine()}
        results[row] = {**results[row], **entry}


def _rows_by_measure(paper):
    """Measure -> the rows of all tables that have it as a column, in order."""
    rows_by_measure: dict[str, dict[str, None]] = {}
    for table in paper.TABLES:
        for name in table.measures:
            rows_by_measure.setdefault(name, {}).update({row.key: None for row in table.rows})
    return {name: list(rows) for name, rows in rows_by_measure.items()}


def _missing(seeds, known_result):
    """Seeds that an earlier result, or None, lacks."""
    known_seeds = {entry["seed"] for entry in known_result["seeds"]} if known_result else set()
    return [seed for seed in seeds if seed not in known_seeds]


def _write(paper, results, labels, output_dir):
    """Writes the tables of the results so far; returns them as Markdown."""
    done = {name: models for name, models in results.items() if models}
    claims = paper_tables.check_claims(done, paper.CLAIMS)
    origin = paper_tables.origin(done, labels)
    parts = [paper_tables.markdown(table, done, paper.YARDSTICKS) for table in paper.TABLES]
    parts += [starts_markdown(done, labels), paper_tables.claims_markdown(claims, labels)]
    text = "\n".join([*filter(None, parts), origin, ""])
    content = {
        "results": done,
        "claims": claims,
        "paper": [
            {
                "title": table.title,
                "columns": table.columns,
                "rows": [
                    {"key": row.key, "label": row.label, "printed": row.paper_values}
                    for row in table.rows
                ],
            }
            for table in paper.TABLES
        ],
        "versions": runs.versions(),  # of what wrote this file; every result has those of its seeds
    }
    write_text(output_dir / f"{_PAPER.value}.json", sealed(without_nan(content)))
    write_text(output_dir / f"{_PAPER.value}.md", text)
    return text


def _config(config_module, row):
    """Settings of a row: its model's, and the row's own."""
    config = config_module.get_config(row.model)  # locked: an unknown setting of a row fails
    config.update_from_flattened_dict(row.override)
    return config


def _module(name):
    """A module of the paper's folder."""
    full = f"experiments.{_PAPER.value}.{name}"
    try:
        spec = importlib.util.find_spec(full)
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        raise FileNotFoundError(
            f"expected a file experiments/{_PAPER.value}/{name}.py, found none; check --paper and "
            "--config."
        )
    return importlib.import_module(full)


def _data_sets(values):
    """Name -> path; a path without a name is called after its last part."""
    paths: dict[str, str] = {}
    for value in values:
        name, _, path = value.rpartition("=")
        name = name or pathlib.Path(path).name
        if name in paths:
            raise ValueError(f"expected data sets of different names; {name!r} occurs twice.")
        paths[name] = path
    return paths


if __name__ == "__main__":
    command_line.run(main)
