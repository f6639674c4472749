"""What storing users' states in fewer bytes costs a model: its AUC on a split, from rounded states and without."""

import dataclasses

import numpy as np
import tensorflow as tf

from dgin_tf import metrics
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.models.base import CTRModel
from dgin_tf.schema import CANDIDATE_MASK
from dgin_tf.serving.export.state_names import flatten_state, unflatten_state
from dgin_tf.state_types import narrow, widen


@dataclasses.dataclass(frozen=True)
class Rounding:
    """Effect of a state type.

    Attributes:
      state_type: of `dgin_tf.state_types`.
      examples: candidates that were scored.
      auc, rounded_auc: from states as they are and as they are stored.
      largest_difference: of two probabilities of a candidate.
    """

    state_type: str
    examples: int
    auc: float
    rounded_auc: float
    largest_difference: float

    def __str__(self) -> str:
        return (
            f"{self.state_type} states: AUC {self.rounded_auc:.4f} in place of {self.auc:.4f} "
            f"({self.rounded_auc - self.auc:+.5f}) over {self.examples:,} candidates, probabilities at most "
            f"{self.largest_difference:.2g} off"
        )


def measure_rounding(
    model: CTRModel,
    data: PreparedData,
    options: BatchOptions,
    state_type: str,
    split: str = "validation",
    batches: int = 40,
) -> Rounding:
    """Scores a split from states as `narrow` stores them, and from states as they are.

    Args:
      model: with the weights to serve.
      data: the data set that it was trained on.
      options: how batches are made.
      state_type: of `dgin_tf.state_types`.
      split: name of the split.
      batches: of the split at most, evenly spaced, so that they have histories of all lengths.
    """
    spacing = max(data.steps(split, options) // batches, 1)
    scored = []
    for features in data.evaluation(split, options).shard(spacing, spacing - 1):
        state = model.encode_user(features)
        arrays = {name: tensor.numpy() for name, tensor in flatten_state(state).items()}
        rounded = unflatten_state(widen(narrow(arrays, state_type)))
        real = features[CANDIDATE_MASK].numpy()
        logits = [model.score(s, features)["logits"].numpy()[real] for s in (state, rounded)]
        scored.append((features["label"].numpy()[real], *map(tf.sigmoid, logits)))
    labels, scores, rounded_scores = (
        np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*scored, strict=True)
    )
    return Rounding(
        state_type,
        len(labels),
        metrics.auc(labels, scores),
        metrics.auc(labels, rounded_scores),
        float(np.abs(scores - rounded_scores).max()),
    )
