"""What a model computes on the way to a score, as numpy arrays with names that people can read.

Nothing is hooked: attention, gates and states are part of what `CTRModel.call` returns.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from dgin_tf.models.base import CTRModel
from dgin_tf.records import LABEL
from dgin_tf.schema import CANDIDATE, HISTORY, Schema, feature_name

VOCABULARY = "vocabulary"
_RESERVED = ("padding", "unknown")

Arrays = dict[str, np.ndarray]


class Names:
    """Raw values of dense ids, as the vocabularies of a prepared data set list them.

    Args:
      data_dir: the data set; ids without a vocabulary file are called by their number.
    """

    def __init__(self, data_dir: str | os.PathLike):
        self._folder = pathlib.Path(data_dir) / VOCABULARY
        self._lines: dict[str, list[str]] = {}

    def of(self, vocabulary: str, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The raw value of each id of a vocabulary."""
        if vocabulary not in self._lines:
            path = self._folder / f"{vocabulary}.txt"
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            self._lines[vocabulary] = [*_RESERVED, *text.splitlines()]
        lines = self._lines[vocabulary]
        return [lines[i] if 0 <= i < len(lines) else f"#{i}" for i in map(int, ids)]


@dataclasses.dataclass(frozen=True)
class Trace:
    """A batch and everything that a model says about it.

    Attributes:
      features: the batch.
      outputs: `probabilities` [users, candidates], the state, and the model's named intermediates.
    """

    features: Arrays
    outputs: Arrays

    @property
    def attention(self) -> np.ndarray | None:
        """Attention [users, candidates, time], or None where the model has none."""
        names = [name for name in self.outputs if name.split("_")[-1] == "attention"]
        return self.outputs[names[0]] if names else None

    @property
    def length(self) -> np.ndarray:
        """Real events of each row, [users]."""
        return self.features["hist_mask"].sum(axis=1)


def trace(model: CTRModel, features: Mapping[str, tf.Tensor]) -> Trace:
    """Runs a batch through a model and keeps all named outputs."""
    outputs = dict(model(features, training=False))
    outputs["probabilities"] = tf.sigmoid(outputs["logits"])
    return Trace(_numpy(features), _numpy(outputs))


def has_evolution(model: CTRModel) -> bool:
    """Whether a model evolves interests step by step, so that `trace_evolution` can follow them."""
    return hasattr(getattr(model, "interest_encoder", None), "evolution")


def trace_evolution(
    model: CTRModel, features: Mapping[str, tf.Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """The interests of users on their way towards each candidate, and towards none.

    Args:
      model: a DIEN or one of its ablations, see `has_evolution`.
      features: a batch.

    Returns:
      Evolving states h'_t [users, 1 + candidates, time, units] and attention a_t [users,
      1 + candidates, time]. Index 0 is the paper's target "None": equal attention.

    Raises:
      ValueError: the model does not evolve interests.
    """
    if not has_evolution(model):
        raise ValueError(f"model {model.name!r} has no interest evolution; it needs a DIEN.")
    encoder = model.interest_encoder
    state = model.encode_user(features)
    attention = encoder.attend(state, model.embedding.target(features))
    paths = [encoder.evolution(state), encoder.evolution(state, attention)]
    real = features["hist_mask"].numpy().astype(np.float32)
    equal = real / np.maximum(real.sum(axis=1, keepdims=True), 1.0)
    return (
        np.concatenate([path.numpy() for path in paths], axis=1).astype(np.float32),
        np.concatenate([equal[:, None], attention.numpy()], axis=1),
    )


def with_candidates(
    features: Mapping[str, tf.Tensor], row: int, count: int, schema: Schema
) -> dict[str, tf.Tensor]:
    """One row of a batch against its own candidates and clicked ones of the other rows.

    Args:
      features: a batch.
      row: the row whose history to keep.
      count: candidates wanted; fewer where the batch has not so many different items.
      schema: what the features are.

    Returns:
      A batch of one row, without padding in its history.
    """
    arrays = _numpy(features)
    mask, label = arrays["cand_mask"], arrays[LABEL]
    own = [(row, n) for n in np.flatnonzero(mask[row])]
    own.sort(key=lambda at: -label[at])
    others = [tuple(at) for at in np.argwhere(mask & (label > 0)) if at[0] != row]
    item = arrays[feature_name(CANDIDATE, schema.field("item_id"))]
    chosen: dict[int, tuple[int, int]] = {}
    for at in own + others:
        chosen.setdefault(int(item[at]), at)
    rows, columns = np.array(list(chosen.values())[:count]).T
    real = arrays["hist_mask"][row]
    only = {}
    for name, value in arrays.items():
        if name.startswith("hist_"):
            only[name] = value[row, real][None]
        elif name == LABEL:  # what others clicked is no click of this person's
            only[name] = np.where(rows == row, value[rows, columns], 0)[None]
        elif name.startswith("cand_"):
            only[name] = value[rows, columns][None]
        else:
            only[name] = value[row : row + 1]
    return {name: tf.constant(value) for name, value in only.items()}


def event_names(features: Mapping[str, np.ndarray], schema: Schema, names: Names) -> list[str]:
    """What each real event of a batch of one row was: `category, behavior`."""
    return _labels(features, schema, names, HISTORY, features["hist_mask"][0])


def candidate_names(features: Mapping[str, np.ndarray], schema: Schema, names: Names) -> list[str]:
    """What each real candidate of a batch of one row is: `category, item`."""
    return _labels(features, schema, names, CANDIDATE, features["cand_mask"][0])


def _labels(features, schema, names, role, mask) -> list[str]:
    fields = [f for f in schema.with_role(role) if f.is_categorical]
    fields.sort(key=lambda field: field.name == "item_id")  # what many events share comes first
    columns = [
        names.of(field.vocabulary, np.asarray(features[feature_name(role, field)])[0][mask])
        for field in fields
    ]
    short = [field.name.removesuffix("_id").removesuffix("_type") for field in fields]
    return [
        ", ".join(f"{word} {value}" for word, value in zip(short, row, strict=True))
        for row in zip(*columns, strict=True)
    ]


def _numpy(tensors: Mapping[str, tf.Tensor]) -> Arrays:
    """Tensors as arrays, low precision as float32."""
    return {
        name: tf.cast(tensor, tf.float32).numpy()
        if tensor.dtype in (tf.bfloat16, tf.float16)
        else tensor.numpy()
        for name, tensor in tensors.items()
    }
