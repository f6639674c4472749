"""Checkpoints of a run, from which a killed run resumes.

A checkpoint is a directory, written under a temporary name and renamed. `checkpoints/state-0007`
holds everything a run needs to resume after its seventh evaluation: weights, optimizer and, as JSON,
the progress of the loop. `checkpoints/best-0005` holds only the weights that did best on validation,
those of the fifth. The best weights are written before the state that refers to them, and what no
state refers to is deleted afterwards, so that a kill at any moment leaves a run that can resume.
"""

import dataclasses
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.integrity import check_files, facts_of, first_line, read_json, sealed

FOLDER = "checkpoints"
_IDENTITY, _PROGRESS, _VALUES = "identity.json", "progress.json", "values"
_STATE, _BEST = "state", "best"
_FILES = "files"  # in the identity: sizes and checksums of the other files


@dataclasses.dataclass(frozen=True)
class Identity:
    """Identity of a trained model, in which a checkpoint and the model that reads it must agree.

    Attributes:
      model: class of the model.
      schema: fingerprint of the schema that it was trained under.
      variables: name and shape of every weight.
    """

    model: str
    schema: str
    variables: Sequence[tuple[str, Sequence[int]]]

    @classmethod
    def of(cls, model: tf.keras.Model, schema: str) -> "Identity":
        """Identity of a built model."""
        variables = [
            (variable.name, list(variable.shape))
            for layer in model.layers
            for variable in layer.variables
        ]
        return cls(type(model).__name__, schema, variables)

    def check(self, other: "Identity", path: pathlib.Path) -> None:
        """Raises ValueError, naming the difference, unless the checkpoint in `path` has this identity."""
        if other.model != self.model:
            raise ValueError(
                f"expected a checkpoint of model {self.model!r}; {path} holds one of {other.model!r}."
                " Use another model_dir or the model that the checkpoint belongs to."
            )
        if other.schema != self.schema:
            raise ValueError(
                f"expected a checkpoint trained under schema {self.schema}; {path} was trained under "
                f"{other.schema}. Use the data set that the checkpoint belongs to, or train again."
            )
        # Names carry counters of the process ("dense_3"), so weights are told apart by shape.
        ours, theirs = (
            [(name, tuple(shape)) for name, shape in identity.variables]
            for identity in (self, other)
        )
        if [shape for _, shape in ours] != [shape for _, shape in theirs]:
            pairs = zip(ours, theirs, strict=False)
            mismatch = next(((a, b) for a, b in pairs if a[1] != b[1]), None)
            example = (
                f"{mismatch[0][0]} has shape {mismatch[0][1]} here and {mismatch[1][1]} there"
                if mismatch
                else f"{len(ours)} weights here, {len(theirs)} there"
            )
            raise ValueError(
                f"{path} holds a model {self.model!r} of other sizes: {example}. Use the config that "
                "the checkpoint was trained with."
            )


class Checkpoints:
    """Saves and restores the state of a run, and its best weights.

    Args:
      run_dir: directory of the run.
      model: a built model.
      schema: fingerprint of the schema.
      writes: True where this process writes files, as one of several workers does; the others only
        take part in reading the values that replicas hold together.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike,
        model: tf.keras.Model,
        schema: str,
        writes: bool = True,
    ):
        self.directory = pathlib.Path(run_dir) / FOLDER
        self.identity = Identity.of(model, schema)
        self._writes = writes
        self._weights = _weights(model)
        parts = {"optimizer": getattr(model, "optimizer", None), "generators": _generators(model)}
        # Loaded for inference, a model has no optimizer; without dropout it has no generators.
        present = {name: part for name, part in parts.items() if part}
        self._state = tf.train.Checkpoint(model=model, **present)

    def save_state(self, evaluation: int, progress: Mapping[str, Any]) -> None:
        """Saves weights, optimizer and progress after an evaluation; deletes older states.

        Args:
          evaluation: its number in the run, from 1.
          progress: of the loop; a best checkpoint other than that of its `best_evaluation` goes too.
        """
        self._save(self._state, _STATE, evaluation, progress)
        if self._writes:
            best = progress.get("best_evaluation")
            for path, kind, number in _checkpoints(self.directory):
                if number != (evaluation if kind == _STATE else best):
                    shutil.rmtree(path)

    def restore_state(self) -> dict[str, Any] | None:
        """Restores the newest state; returns its progress, or None where the run is new.

        Raises:
          ValueError: it belongs to another model or schema.
        """
        states = [path for path, kind, _ in _checkpoints(self.directory) if kind == _STATE]
        if not states:
            return None
        self._restore(self._state, states[-1])
        return read_json(states[-1] / _PROGRESS, "the progress of a run", _advice(states[-1]))

    def save_best(self, evaluation: int, progress: Mapping[str, Any]) -> None:
        """Saves the weights, after the evaluation with this number, as the best so far."""
        self._save(self._weights, _BEST, evaluation, progress)

    def restore_best(self) -> pathlib.Path:
        """Restores the best weights; returns where from. Errors as in `best_checkpoint`."""
        path = best_checkpoint(self.directory.parent)
        self._restore(self._weights, path)
        return path

    def _save(self, checkpoint, kind, evaluation, progress):
        if not self._writes:  # reading sharded variables is collective: every worker has to do it
            with tempfile.TemporaryDirectory() as scratch_dir:
                checkpoint.write(os.path.join(scratch_dir, _VALUES))
            return
        target = self.directory / f"{kind}-{evaluation:04d}"
        temporary = self.directory / f".{target.name}.{os.getpid()}.tmp"
        for stale in self.directory.glob(".*.tmp"):
            if re.fullmatch(rf"\.({_STATE}|{_BEST})-\d+\.\d+\.tmp", stale.name):  # of a killed run
                shutil.rmtree(stale)
        temporary.mkdir(parents=True)
        try:
            checkpoint.write(str(temporary / _VALUES))
            (temporary / _PROGRESS).write_text(sealed(progress))
            # The identity is written last, with checksums of everything beside it.
            names = sorted(path.name for path in temporary.iterdir())
            identity = {**dataclasses.asdict(self.identity), _FILES: facts_of(temporary, names)}
            (temporary / _IDENTITY).write_text(sealed(identity))
            if target.exists():  # a run that was killed between this and its next state
                shutil.rmtree(target)
            os.replace(temporary, target)  # atomic: the checkpoint is there whole, or not at all
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _restore(self, checkpoint, path):
        advice = _advice(path)
        content = read_json(path / _IDENTITY, "the identity of a checkpoint", advice)
        files = content.pop(_FILES, {})  # none where a version before 0.7 wrote it
        try:
            identity = Identity(**content)
        except TypeError as error:
            raise ValueError(
                f"{path / _IDENTITY} is not of this version ({error}); {advice}."
            ) from error
        self.identity.check(identity, path)
        check_files(path, files, advice)
        try:
            # Raises where a weight has no value, rather than leave it at its initial one.
            checkpoint.read(str(path / _VALUES)).assert_existing_objects_matched()
        except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:
            raise ValueError(
                f"the values in {path} cannot be restored ({first_line(error)}); {advice}."
            ) from error


def _advice(path: pathlib.Path) -> str:
    """Sentence about a damaged checkpoint."""
    if path.name.startswith(_STATE):
        return f"delete {path.parent} and train again, from the beginning"
    return f"put back the folder {path} from a copy, or delete {path.parents[1]} and train again"


def best_checkpoint(run_dir: str | os.PathLike) -> pathlib.Path:
    """Directory of a run's best checkpoint.

    Raises:
      FileNotFoundError: the run has none yet, or is no run.
    """
    paths = [p for p, kind, _ in _checkpoints(pathlib.Path(run_dir) / FOLDER) if kind == _BEST]
    if not paths:
        raise FileNotFoundError(
            f"expected a trained run with a checkpoint in {os.fspath(run_dir)!r}, found none; run "
            "python -m experiments.train with that --model_dir first."
        )
    return paths[-1]


def load_best(model: tf.keras.Model, run_dir: str | os.PathLike, schema: str) -> pathlib.Path:
    """Loads a run's best weights into a built model.

    Args:
      model: the model, built, of the run's config.
      run_dir: directory of the run.
      schema: fingerprint of the schema of the data at hand.

    Returns:
      The checkpoint's directory.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it belongs to another model or schema.
    """
    return Checkpoints(run_dir, model, schema).restore_best()


def _weights(model: tf.keras.Model) -> tf.train.Checkpoint:
    """Weights of the model's layers and its own, without its optimizer and metrics."""
    of_layers = {variable.ref() for layer in model.layers for variable in layer.variables}
    own = [variable for variable in model.trainable_variables if variable.ref() not in of_layers]
    return tf.train.Checkpoint(layers=list(model.layers), **({"own": own} if own else {}))


def _generators(model: tf.keras.Model) -> list[tf.random.Generator]:
    """Random generators of the model's layers, which Keras leaves out of checkpoints."""
    wrappers = (getattr(layer, "_random_generator", None) for layer in model.submodules)
    generators = (getattr(wrapper, "_generator", None) for wrapper in wrappers)
    return [generator for generator in generators if generator is not None]


def _checkpoints(directory: pathlib.Path) -> list[tuple[pathlib.Path, str, int]]:
    """Whole checkpoints in a folder, as path, kind and number of the evaluation, oldest first."""
    entries = []
    for path in directory.glob("*-*"):
        match = re.fullmatch(rf"({_STATE}|{_BEST})-(\d+)", path.name)
        if match:
            entries.append((path, match[1], int(match[2])))
    return sorted(entries, key=lambda entry: entry[2])
