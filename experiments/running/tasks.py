"""Model, optimizer and batches that a config describes."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from dgin_tf.inputs.pipeline import TRAIN, BatchOptions, PreparedData
from dgin_tf.models import registry
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.optimizers import OPTIMIZERS
from dgin_tf.schema import Schema
from dgin_tf.training.grown_weights import Start
from dgin_tf.training.loop import Task
from experiments.running.program import PROGRAM, program_digest

DATA_SCHEMA = "data_dir_schema"  # a run adds it to its config, beside the seed and the program


def make_model(config: Mapping[str, Any], schema: Schema) -> CTRModel:
    """The model that a config describes, not built yet.

    Args:
      config: settings as `experiments.running.defaults` has them, as plain values.
      schema: the data.
    """
    arguments = {name: _frozen(value) for name, value in config["model"].items()}
    network = {name: _frozen(value) for name, value in config["network"].items()}
    return registry.make_model(arguments.pop("name"), schema, ModelConfig(**network), **arguments)


def make_optimizer(config: Mapping[str, Any], model: CTRModel, steps: int) -> Any:
    """The optimizer of a model that a config describes, for epochs of so many steps."""
    settings = config["optimizer"]
    rate = settings["learning_rate"]
    if settings["decay"] != 1.0:
        # Once an epoch, in a staircase.
        rate = tf.keras.optimizers.schedules.ExponentialDecay(
            rate, steps, settings["decay"], staircase=True
        )
    return OPTIMIZERS[settings["name"]](model, rate)


def make_task(
    config: Mapping[str, Any],
    data: PreparedData,
    seed: int,
    replicas: int = 1,
    start: Start | None = None,
) -> Task:
    """Model, optimizer and batches of one seed.

    Args:
      config: settings as `experiments.running.defaults` has them, as plain values.
      data: the data set.
      seed: of the run.
      replicas: that share a batch.
      start: gives the model its first weights; None for those of the initializers.
    """
    batches = BatchOptions(**config["data"])
    evaluation_batches = BatchOptions(config["evaluation_rows"], batches.max_history)
    steps = data.steps(TRAIN, batches, replicas)
    if config["optimizer"]["name"] not in OPTIMIZERS:
        raise ValueError(
            f"expected an optimizer among {', '.join(OPTIMIZERS)}; got {config['optimizer']['name']!r}."
        )

    def training(epoch, transforms=()):
        return data.training(batches, seed, epoch, transforms, replicas)

    def evaluation(split, transforms=()):
        return data.evaluation(split, evaluation_batches, transforms)

    return Task(
        make_model=lambda: make_model(config, data.schema),
        make_optimizer=lambda model: make_optimizer(config, model, steps),
        training=training,
        evaluation=evaluation,
        schema=data.schema.fingerprint(),
        config={
            **config,
            "seed": seed,
            DATA_SCHEMA: data.schema.fingerprint(),
            PROGRAM: program_digest(config["model"]["name"]),
        },
        examples=sum(shard.candidates for shard in data.shards(TRAIN)),
        start=start,
    )


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
