"""Runs that start from another run's weights, such as yesterday's: `train --init_from=RUN`."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.integrity import facts_of
from dgin_tf.models.base import CTRModel
from dgin_tf.training import checkpoints, grown_weights
from dgin_tf.training.loop import read_config
from experiments.running.tasks import DATA_SCHEMA, make_model, make_optimizer

INIT_FROM = (
    "init_from"  # in a config: a folder and the choice for the optimizer; in a run's, the weights
)
FRESH, KEPT = "fresh", "kept"


def init_settings(run_dir: str, optimizer: str) -> dict[str, str]:
    """Setting `INIT_FROM` of a config.

    Args:
      run_dir: a run, or a folder of seeds, of which each new seed starts from its own.
      optimizer: `FRESH`, or `KEPT` for the state that the optimizer had.
    """
    return {"run": os.fspath(run_dir), "optimizer": optimizer}


def resolve(
    config: Mapping[str, Any], data: PreparedData, earlier_dir: pathlib.Path, steps: int
) -> tuple[dict[str, Any], grown_weights.Start]:
    """The settings of a run that starts from another one, and how it starts.

    Args:
      config: with `INIT_FROM`.
      data: that the run is trained on; has to keep the ids of the other run's data.
      earlier_dir: directory of the other run.
      steps: in an epoch, for schedules.

    Returns:
      The config, in which a digest of the weights stands for the folder; and the start.

    Raises:
      FileNotFoundError: there is no trained run.
      ValueError: it is of another model or optimizer, or of data whose ids these do not keep.
    """
    settings, earlier = config[INIT_FROM], read_config(earlier_dir)
    keeps = settings["optimizer"] == KEPT
    differing = [
        f"{title} {before!r}, now {now!r}"
        for title, before, now in (
            ("model", earlier["model"]["name"], config["model"]["name"]),
            *([("optimizer", *_names(earlier, config))] if keeps else []),
        )
        if before != now
    ]
    if differing:
        raise ValueError(
            f"--init_from={earlier_dir} is a run with {' and '.join(differing)}; give a run of the same kind"
            + (", or --init_optimizer=fresh." if keeps else ".")
        )
    schema = data.earlier_schema(earlier[DATA_SCHEMA])
    path = checkpoints.best_checkpoint(earlier_dir)
    names = sorted(file.name for file in path.iterdir() if file.name.startswith("values"))
    digest = {name: facts["crc32c"] for name, facts in facts_of(path, names).items()}

    def start(model: CTRModel) -> None:
        twin = make_model(config, schema)
        twin.build()
        if keeps:
            twin.compile(make_optimizer(config, twin, steps))
            twin.optimizer.build(twin.trainable_variables)
        grown_weights.start_from(model, twin, earlier_dir, schema.fingerprint(), keeps)

    weights = {
        "weights": digest,
        "schema": schema.fingerprint(),
        "optimizer": settings["optimizer"],
    }
    return {**config, INIT_FROM: weights}, start


def _names(*configs: Mapping[str, Any]) -> list[str]:
    return [config["optimizer"]["name"] for config in configs]
