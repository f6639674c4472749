"""Evaluation of a model on a split: compiled scoring of its batches, then exact metrics."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from dgin_tf import metrics
from dgin_tf.inputs.group_features import HISTORY_LENGTH
from dgin_tf.schema import (
    CANDIDATE,
    CANDIDATE_MASK,
    HISTORY_MASK,
    MILLIONTHS,
    NEGATIVE_RATE,
    PREFIX,
    REQUEST,
    SAMPLE_WEIGHT,
    recorded,
)

CLICK, USER = "label", "user_id"
_REQUEST = PREFIX[CANDIDATE] + REQUEST
# Of predictions, the features that hold them in millionths.
_MILLIONTHS = {
    "weights": PREFIX[CANDIDATE] + SAMPLE_WEIGHT,
    "negative_rates": PREFIX[CANDIDATE] + NEGATIVE_RATE,
}


class Evaluator:
    """Scores whole data sets with a model, which is traced once for all of them.

    Args:
      model: gives `logits` [users, candidates] for a batch of features.
      columns: features, [users] or [users, candidates], that `score` returns beside the scores.
    """

    def __init__(self, model: tf.keras.Model, columns: Sequence[str] = ()):
        self.model = model
        self.columns = tuple(columns)
        self.strategy = model.distribute_strategy
        # A partial has no code of its own, by which TensorFlow would count the tracings of all
        # evaluators of a process together and warn of them.
        score = functools.partial(self._score_replicas)
        self._step = tf.function(score, autograph=False, reduce_retracing=True)

    def predict(self, dataset: tf.data.Dataset) -> metrics.Predictions:
        """Scores every real candidate of a data set, in order; arguments and errors as in `score`."""
        return predictions_of(self.score(dataset))

    def score(self, dataset: tf.data.Dataset) -> dict[str, np.ndarray]:
        """Scores every real candidate of a data set, in order.

        Args:
          dataset: batches with `label`, `cand_mask`, `hist_mask`; and `user_id` [users], by which
            GAUC groups. Without user ids every row is a group of its own, like a page view.

        Returns:
          The fields of `metrics.Predictions`, and every feature of `columns` by its name, each
          [samples].

        Raises:
          ValueError: the data set has no real candidate.
        """
        if isinstance(self.strategy, tf.distribute.MirroredStrategy):
            dataset = self.strategy.experimental_distribute_dataset(dataset)
        rows, batches = 0, []
        for features in dataset:
            # Replica by replica, each a flat array of its real candidates.
            arrays = {
                name: np.concatenate([part.numpy() for part in parts])
                for name, parts in self._step(features).items()
            }
            batch_rows = arrays.pop("rows").sum()
            if "groups" not in arrays:
                arrays["groups"] = arrays.pop("row") + rows
            rows += batch_rows
            batches.append(arrays)
        if not any(len(arrays["logits"]) for arrays in batches):
            raise ValueError("expected a split with examples to evaluate on; it holds none.")
        return {name: np.concatenate([arrays[name] for arrays in batches]) for name in batches[0]}

    def evaluate(self, dataset: tf.data.Dataset) -> dict:
        """`metrics.summary` of a data set, and the same for every interval under `by_history_length`."""
        return summary_of(self.predict(dataset))

    def _score_replicas(self, features):
        results = self.strategy.run(self._score, (features,))
        parts = {n: self.strategy.experimental_local_results(v) for n, v in results.items()}
        if isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy):
            # Every replica of every worker has scored the whole batch: exact metrics need all of it.
            return {name: values[:1] for name, values in parts.items()}
        return parts

    def _score(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Flat tensors, one entry a real candidate, and the number of rows."""
        logits = self.model(features, training=False)["logits"]
        real = features[CANDIDATE_MASK]
        rows, width = tf.unstack(tf.shape(logits))
        length = features.get(HISTORY_LENGTH)
        if length is None:
            length = tf.reduce_sum(tf.cast(features[HISTORY_MASK], tf.int32), axis=1)

        def flat(per_row):  # [users] -> [real candidates]
            return tf.boolean_mask(tf.repeat(per_row[:, None], width, axis=1), real)

        replica = tf.distribute.get_replica_context().replica_id_in_sync_group

        def column(values):
            return flat(values) if values.shape.rank == 1 else tf.boolean_mask(values, real)

        samples = {
            **{name: column(features[name]) for name in self.columns},
            "logits": tf.boolean_mask(logits, real),
            "labels": tf.boolean_mask(features[CLICK], real),
            "history_lengths": flat(length),
            "rows": rows[None],
        }
        if _REQUEST in features:
            samples["requests"] = tf.boolean_mask(features[_REQUEST], real)
        for name, feature in _MILLIONTHS.items():
            if feature in features:
                values = tf.boolean_mask(features[feature], real)
                samples[name] = tf.cast(values, tf.float64) / MILLIONTHS
        # Users whom an earlier model does not know are groups of their own all the same.
        if (users := features.get(recorded(USER), features.get(USER))) is not None:
            return {**samples, "groups": flat(users)}
        # Every replica has as many rows, so that this numbers the rows of the global batch.
        return {**samples, "row": flat(tf.range(rows) + rows * replica)}


def predictions_of(scores: Mapping[str, np.ndarray]) -> metrics.Predictions:
    """The predictions among what `Evaluator.score` returns."""
    names = [field.name for field in dataclasses.fields(metrics.Predictions)]
    return metrics.Predictions(**{name: scores[name] for name in names if name in scores})


def summary_of(predictions: metrics.Predictions) -> dict:
    """`metrics.summary`, and the same for every interval under `by_history_length`."""
    by_length = metrics.by_history_length(predictions)
    return {**metrics.summary(predictions), "by_history_length": by_length}
