"""Interface of what watches a run.

An observer reads and never changes what is computed, so that a run has the same weights whoever watches.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

CURVES = "tensorboard"  # folder in a run's directory


@dataclasses.dataclass(frozen=True)
class Run:
    """A start of a run, as observers see it.

    Attributes:
      model: built, with the restored weights where the run resumes.
      parameters: trainable numbers of the model.
      directory: of the run.
      epochs: at most so many.
      evaluations_per_epoch: intervals of an epoch.
      steps_per_epoch: training batches.
      examples_per_epoch: real candidates of the training split.
      evaluations: finished ones, before this start.
      step: finished steps, before this start.
      validation_batch: reads the first batch of the validation split.
    """

    model: tf.keras.Model
    parameters: int
    directory: pathlib.Path
    epochs: int
    evaluations_per_epoch: int
    steps_per_epoch: int
    examples_per_epoch: int
    evaluations: int
    step: int
    validation_batch: Callable[[], Mapping[str, tf.Tensor]]


class Observer:
    """Watches a run; every method does nothing here."""

    def started(self, run: Run) -> None:
        """A run starts, or resumes."""

    def stepped(self, step: int, losses: Mapping[str, Any]) -> None:
        """Steps were taken.

        Args:
          step: finished steps of the run.
          losses: name -> mean since the last evaluation, a scalar tensor; reading it waits for the device.
        """

    def evaluating(self) -> None:
        """An interval of training is over; its evaluation begins."""

    def evaluated(self, entry: Mapping[str, Any], is_best: bool) -> None:
        """An evaluation is over.

        Args:
          entry: of the history in `result.json`: `epoch`, `step`, `losses`, `validation`.
          is_best: whether no evaluation before was as good.
        """

    def finished(self, result: Mapping[str, Any]) -> None:
        """The run is over; the model has its best weights."""

    def close(self) -> None:
        """The run is over, failed, or was interrupted."""


class StepForwarder(tf.keras.callbacks.Callback):
    """Tells observers of the steps of one call of `fit`.

    Args:
      observers: whom to tell.
      finished_steps: steps taken before this call.
    """

    _supports_tf_logs = True  # or Keras copies every metric to numpy after every step

    def __init__(self, observers: Sequence[Observer], finished_steps: int = 0):
        super().__init__()
        self.observers = observers
        self.finished_steps = finished_steps

    def on_train_batch_end(self, batch, logs=None):
        for observer in self.observers:
            observer.stepped(self.finished_steps + batch + 1, logs)
