"""Runs every step once: log -> prepare -> train DIN and DIEN -> evaluate -> export -> score -> report.

    python -m experiments.quickstart --output_dir=/tmp/quickstart
    python -m experiments.quickstart --dataset=movielens --input=ml-1m/ratings.dat --output_dir=/tmp/ml

Without an input the log is synthetic (`data_prep.synthetic`), with causes on record for every click, and
the report has the share of the attention that lies on them. Started again with the same folder, the
command resumes at the first step that is not finished. A few minutes on two cores.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags, logging

from data_prep import synthetic
from data_prep.engines.local import LocalEngine
from data_prep.pipeline import Preparation, prepare, work_folder
from data_prep.protocol import Protocol
from data_prep.readers import READERS
from dgin_tf.commands import command_line
from dgin_tf.ownership import claim

SYNTHETIC = "synthetic"
MODELS = ("din", "dien")
_LOG_FILE = "log.csv"

_OUTPUT_DIR = flags.DEFINE_string("output_dir", "quickstart", "Where everything goes.")
_DATASET = flags.DEFINE_enum(
    "dataset", SYNTHETIC, [SYNTHETIC, *sorted(READERS)], "Layout of the log."
)
_INPUT = flags.DEFINE_list("input", [], "Files of the log; none for the synthetic one.")
_TARGETS = flags.DEFINE_integer("targets_per_user", 10, "Examples are a user's newest so many.")
_EPOCHS = flags.DEFINE_integer("epochs", 3, "Epochs of training, at most.")
_MAX_HISTORY = flags.DEFINE_integer("max_history", 100, "Longest history that the models see.")
_USERS = flags.DEFINE_integer("users", 3_000, "Users of the synthetic log.", lower_bound=20)
_SEED = flags.DEFINE_integer("seed", 1, "Of the log, the split and the weights.")

# A fresh process has TensorFlow, the exported directory and a request. A name that maps to None in
# sys.modules cannot be imported.
_SCORE = """
import json, sys
sys.modules.update(dict.fromkeys(("dgin_tf", "tf_keras", "tensorflow_recommenders")))
import tensorflow as tf
version, request = sys.argv[1], json.loads(sys.stdin.read())
score = tf.saved_model.load(version).signatures["serving_default"]
specs = score.structured_input_signature[1]
inputs = {name: tf.constant(request[name], spec.dtype) for name, spec in specs.items()}
print(json.dumps(score(**inputs)["probabilities"].numpy()[0].tolist()))
"""


def main(_: object) -> None:
    """Runs all steps and prints where their results are."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow reports every checkpoint's sharding
    start_time = time.monotonic()
    names = ["report.html"]
    if _DATASET.value == SYNTHETIC:
        names += [_LOG_FILE, synthetic.truth_path(_LOG_FILE).name]
    folder = claim(_OUTPUT_DIR.value, "a quickstart", names)
    data_dir = folder / "data"
    log = _log(folder)
    _prepare(log, data_dir)
    # TensorFlow is imported from here on only: the workers that prepare data need not load it.
    results = {name: _train(name, data_dir, folder / name) for name in MODELS}
    _say("the test split, scored once with the weights that did best on validation:")
    for name, result in results.items():
        test = result["test"]
        _say(
            f"  {name:5} AUC {test['auc']:.4f}  GAUC {test['gauc']:.4f}  log loss "
            f"{test['log_loss']:.4f}  calibration {test['calibration']:.3f}"
        )
    versions = {name: _export(name, data_dir, folder) for name in MODELS}
    ranking = _score_in_a_fresh_process(versions["dien"], data_dir, folder / "dien")
    report = _report(folder, data_dir, results, versions, ranking)
    _say(f"done in {time.monotonic() - start_time:.0f} s")
    _say(f"  data     {data_dir}  (see {data_dir / 'report.html'})")
    for name, version in versions.items():
        _say(f"  {name:8} {folder / name}, exported to {version}")
    _say(f"  report   {report}")
    from dgin_tf.serving.export.bundle import usage

    _say(usage(versions["dien"]))


def _log(folder: pathlib.Path) -> list[str]:
    """Files of the raw log, a synthetic one unless there is an input."""
    if _DATASET.value != SYNTHETIC:
        if not _INPUT.value:
            raise ValueError(f"expected --input=FILE of the {_DATASET.value} log; got none.")
        return _INPUT.value
    if _INPUT.value:
        raise ValueError("the synthetic log takes no --input; name its layout by --dataset.")
    path = folder / _LOG_FILE
    if not path.exists() or not synthetic.truth_path(path).exists():
        preset = synthetic.PRESETS["quickstart"]
        per_user = preset.population.events // preset.population.users
        users = _USERS.value
        population = dataclasses.replace(preset.population, users=users, events=users * per_user)
        _say(f"writing a synthetic log of {population.events:,} events")
        # Users as dense in events as the preset's, whatever their number.
        log = dataclasses.replace(preset, population=population)
        synthetic.write_log(log, path, _SEED.value, _TARGETS.value)
    return [os.fspath(path)]


def _prepare(log: list[str], data_dir: pathlib.Path) -> None:
    """Prepares the log, unless the same preparation is finished already."""
    dataset = "taobao" if _DATASET.value == SYNTHETIC else _DATASET.value
    options: dict[str, object] = {}
    if dataset == "movielens":
        options["min_rating"] = 4.0  # a rating of 4 or 5 is a click
    protocol = Protocol(targets_per_user=_TARGETS.value)
    preparation = Preparation(READERS[dataset](log, options), protocol, seed=_SEED.value)
    workers = len(os.sched_getaffinity(0))
    _say(f"preparing with {workers} workers")
    engine = LocalEngine(work_folder(data_dir), workers=workers, progress=sys.stderr.isatty())
    card = prepare(preparation, data_dir, engine)
    rows = ", ".join(f"{split['rows']:,} {name}" for name, split in card["splits"].items())
    _say(f"  {card['partition']['lines']:,} lines of log, rows: {rows}")


def _train(name: str, data_dir: pathlib.Path, model_dir: pathlib.Path) -> Mapping[str, Any]:
    """Trains a model, or resumes its training."""
    from experiments.running import defaults, runs

    config = defaults.get_config(name)
    config.data.batch_rows = 128
    config.data.max_history = _MAX_HISTORY.value
    config.loop.epochs = _EPOCHS.value
    config.loop.patience = 1  # a second epoch without a better validation would cost a minute
    config.optimizer.learning_rate = 2e-3
    _say(f"training {name}")
    return runs.train_seeds(config, os.fspath(data_dir), model_dir, [_SEED.value])


def _export(name: str, data_dir: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    from dgin_tf.inputs.pipeline import PreparedData
    from experiments.running import publishing

    data = PreparedData(data_dir)
    version = publishing.export_run(folder / name, data, folder / "exported" / name)
    _say(f"exported {version}")
    return version


def _score_in_a_fresh_process(
    version: pathlib.Path, data_dir: pathlib.Path, model_dir: pathlib.Path
) -> list[tuple[str, float, bool]]:
    """Scores one user's candidates with TensorFlow and the exported directory alone.

    Returns:
      Name, probability and label (True for a click), most probable first.
    """
    import numpy as np

    from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
    from dgin_tf.inspection import traces
    from experiments.running import runs

    data = PreparedData(data_dir)
    model, config = runs.load_model(model_dir, data)
    # The user's own candidates, and clicks of other users in the batch.
    (batch,) = data.evaluation("test", BatchOptions(64, config["data"]["max_history"])).take(1)
    user = traces.with_candidates(batch, 0, 10, data.schema)
    request = {name: value.numpy().tolist() for name, value in user.items()}
    process = subprocess.run(
        # -I: neither this checkout nor the environment's paths.
        [sys.executable, "-I", "-c", _SCORE, os.fspath(version.resolve())],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise RuntimeError(f"the fresh process failed: {process.stderr[-2000:]}")
    scores = np.array(json.loads(process.stdout))
    trace = traces.trace(model, user)
    difference = float(np.abs(scores - trace.probabilities[0]).max())
    _say(f"a fresh process scores one user's candidates (within {difference:.1e} of the model):")
    names = traces.candidate_names(trace.features, data.schema, traces.Names(data_dir))
    is_click = trace.features["label"][0] > 0
    ranking = [(names[n], float(scores[n]), bool(is_click[n])) for n in np.argsort(-scores)]
    for name, score, label in ranking:
        _say(f"  {score:.4f}  {name}{'  <- the next click' if label else ''}")
    return ranking


def _report(
    folder: pathlib.Path,
    data_dir: pathlib.Path,
    results: Mapping[str, Any],
    versions: Mapping[str, pathlib.Path],
    ranking: Sequence[tuple[str, float, bool]],
) -> pathlib.Path:
    """Writes the report of each run, and one of both; returns the path of the latter."""
    from dgin_tf.inputs.pipeline import PreparedData
    from experiments.reporting import quickstart_page
    from experiments.running import publishing

    data = PreparedData(data_dir)
    pages = {name: publishing.write_report(folder / name, data) for name in MODELS}
    is_synthetic = _DATASET.value == SYNTHETIC
    truth = synthetic.Truth.load(folder / _LOG_FILE) if is_synthetic else None
    outcome = quickstart_page.Outcome(results, versions, ranking, truth)
    page, shares = quickstart_page.write_page(folder, data, outcome, pages)
    for name, share in shares.items():
        _say(
            f"  {name:5} has {share.share:.0%} of its attention on the true causes "
            f"(equal: {share.chance:.0%})"
        )
    return page


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    command_line.run(main)
