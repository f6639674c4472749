"""A run's curves, histograms, graph and item embeddings for TensorBoard."""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorboard.plugins import projector

from dgin_tf.schema import CANDIDATE_MASK, HISTORY_MASK, write_text
from dgin_tf.training.distribution import is_asynchronous
from dgin_tf.training.observers import CURVES, Observer, Run

ATTENTION = "attention"  # what models call it among their outputs
_MAX_STEPS = 100  # between two points of the losses; an epoch of fewer steps has about twenty
_POINTS_OF_SHORT_EPOCHS = 20
_MAX_ROWS = 10_000  # of a table in a histogram: a vocabulary's most frequent ids


class Projection(NamedTuple):
    """Embeddings for TensorBoard's projector.

    Attributes:
      name: of the vocabulary.
      vectors: float [ids, dim].
      columns: names of what is known of each id, such as `title`.
      rows: one text a column for each id, [ids, columns].
    """

    name: str
    vectors: np.ndarray
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class TensorBoard(Observer):
    """Writes a run's TensorBoard events to `tensorboard/` in its directory.

    Losses and the learning rate are written while the model trains; metrics and histograms of weights and of
    the attention over the first validation batch after each evaluation; the graph of the forward pass
    at the start, and at the end the test metrics and embeddings of the best weights.

    Args:
      project: embeddings to show in the projector, of the trained model; None for none.
    """

    _run: Run
    _writer: Any = None

    def __init__(self, project: Callable[[tf.keras.Model], Projection] | None = None):
        self._project = project
        self._attention: Callable[[], Mapping[str, np.ndarray]] = dict
        self._every, self._written = _MAX_STEPS, 0

    def started(self, run: Run) -> None:
        self._run, self._written = run, run.step
        self._every = max(1, min(_MAX_STEPS, run.steps_per_epoch // _POINTS_OF_SHORT_EPOCHS))
        self._writer = tf.summary.create_file_writer(str(run.directory / CURVES))
        strategy = run.model.distribute_strategy
        if strategy.num_replicas_in_sync == 1 and not is_asynchronous(strategy):
            batch = dict(run.validation_batch())
            function = tf.function(functools.partial(_attention_of, run.model), autograph=False)
            concrete = function.get_concrete_function(batch)
            with self._writer.as_default(step=run.step):
                tf.summary.graph(concrete.graph)
            self._attention = lambda: function(batch)

    def stepped(self, step: int, losses: Mapping[str, Any]) -> None:
        if step - self._written >= self._every:  # one call may take several steps
            self._written = step
            rate = {"learning_rate": _learning_rate(self._run.model)}
            self._scalars("training", step, {**losses, **rate})

    def evaluated(self, entry: Mapping[str, Any], is_best: bool) -> None:
        step = entry["step"]
        self._scalars("validation", step, entry["validation"])
        with self._writer.as_default(step=step):
            for variable in self._run.model.trainable_variables:
                if isinstance(variable, tf.Variable):  # not one in parts on several servers
                    name = variable.name.partition(":")[0]
                    tf.summary.histogram(f"weights/{name}", variable[:_MAX_ROWS])
            for name, values in self._attention().items():
                tf.summary.histogram(name, values)
        self._writer.flush()

    def finished(self, result: Mapping[str, Any]) -> None:
        self._scalars("test", result["history"][-1]["step"], result["test"])
        if self._project is not None:
            _write_projection(self._run.directory / CURVES, self._project(self._run.model))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _scalars(self, prefix: str, step: int, values: Mapping[str, Any]) -> None:
        with self._writer.as_default(step=step):
            for name, value in values.items():
                if not isinstance(value, Mapping):  # metrics by history length: too many for curves
                    tf.summary.scalar(f"{prefix}/{name}", value)
        self._writer.flush()


def _attention_of(model: tf.keras.Model, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Attention of every real candidate to every real event, flat, by its path in the outputs."""
    attention = {}
    for path, values in _leaves(model(features, training=False)["outputs"]):
        if path[-1] == ATTENTION and values.shape.rank == 3:
            attention["/".join(name for name in path if name)] = _real(values, features)
    return attention


def _real(values: tf.Tensor, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Values [users, candidates, time] of real candidates and events, flat.

    Of values over the events that a search retrieves, all of a real candidate's are taken.
    """
    candidates = features[CANDIDATE_MASK][:, :, tf.newaxis]
    events = features[HISTORY_MASK][:, tf.newaxis, :]
    shape = tf.concat([tf.shape(candidates)[:2], tf.shape(values)[2:]], axis=0)
    mask = tf.cond(
        shape[2] == tf.shape(events)[2],
        lambda: tf.broadcast_to(candidates & events, shape),
        lambda: tf.broadcast_to(candidates, shape),
    )
    return tf.boolean_mask(tf.broadcast_to(values, shape), mask)


def _leaves(
    values: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], tf.Tensor]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, name))
        elif tf.is_tensor(value):
            yield (*path, name), value


def _learning_rate(model: tf.keras.Model) -> float:
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    # Under MirroredStrategy it is a variable with a value for each replica.
    return float(tf.convert_to_tensor(optimizer.learning_rate))


def _write_projection(folder: pathlib.Path, projection: Projection) -> None:
    """Writes vectors and what is known of them as the files that TensorBoard's projector reads."""
    vectors, metadata = f"{projection.name}.vectors.tsv", f"{projection.name}.tsv"
    rows = ("\t".join(f"{number:.6g}" for number in vector) for vector in projection.vectors)
    write_text(folder / vectors, "\n".join(rows) + "\n")
    table = (
        [projection.columns, *projection.rows] if len(projection.columns) > 1 else projection.rows
    )
    lines = ("\t".join(" ".join(cell.split()) or "-" for cell in row) for row in table)
    write_text(folder / metadata, "\n".join(lines) + "\n")  # one column has no head, by its format
    config = projector.ProjectorConfig()
    config.embeddings.add(tensor_name=projection.name, tensor_path=vectors, metadata_path=metadata)
    projector.visualize_embeddings(str(folder), config)
