"""Weights of an earlier run in a new model, whose tables may have more rows: tomorrow's training.

Rows of ids that are new stay as they were initialized; everything else is the earlier run's.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.training.checkpoints import Checkpoints


def start_from(
    model: tf.keras.Model,
    earlier: tf.keras.Model,
    run_dir: str | os.PathLike,
    schema: str,
    keep_optimizer: bool = False,
) -> None:
    """Copies the best weights of a run into a model.

    Args:
      model: built and, where the optimizer's state is kept, compiled; it is changed.
      earlier: the same model under the schema that the run was trained under, likewise.
      run_dir: of the run.
      schema: fingerprint of that schema.
      keep_optimizer: whether the state of the optimizer goes on too, that of the run's last evaluation.

    Raises:
      FileNotFoundError: there is no trained run.
      ValueError: the run is of another model, or of other sizes.
    """
    checkpoints = Checkpoints(run_dir, earlier, schema)
    if keep_optimizer and checkpoints.restore_state() is None:
        raise ValueError(
            f"{os.fspath(run_dir)} has no state of an optimizer; start with a fresh one."
        )
    checkpoints.restore_best()
    _copy(_weights(earlier), _weights(model))
    if keep_optimizer:
        _copy(_moments(earlier.optimizer), _moments(model.optimizer))


def _copy(sources: Sequence[tf.Variable], targets: Sequence[tf.Variable]) -> None:
    for source, target in zip(sources, targets, strict=True):
        value, rows = source.read_value(), source.shape[:1]
        if source.shape != target.shape:
            # A table whose vocabulary has grown: its first rows are the earlier ids'.
            value = tf.concat([value, target.read_value()[rows[0] :]], axis=0)
        target.assign(value)


def _weights(model: tf.keras.Model) -> list[tf.Variable]:
    """Variables of the layers and the model's own, without its optimizer and metrics.

    How often ids occur is left out, which is counted in the data of each training.
    """
    of_layers = [variable for layer in model.layers for variable in layer.variables]
    refs = {variable.ref() for variable in of_layers}
    variables = [*of_layers, *(v for v in model.trainable_variables if v.ref() not in refs)]
    counts = {count.ref() for count in getattr(model.embedding, "counts", {}).values()}
    return [variable for variable in variables if variable.ref() not in counts]


def _moments(optimizer: Any) -> list[tf.Variable]:
    """Variables of an optimizer but its learning rate, which is a setting."""
    parts = getattr(optimizer, "optimizers", [optimizer])
    return [v for part in parts for v in part.variables if "learning_rate" not in v.name]


Start = Callable[[tf.keras.Model], None]
"""Gives a built and compiled model the weights that a run begins with."""
