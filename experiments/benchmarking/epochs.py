"""Cost of an epoch of `experiments.train` in a checkout, whatever its version: the command, run twice."""

import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence


def measure_epoch(
    root: pathlib.Path, config: str, data_dir: pathlib.Path, overrides: Sequence[str] = ()
) -> dict[str, float]:
    """CPU and wall seconds of an epoch with its validation, of a command of one epoch and one of two.

    What both have in common, start, tracing and the test split, is in neither figure.

    Args:
      root: the checkout.
      config: as `experiments.train` takes it, a path from the checkout on.
      data_dir: a prepared data set that the checkout's version can read.
      overrides: further flags of the command.

    Raises:
      ValueError: the command failed; with the end of what it wrote.
    """
    seconds = [_train(root, config, data_dir, [*overrides, _epochs(count)]) for count in (1, 2)]
    cpu, wall = (second - first for first, second in zip(*seconds, strict=True))
    return {"cpu_s": cpu, "wall_s": wall}


def _epochs(count: int) -> str:
    return f"--config.loop.epochs={count}"


def _train(root, config, data_dir, flags):
    """CPU and wall seconds of a whole command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.train", f"--config={config}"]
        command += [f"--data_dir={data_dir}", f"--model_dir={folder}/run", "--seed=1", *flags]
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
