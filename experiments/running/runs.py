"""Runs of a config on a prepared data set: one seed, or several side by side.

A run of one seed is in `seed-<n>/` of the model directory; the directory's own `result.json` holds the
means over the seeds, their deviations, and the values of each seed under `seeds`.
"""

import concurrent.futures
import functools
import json
import multiprocessing
import os
import pathlib
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
import tensorflow as tf

from dgin_tf.commands.memory import keep_freed_memory
from dgin_tf.commands.worker_processes import end_with_parent
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.models import registry
from dgin_tf.models.base import CTRModel
from dgin_tf.ownership import claim
from dgin_tf.training import checkpoints, distribution
from dgin_tf.training.loop import (
    CONFIG_FILE,
    RESULT_FILE,
    LoopOptions,
    read_config,
    train,
    write_json,
)
from experiments.running.earlier_runs import INIT_FROM, resolve
from experiments.running.program import PROGRAM, program_digest, versions
from experiments.running.tasks import DATA_SCHEMA, make_model, make_task
from experiments.running.watching import observers

SPLITS = ("validation", "test")
# In a common result: measurements beside test metrics, and the machine they are of.
MEASURED, MEASURED_ON = "measured", "measured_on"
STARTS = "starts"  # and the grid of a chosen start: [embedding_limit, momentum, validation AUC]
_PLACE = ("machine", "versions", PROGRAM)


def train_seed(
    config: Mapping[str, Any],
    data_dir: str,
    run_dir: str | os.PathLike,
    seed: int,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, Any]:
    """Trains one seed, or resumes it; returns its result."""
    keep_freed_memory()
    strategy = strategy or tf.distribute.get_strategy()
    distribution.check_batch(config["data"]["batch_rows"], strategy)
    tf.keras.backend.clear_session()  # the graphs of the seed before
    tf.keras.mixed_precision.set_global_policy(config["precision"])
    data = PreparedData(data_dir)
    options = LoopOptions(**{**config["loop"], "seed": seed})
    start = None
    if INIT_FROM in config:
        earlier_dir = pathlib.Path(config[INIT_FROM]["run"]) / f"seed-{seed}"
        if not earlier_dir.is_dir():  # it is a run itself, or has other seeds
            earlier_dir = find_run(config[INIT_FROM]["run"])
        steps = data.steps("train", BatchOptions(**config["data"]), strategy.num_replicas_in_sync)
        config, start = resolve(config, data, earlier_dir, steps)
    task = make_task(config, data, seed, strategy.num_replicas_in_sync, start)
    with data.naming_damage():
        return train(task, options, run_dir, strategy, observers(config, data, run_dir))


def train_seeds(
    config: ml_collections.ConfigDict,
    data_dir: str,
    model_dir: str | os.PathLike,
    seeds: Sequence[int],
    processes: int = 1,
) -> dict[str, Any]:
    """Trains several seeds, except those that are finished, and writes their common result.

    Args:
      config: settings as `experiments.running.defaults` has them.
      data_dir: prepared data set.
      model_dir: for the seeds' directories and the common `result.json`.
      seeds: one run for each.
      processes: runs side by side, each on its share of the cores.

    Returns:
      The common result, see `combine`.
    """
    with SeedPool(processes) as pool:
        return pool.gather(config, data_dir, pathlib.Path(model_dir), seeds)()


class SeedPool:
    """Processes that train seeds side by side.

    Args:
      processes: number of them; with one, seeds are trained in this process, one after the other.
    """

    def __init__(self, processes: int):
        self._pool = None  # seeds are trained one after the other
        if processes > 1:
            # TensorFlow does not survive a fork; each process imports it once, for all its runs.
            self._pool = concurrent.futures.ProcessPoolExecutor(
                processes,
                multiprocessing.get_context("spawn"),
                _share_cores,
                (max(1, len(os.sched_getaffinity(0)) // processes),),
            )

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def gather(self, config, data_dir, model_dir, seeds):
        """Starts the seeds of one model; returns a function that waits and gives their result."""
        claim_result(model_dir)
        plain = plain_config(config)
        calls = [(plain, data_dir, str(model_dir / f"seed-{seed}"), seed) for seed in seeds]
        # Each waits for a run: of another process, or by training here when it is called.
        waiting: list[Callable[[], dict[str, Any]]]
        if self._pool:
            waiting = [self._pool.submit(train_seed, *call).result for call in calls]
        else:
            waiting = [functools.partial(train_seed, *call) for call in calls]

        def result():
            results = dict(zip(seeds, [wait() for wait in waiting], strict=True))
            common_result = combine(plain, results)
            write_json(model_dir / RESULT_FILE, common_result)
            return common_result

        return result


def claim_result(model_dir: str | os.PathLike) -> None:
    """Makes sure that the common result of a model directory may be written."""
    claim(model_dir, "the common result of several seeds", [RESULT_FILE])


def combine(config: Mapping[str, Any], results: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Means of several seeds, with the values of each.

    Args:
      config: of the runs.
      results: seed -> result of its run.

    Returns:
      `validation` and `test` with every metric's mean; `deviation` with the same metrics' standard
      deviation over seeds (null for one seed); `seeds`, each seed's own metrics; `seconds`,
      `parameters`, `config`, `machine`, `versions` and `program`, the digest of what decides the figures.
    """
    entries = [
        {"seed": seed, **{name: result[name] for name in (*SPLITS, "best_epoch", "seconds")}}
        for seed, result in results.items()
    ]
    return {
        **_over_seeds(entries),
        "parameters": next(iter(results.values()))["parameters"],
        "config": config,
        "machine": machine(),
        "versions": versions(),
        PROGRAM: program_digest(config["model"]["name"]),
    }


def merge(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merges common results of one config's seeds, run on different days or machines.

    Args:
      parts: results of `combine` or `merge`; where several have a seed, the first one counts.

    Returns:
      As `combine`, with the `machine`, `versions` and `program` of the last part that adds seeds, under
      `earlier` the `seeds` and the same of the parts before it, and the measurements and the grid of
      starts of the first part that has any.
    """
    entries: dict[int, Mapping[str, Any]] = {}
    places: list[dict[str, Any]] = []
    for part in parts:
        for origin in origins(part):
            new = [seed for seed in origin["seeds"] if seed not in entries]
            entries |= {entry["seed"]: entry for entry in part["seeds"] if entry["seed"] in new}
            places += [{**origin, "seeds": new}] if new else []
    *earlier, last = places
    extras = [
        {name: part[name] for name in names if name in part}
        for names in ((MEASURED, MEASURED_ON), (STARTS,))
        for part in reversed(parts)
    ]
    return {
        **_over_seeds([entries[seed] for seed in sorted(entries)]),
        "parameters": parts[0]["parameters"],
        "config": parts[0]["config"],
        **{name: last[name] for name in _PLACE},
        **({"earlier": earlier} if earlier else {}),
        **{name: value for extra in extras for name, value in extra.items()},
    }


def origins(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`seeds`, `machine`, `versions` and `program` of each place where seeds were run.

    Args:
      result: a common result. Those of versions until 0.5 have no `program`, which is None then.
    """
    earlier = [{PROGRAM: None, **place} for place in result.get("earlier", [])]
    earlier_seeds = {seed for origin in earlier for seed in origin["seeds"]}
    seeds = [entry["seed"] for entry in result["seeds"] if entry["seed"] not in earlier_seeds]
    return [*earlier, {"seeds": seeds, **{name: result.get(name) for name in _PLACE}}]


def of_program(result: Mapping[str, Any], digest: str) -> Mapping[str, Any] | None:
    """Common result of the seeds that one program trained; None where it trained none."""
    places, parts = origins(result), []
    if all(place[PROGRAM] == digest for place in places):
        return result
    for place in places:
        if place[PROGRAM] == digest:
            entries = [entry for entry in result["seeds"] if entry["seed"] in place["seeds"]]
            parts.append({**result, **place, "earlier": [], "seeds": entries})
    return merge(parts) if parts else None


def load_model(run_dir: str | os.PathLike, data: PreparedData) -> tuple[CTRModel, dict[str, Any]]:
    """Loads the model of a finished or interrupted run with its best weights.

    Args:
      run_dir: directory of one seed's run, or a model directory, whose first seed is taken.
      data: the data set that it was trained on, or another one of the same schema.

    Returns:
      The model, built, and the config of its run.

    Raises:
      FileNotFoundError: there is no trained run.
      ValueError: it belongs to another schema.
    """
    directory = find_run(run_dir)
    config = read_config(directory)
    tf.keras.mixed_precision.set_global_policy(config["precision"])
    model = make_model(config, data.schema)
    spec = data.training(BatchOptions(**config["data"]), seed=0, epoch=0).element_spec
    # Tracing one call creates the weights without computing anything.
    call = tf.function(lambda features: model(features, training=False), autograph=False)
    call.get_concrete_function(spec)
    checkpoints.load_best(model, directory, data.schema.fingerprint())
    return model, config


def open_data(data_dir: str | os.PathLike, model_dir: str | os.PathLike) -> PreparedData:
    """Opens a data set to be read by a run's model: of the run's schema, or with the ids of that one kept.

    Args:
      data_dir: prepared data set, such as that of the day after.
      model_dir: as for `load_model`.

    Raises:
      FileNotFoundError: there is no trained run, or no data set.
      ValueError: the data set does not keep the ids that the run was trained on.
    """
    return PreparedData(data_dir, read_config(find_run(model_dir)).get(DATA_SCHEMA, ""))


def find_run(model_dir: str | os.PathLike) -> pathlib.Path:
    """Directory of one run in a model directory: itself, or that of its first seed.

    Raises:
      FileNotFoundError: there is neither.
    """
    directory = pathlib.Path(model_dir)
    if (directory / CONFIG_FILE).is_file():
        return directory
    # By number: seed-10 comes after seed-9.
    seeds = sorted(directory.glob(f"seed-*/{CONFIG_FILE}"), key=lambda path: _seed(path.parent))
    if not seeds:
        raise FileNotFoundError(
            f"expected a trained run in {os.fspath(model_dir)!r}, found none; run "
            "python -m experiments.train with that --model_dir first."
        )
    return seeds[0].parent


def plain_config(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Config as plain JSON values, with the model's choice of negatives where it was left open."""
    plain = json.loads(config.to_json())
    if plain["data"]["history_negatives"] is None:
        model = plain["model"]
        has_loss = registry.find(model["name"]).wants_negatives(model)
        plain["data"]["history_negatives"] = "uniform" if has_loss else "none"
    return plain


def machine() -> dict[str, Any]:
    """System, processor, memory and GPUs of this machine."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    return {
        "system": platform.platform(),
        "cpu": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": [device.name for device in tf.config.list_physical_devices("GPU")],
    }


def _share_cores(threads: int) -> None:
    """Prepares a worker: its share of the threads, and its end with the command that started it."""
    end_with_parent()
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(2)  # fewer would stall the input pipeline


def _over_seeds(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means and deviations of a common result, with the seeds' own metrics."""
    splits = {split: [entry[split] for entry in entries] for split in SPLITS}
    return {
        **{split: _reduce(metrics, np.mean) for split, metrics in splits.items()},
        "deviation": {split: _reduce(metrics, _deviation) for split, metrics in splits.items()},
        "seeds": list(entries),
        "seconds": sum(entry["seconds"] for entry in entries),
    }


def _reduce(entries: Sequence[Mapping[str, Any]], statistic: Any) -> dict[str, Any]:
    """Statistic of every number that all entries have, nested as they are."""
    statistics: dict[str, Any] = {}
    for name in entries[0]:
        values: list[Any] = [entry.get(name) for entry in entries]
        if any(value is None for value in values):  # undefined, or an interval that one seed lacks
            continue
        if isinstance(values[0], Mapping):
            statistics[name] = _reduce(values, statistic)
        else:
            statistics[name] = float(statistic(values))
    return statistics


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _seed(path: pathlib.Path) -> int:
    number = path.name.removeprefix("seed-")
    return int(number) if number.isdigit() else 0
