"""Training loop: `model.fit` from one evaluation to the next, in runs that survive being killed.

The data are a function of the epoch and everything else is in the checkpoint, so a run that was
killed takes the same steps after its restart that it would have taken.

    train(task, options, run_dir)
      build -> restore -> [ fit -> validate -> checkpoint ] ... -> best weights -> test

An epoch is one pass over the training data. The steps between two evaluations are an interval: a
whole epoch, or an equal part of one (`evaluations_per_epoch`).
"""

import contextlib
import dataclasses
import functools
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.integrity import read_json, sealed
from dgin_tf.ownership import LOCK_FILE, locked, make_folder
from dgin_tf.schema import write_text
from dgin_tf.training import distribution
from dgin_tf.training.callbacks import StopOnNan
from dgin_tf.training.checkpoints import FOLDER, Checkpoints
from dgin_tf.training.evaluation import Evaluator
from dgin_tf.training.grown_weights import Start
from dgin_tf.training.observers import CURVES, Observer, Run, StepForwarder

CONFIG_FILE, RESULT_FILE = "config.json", "result.json"
LIMITS = {
    "epochs": None,
    "patience": 0,
}  # of a run's length -> the value that means no limit, if any
_RESULT_ADVICE = (
    "delete it and train again, which takes the finished weights and scores them once more"
)
HIGHER_IS_BETTER = {"auc": True, "gauc": True, "log_loss": False}


@dataclasses.dataclass(frozen=True)
class Task:
    """Model and data of a run.

    Attributes:
      make_model: makes the model; called within the strategy's scope.
      make_optimizer: makes the optimizer of a model.
      training: epoch, from 0, and the model's `input_transforms` -> its batches, a finite data set of
        known cardinality; the same epoch must always give the same batches.
      evaluation: name of a split, `validation` or `test`, and the model's `input_transforms` -> its
        batches, in a fixed order.
      schema: fingerprint of the schema that the data follow.
      config: plain JSON values that describe all of this; kept with the run, and a run directory is
        only continued under the same ones.
      examples: real candidates of the training split, for the throughput that observers show.
      start: gives a new run's model its first weights, those of another run; None for its initializers'.
    """

    make_model: Callable[[], tf.keras.Model]
    make_optimizer: Callable[[tf.keras.Model], Any]
    training: Callable[[int, Any], tf.data.Dataset]
    evaluation: Callable[[str, Any], tf.data.Dataset]
    schema: str
    config: Mapping[str, Any]
    examples: int = 0
    start: Start | None = None


@dataclasses.dataclass(frozen=True)
class LoopOptions:
    """Options of the training loop.

    Attributes:
      epochs: passes over the training data, at most; so many that patience ends a run before.
      evaluations_per_epoch: validations, and checkpoints, in one epoch.
      patience: validations in a row without improvement after which the run stops; 0 for never.
      monitor: validation metric that selects the best weights.
      seed: of the weights.
      steps_per_execution: steps in one call of the compiled function; more of them save time where
        a step takes a few milliseconds.
      jit_compile: whether XLA compiles losses and gradients, anew for every length of history; on one
        device only.
    """

    epochs: int = 30
    evaluations_per_epoch: int = 1
    patience: int = 3
    monitor: str = "auc"
    seed: int = 1
    steps_per_execution: int = 1
    jit_compile: bool = False

    def __post_init__(self):
        if min(self.epochs, self.evaluations_per_epoch, self.steps_per_execution) < 1:
            raise ValueError(
                "epochs, evaluations_per_epoch and steps_per_execution must be at least 1; got "
                f"{self.epochs}, {self.evaluations_per_epoch} and {self.steps_per_execution}."
            )
        if self.monitor not in HIGHER_IS_BETTER:
            raise ValueError(
                f"monitor must be one of {sorted(HIGHER_IS_BETTER)}; got {self.monitor!r}."
            )


@dataclasses.dataclass
class Progress:
    """State of the loop itself, beside weights and optimizer.

    Attributes:
      evaluations: finished evaluations.
      step: finished steps.
      best: best value of the monitored metric so far.
      best_evaluation: number of the evaluation, from 1, that measured it.
      evaluations_since_best: evaluations without improvement, which patience limits.
      seconds: training time, over all starts of the run.
      history: one entry an evaluation: epochs and steps until then, losses and validation metrics.
    """

    evaluations: int = 0
    step: int = 0
    best: float | None = None
    best_evaluation: int | None = None
    evaluations_since_best: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def note(self, monitor: str, entry: dict[str, Any]) -> bool:
        """Adds an evaluation to the history; returns True where it is the best so far."""
        self.history.append(entry)
        value = entry["validation"][monitor]
        if math.isnan(value):
            raise ValueError(
                f"the {monitor} of the validation split is undefined; expected both positives and "
                "negatives in it. Prepare more users for it, or monitor log_loss."
            )
        sign = 1.0 if HIGHER_IS_BETTER[monitor] else -1.0  # of an improvement
        is_best = self.best is None or sign * value > sign * self.best
        if is_best:
            self.best, self.best_evaluation = value, self.evaluations
            self.evaluations_since_best = 0
        else:
            self.evaluations_since_best += 1
        return is_best


def train(
    task: Task,
    options: LoopOptions,
    run_dir: str | os.PathLike,
    strategy: tf.distribute.Strategy | None = None,
    observers: Sequence[Observer] = (),
) -> dict[str, Any]:
    """Trains a model, or resumes a killed run; returns the content of `result.json`.

    A run, also a finished one, is continued under larger limits of its length (`LIMITS`, in the config's
    `loop`), and ends as one that had them from the start; its test split is scored again then.

    Args:
      task: model and data.
      options: how to train.
      run_dir: directory of the run: `config.json`, `checkpoints/`, `result.json`.
      strategy: how to distribute; one device by default.
      observers: what watches the run, such as a `Display`; of several workers in the chief alone.

    Returns:
      `validation` and `test`, metrics of the weights that did best on validation; `best_epoch`,
      epochs after which these weights were evaluated, a fraction where an epoch has several
      evaluations; `history`, `parameters` and `seconds`.

    Raises:
      ValueError: the directory holds another run, or the data do not fit the strategy.
      DivergenceError: a loss became NaN or infinite; names it and the step.
    """
    run_dir = pathlib.Path(run_dir)
    strategy = strategy or tf.distribute.get_strategy()
    with _lock(run_dir, strategy):
        _extend(run_dir, task.config)
        result = _claim(run_dir, task.config)
        if result is not None:
            return result
        try:
            session = _Session(task, options, run_dir, strategy, observers)
            session.run()
            return session.finish()
        finally:
            for observer in observers:
                observer.close()


class _Session:
    """One start of a run, from its restored state to its result."""

    def __init__(self, task, options, run_dir, strategy, observers):
        self.task, self.options, self.strategy = task, options, strategy
        self.run_dir = run_dir
        self.start_time = time.monotonic()
        # Making a data set traces its functions, so each is made once.
        self._epoch_batches = functools.lru_cache(maxsize=1)(
            lambda epoch: task.training(epoch, self.model.input_transforms)
        )
        self._split = functools.cache(
            lambda split: task.evaluation(split, self.model.input_transforms)
        )
        # Layers with random parts (dropout) then keep their generators in the checkpoint.
        tf.keras.backend.experimental.enable_tf_random_generator()
        tf.keras.utils.set_random_seed(options.seed)
        with strategy.scope():
            if options.jit_compile and tf.distribute.has_strategy():
                raise ValueError(
                    "jit_compile expects one device, for XLA cannot compile what replicas exchange; got "
                    f"a {type(strategy).__name__}. Set loop.jit_compile to False."
                )
            self.model = task.make_model()
            self.evaluator = Evaluator(self.model)
            self._build(self._epoch_batches(0).element_spec)
            self.model.compile(
                optimizer=task.make_optimizer(self.model),
                steps_per_execution=options.steps_per_execution,
                jit_compile=options.jit_compile,
            )
            self.model.optimizer.build(self.model.trainable_variables)  # slots, to restore into
            writes = distribution.is_chief(strategy)
            self.checkpoints = Checkpoints(run_dir, self.model, task.schema, writes)
            state = self.checkpoints.restore_state()
            if state is None:  # what a model takes from the data is in later checkpoints
                self.model.adapt(self._epoch_batches(0))
                if task.start is not None:
                    task.start(self.model)
            self.progress = Progress(**(state or {}))
        self.writes = writes
        self.observers = observers if writes else ()
        if self.observers:
            run = self._as_observed()
            for observer in self.observers:
                observer.started(run)

    def run(self):
        """Trains and evaluates until the last epoch is over or patience is."""
        options, progress = self.options, self.progress
        while progress.evaluations < options.epochs * options.evaluations_per_epoch:
            if options.patience and progress.evaluations_since_best >= options.patience:
                break
            self._train_interval()

    def finish(self):
        """Scores the test split once, with the best weights."""
        if self.progress.best_evaluation is None:
            raise ValueError(
                f"no validation gave a finite {self.options.monitor}, so that no weights are best; the "
                "validation split needs positives and negatives."
            )
        self.checkpoints.restore_best()
        # The test split is scored once a run, never for a choice.
        best = self.progress.history[self.progress.best_evaluation - 1]
        result = {
            "validation": best["validation"],
            "test": self.evaluator.evaluate(self._split("test")),
            "best_epoch": best["epoch"],
            "history": self.progress.history,
            "parameters": self._parameters(),
            "seconds": round(self._seconds(), 1),
        }
        if self.writes:
            write_text(self.run_dir / RESULT_FILE, sealed(without_nan(result)))
        for observer in self.observers:
            observer.finished(result)
        return result

    def _train_interval(self):
        """Trains until the next evaluation, evaluates and writes a checkpoint."""
        progress, model = self.progress, self.model
        steps, dataset = self._interval(progress.evaluations)
        # Keras numbers the calls of its loop as epochs; here each of them is one interval.
        fit_history = model.fit(
            distribution.deal_parts(dataset, self.strategy),
            initial_epoch=progress.evaluations,
            epochs=progress.evaluations + 1,
            steps_per_epoch=steps,
            callbacks=self._callbacks(),
            verbose=0,  # observers show it
        )
        progress.evaluations += 1
        progress.step += steps
        for observer in self.observers:
            observer.evaluating()
        validation = self.evaluator.evaluate(self._split("validation"))
        entry = {
            "epoch": progress.evaluations / self.options.evaluations_per_epoch,
            "step": progress.step,
            "losses": {name: values[-1] for name, values in fit_history.history.items()},
            "validation": validation,
        }
        # The best weights are written before the state that refers to them, see `checkpoints`.
        is_best = progress.note(self.options.monitor, entry)
        if is_best:
            self.checkpoints.save_best(progress.evaluations, {"validation": validation})
        for observer in self.observers:
            observer.evaluated(entry, is_best)
        state = dataclasses.replace(progress, seconds=self._seconds())
        self.checkpoints.save_state(progress.evaluations, dataclasses.asdict(state))

    def _interval(self, number):
        """Number of steps and batches of an interval: an epoch, or a part of one."""
        parts = self.options.evaluations_per_epoch
        epoch, part = divmod(number, parts)
        batches = self._epoch_batches(epoch)
        total = int(batches.cardinality())
        if total < parts:
            raise ValueError(
                f"expected at least {parts} training batches, one for every evaluation in an epoch; "
                f"got {total}. Use a smaller batch or fewer evaluations_per_epoch."
            )
        # Rounding spreads a remainder over the parts, so that together they are the epoch.
        first, last = total * part // parts, total * (part + 1) // parts
        if parts > 1:
            batches = batches.skip(first).take(last - first)
        # Several workers read the same batches, and each takes its rows of every one.
        options = tf.data.Options()
        policy = tf.data.experimental.AutoShardPolicy.DATA
        options.experimental_distribute.auto_shard_policy = policy
        return last - first, batches.with_options(options)

    def _callbacks(self):
        if distribution.is_asynchronous(self.strategy):
            return []  # Keras has no step to call them at: the workers step on their own
        return [StopOnNan(self.progress.step), StepForwarder(self.observers, self.progress.step)]

    def _as_observed(self):
        return Run(
            model=self.model,
            parameters=self._parameters(),
            directory=self.run_dir,
            epochs=self.options.epochs,
            evaluations_per_epoch=self.options.evaluations_per_epoch,
            steps_per_epoch=int(self._epoch_batches(0).cardinality()),
            examples_per_epoch=self.task.examples,
            evaluations=self.progress.evaluations,
            step=self.progress.step,
            validation_batch=lambda: next(iter(self._split("validation"))),
        )

    def _build(self, spec):
        """Creates the weights by tracing one call, without computing anything."""
        call = functools.partial(self.model, training=False)
        tf.function(call, autograph=False).get_concrete_function(spec)

    def _parameters(self):
        return sum(math.prod(v.shape) for v in self.model.trainable_variables)

    def _seconds(self):
        return self.progress.seconds + time.monotonic() - self.start_time


def write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Writes JSON whole or not at all; NaN, which JSON lacks, becomes null."""
    write_text(path, json.dumps(without_nan(content), indent=2, allow_nan=False) + "\n")


def without_nan(value: Any) -> Any:
    """Nested JSON values with null for NaN and infinities, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _extend(run_dir, config):
    """Opens a run again whose config differs in nothing but larger limits of its length."""
    path = run_dir / CONFIG_FILE
    if not path.exists():
        return
    before, now = read_config(run_dir), json.loads(json.dumps(config))
    old, new = (
        {name: entry.get("loop", {}).get(name) for name in LIMITS} for entry in (before, now)
    )
    if old == new or differences({**before, "loop": {**before.get("loop", {}), **new}}, now):
        return
    for name, unlimited in LIMITS.items():
        was, is_now = (
            math.inf if entry[name] == unlimited else entry[name] for entry in (old, new)
        )
        if is_now < was:
            return  # more may have been trained than the smaller limit allows
    # In this order: a kill in between leaves a run without a result, which is opened again.
    (run_dir / RESULT_FILE).unlink(missing_ok=True)
    write_text(path, sealed(without_nan(now)))


def _lock(run_dir, strategy):
    """Lock of a run's directory, of the process that writes there; others of its cluster share it."""
    make_folder(run_dir)
    if not distribution.is_chief(strategy):
        return contextlib.nullcontext()
    return locked(
        run_dir / LOCK_FILE,
        f"another training is writing to {run_dir}; wait for it, or choose another model_dir.",
    )


def _claim(run_dir, config):
    """Checks the run's directory, or makes it this run's; returns the result of a finished run."""
    path, result = run_dir / CONFIG_FILE, run_dir / RESULT_FILE
    config = json.loads(json.dumps(config))
    if not path.exists():
        if foreign := [n for n in (RESULT_FILE, FOLDER, CURVES) if os.path.lexists(run_dir / n)]:
            raise ValueError(
                f"expected {run_dir} to be new or the directory of a run; it holds {foreign[0]} without "
                f"{CONFIG_FILE}. Move it away, or choose another model_dir."
            )
        write_text(path, sealed(without_nan(config)))
        return None
    differing_settings = differences(read_config(run_dir), config)
    if differing_settings:
        raise ValueError(
            f"{run_dir} holds a run with another config, which differs in "
            f"{', '.join(differing_settings)}; "
            "choose another model_dir, or the old values to go on with that run."
        )
    return read_result(run_dir) if result.exists() else None


def read_result(run_dir: pathlib.Path) -> dict[str, Any]:
    """Result of a finished run; raises ValueError where `result.json` is damaged."""
    return read_json(run_dir / RESULT_FILE, "the result of a run", _RESULT_ADVICE)


def read_config(run_dir: pathlib.Path) -> dict[str, Any]:
    """Settings of a run; raises ValueError where `config.json` is damaged."""
    advice = (
        f"put back the file as training wrote it, or train again in another folder than {run_dir}"
    )
    return read_json(run_dir / CONFIG_FILE, "the settings of a run", advice)


def differences(before: Any, now: Any, prefix: str = "") -> list[str]:
    """Names of the nested JSON values in which two configs differ, each with both values."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return [
            name
            for key in sorted({*before, *now})
            for name in differences(before.get(key), now.get(key), f"{prefix}{key}.")
        ]
    return [] if before == now else [f"{prefix[:-1]} ({before!r}, now {now!r})"]
