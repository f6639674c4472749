"""Cost of an epoch of `experiments.train` in a checkout, whatever its version: the command, run twice."""

import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any


def measure_epoch(root: pathlib.Path, config: str, data_dir: pathlib.Path) -> dict[str, float]:
    """CPU and wall seconds of an epoch with its validation, of a command of one epoch and one of two.

    What both have in common, start, tracing and the test split, is in neither figure.

    Args:
      root: the checkout.
      config: as `experiments.train` takes it, a path from the checkout on.
      data_dir: a prepared data set that the checkout's version can read.

    Raises:
      ValueError: the command failed; with the end of what it wrote.
    """
    seconds = [_train(root, config, data_dir, epochs) for epochs in (1, 2)]
    cpu, wall = (second - first for first, second in zip(*seconds, strict=True))
    return {"cpu_s": cpu, "wall_s": wall}


def compare_epochs(
    roots: tuple[pathlib.Path, pathlib.Path],
    data_dir: pathlib.Path,
    configs: Sequence[str],
    turns: int,
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Config -> side -> the cost of an epoch, turn by turn; the sides take turns.

    Args:
      roots: the checkouts before and after.
      data_dir: prepared data that both versions read.
      configs: as `experiments.train` takes them.
      turns: of each config.

    Raises:
      ValueError: there is no config, or a training failed.
    """
    if not configs:
        raise ValueError(
            "expected --configs beside --data_dir, such as --configs=experiments/dien/movielens.py:din; "
            "got none."
        )
    cases: dict[str, dict[str, list[dict[str, float]]]] = {}
    for config in configs:
        cases[config] = {"before": [], "after": []}
        for _ in range(turns):
            for side, root in zip(("before", "after"), roots, strict=True):
                cases[config][side].append(measure_epoch(root, config, data_dir))
    return cases


def epochs_to_markdown(content: Mapping[str, Any]) -> str:
    """A table with a row for every config: medians of CPU and wall seconds, ratios turn by turn."""
    commits, machine, versions = content["commits"], content["machine"], content["versions"]
    lines = [
        "# Epochs of two versions by turns",
        "",
        f"{machine['cpu']}, {machine['cores']} cores; TensorFlow {versions['tensorflow']}. Before is "
        f"{commits['before']}, after {commits['after']}; seconds of an epoch with its validation.",
        "",
        "| config | CPU s before | after | after / before | wall s before | after | after / before | turns |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for config, sides in content["cases"].items():
        cells = [config]
        for name in ("cpu_s", "wall_s"):
            before, after = ([turn[name] for turn in sides[side]] for side in ("before", "after"))
            ratios = [new / old for old, new in zip(before, after, strict=True)]
            cells += [f"{statistics.median(values):.1f}" for values in (before, after)]
            cells.append(
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            )
        lines.append("| " + " | ".join([*cells, str(len(sides["before"]))]) + " |")
    return "\n".join(lines) + "\n"


def _train(root, config, data_dir, epochs):
    """CPU and wall seconds of a whole command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.train", f"--config={config}"]
        command += [f"--data_dir={data_dir}", f"--model_dir={folder}/run", "--seed=1"]
        command.append(f"--config.loop.epochs={epochs}")
        environment = {**os.environ, "PYTHONPATH": os.fspath(root)}
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise ValueError(
            f"training {config} in {os.fspath(root)!r} failed: {done.stderr.strip()[-400:]}"
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - began
