"""Intermediates of a model for one batch, as numpy arrays, and readable names for ids.

There are no hooks: attention, gates and states are part of what `CTRModel.call` returns.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dgin_tf.integrity import damage_in
from dgin_tf.layers.interest_evolution import InterestEvolution, equal_attention
from dgin_tf.models.base import CTRModel
from dgin_tf.records import LABEL, Arrays
from dgin_tf.schema import (
    CANDIDATE,
    CANDIDATE_MASK,
    FIRST_ID,
    HISTORY,
    HISTORY_MASK,
    ITEM,
    PREFIX,
    Schema,
    feature_name,
)

VOCABULARY = "vocabulary"
_TITLES = ".titles.txt"
_RESERVED = ("padding", "unknown")

NestedArrays = Mapping[str, Any]  # name -> an array, or such a mapping again


class Names:
    """Raw values of dense ids, as the vocabularies of a prepared data set list them, or titles of items.

    Args:
      data_dir: the data set; ids without a vocabulary file are called by their number.
    """

    def __init__(self, data_dir: str | os.PathLike):
        self._folder = pathlib.Path(data_dir) / VOCABULARY
        self._lines: dict[str, list[str]] = {}

    def of(self, vocabulary: str, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The title of each id of a vocabulary where the data have one, else its raw value."""
        raw, titles = self.raw(vocabulary, ids), self.titles(vocabulary, ids)
        return [title or value for title, value in zip(titles, raw, strict=True)]

    def raw(self, vocabulary: str, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The raw value of each id of a vocabulary."""
        lines = self._read(f"{vocabulary}.txt")
        named = dict(enumerate(_RESERVED))
        return [
            named.get(i) or (lines[i - FIRST_ID] if i - FIRST_ID < len(lines) else f"#{i}")
            for i in map(int, ids)
        ]

    def titles(self, vocabulary: str, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The title of each id of a vocabulary, "" where the data have none."""
        lines = self._read(f"{vocabulary}{_TITLES}")
        return [
            lines[i - FIRST_ID] if 0 <= i - FIRST_ID < len(lines) else "" for i in map(int, ids)
        ]

    def has_titles(self, vocabulary: str) -> bool:
        """Returns True where the data have titles of a vocabulary's values."""
        return (self._folder / f"{vocabulary}{_TITLES}").is_file()

    def _read(self, name: str) -> list[str]:
        if name not in self._lines:
            path = self._folder / name
            with damage_in(path, "a vocabulary", "prepare the data again"):
                text = path.read_text(encoding="utf-8") if path.is_file() else ""
            # Not splitlines, which ends a line at rarer marks too.
            self._lines[name] = text.removesuffix("\n").split("\n") if text else []
        return self._lines[name]


@dataclasses.dataclass(frozen=True)
class Trace:
    """A batch and everything that a model computes from it.

    Attributes:
      features: the batch.
      probabilities: of a click, [users, candidates].
      outputs: encoder name -> its named intermediates, those of its parts nested.
      state: encoder name -> its state, nested likewise.
    """

    features: Arrays
    probabilities: np.ndarray
    outputs: NestedArrays
    state: NestedArrays = dataclasses.field(default_factory=dict)

    def find(self, *path: str) -> np.ndarray | None:
        """Finds an array by the end of its path through the nested outputs and state.

        Args:
          *path: names, such as `"long", "attention"`, or the last one alone.

        Returns:
          The first such array, outputs before state and encoders in the model's order; None where
          there is none.
        """
        values = (*_leaves(self.outputs), *_leaves(self.state))
        return next((array for names, array in values if names[-len(path) :] == path), None)

    def array(self, *path: str) -> np.ndarray:
        """Finds an array as `find` does.

        Raises:
          ValueError: the model has none; names the path and what there is.
        """
        array = self.find(*path)
        if array is None:
            raise ValueError(
                f"expected a model that names {'/'.join(path)!r} among its outputs; this one has "
                f"{self.names}."
            )
        return array

    @property
    def names(self) -> list[str]:
        """Paths of all arrays, `encoder/part/name`, for error messages."""
        values = (*_leaves(self.outputs), *_leaves(self.state))
        return sorted("/".join(names) for names, _ in values)

    @property
    def attention(self) -> np.ndarray | None:
        """Attention [users, candidates, time], or None where the model has none."""
        return self.find("attention")

    @property
    def length(self) -> np.ndarray:
        """Real events of each row, [users]."""
        return self.features[HISTORY_MASK].sum(axis=1)


def trace(model: CTRModel, features: Mapping[str, tf.Tensor]) -> Trace:
    """Runs a batch through a model and returns all named intermediates."""
    output = model(features, training=False)
    probabilities = tf.sigmoid(output["logits"]).numpy()
    return Trace(
        _numpy(dict(features)), probabilities, _numpy(output["outputs"]), _numpy(output["state"])
    )


def has_evolution(model: CTRModel) -> bool:
    """Returns True where a model evolves interests step by step, as `trace_evolution` needs it."""
    return any(isinstance(encoder, InterestEvolution) for encoder in model.encoders.values())


def trace_evolution(
    model: CTRModel, features: Mapping[str, tf.Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Interests of users as they evolve towards each candidate, and towards none (DIEN, figure 3).

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
    name = next(n for n, e in model.encoders.items() if isinstance(e, InterestEvolution))
    encoder: Any = model.encoders[name]
    state = model.encode_user(features)[name]
    attention = encoder.attend(state, model.embedding.target(features))
    paths = [encoder.evolution(state), encoder.evolution(state, attention)]
    weights = [equal_attention(features[HISTORY_MASK]).numpy(), attention.numpy()]
    states = np.concatenate([path.numpy() for path in paths], axis=1).astype(np.float32)
    return states, np.concatenate(weights, axis=1)


def with_candidates(
    features: Mapping[str, tf.Tensor], row: int, count: int, schema: Schema
) -> dict[str, tf.Tensor]:
    """One row of a batch against its own candidates and clicked ones of the other rows.

    Args:
      features: a batch.
      row: the row whose history is used.
      count: number of candidates; fewer where the batch has fewer different items.
      schema: what the features are.

    Returns:
      A batch of one row, without padding in its history.
    """
    arrays = _numpy(dict(features))
    mask, label = arrays[CANDIDATE_MASK], arrays[LABEL]
    own = [(row, n) for n in np.flatnonzero(mask[row])]
    own.sort(key=lambda at: -label[at])  # clicks first; the order is stable otherwise
    others = [tuple(at) for at in np.argwhere(mask & (label > 0)) if at[0] != row]
    item = arrays[feature_name(CANDIDATE, schema.field("item_id"))]
    place_of_item: dict[int, tuple[int, int]] = {}  # in the batch: row and column
    for at in own + others:
        place_of_item.setdefault(int(item[at]), at)
    rows, columns = np.array(list(place_of_item.values())[:count]).T
    real = arrays[HISTORY_MASK][row]
    single_row = {}
    for name, value in arrays.items():
        if name.startswith(PREFIX[HISTORY]):
            single_row[name] = value[row, real][None]
        elif name == LABEL:  # other users' clicks are negatives of this one
            single_row[name] = np.where(rows == row, value[rows, columns], 0)[None]
        elif name.startswith(PREFIX[CANDIDATE]):
            single_row[name] = value[rows, columns][None]
        else:
            single_row[name] = value[row : row + 1]
    return {name: tf.constant(value) for name, value in single_row.items()}


def event_names(features: Mapping[str, np.ndarray], schema: Schema, names: Names) -> list[str]:
    """Names of the real events of a batch of one row, such as `category 7, behavior click`."""
    return _labels(features, schema, names, HISTORY, features[HISTORY_MASK][0])


def candidate_names(features: Mapping[str, np.ndarray], schema: Schema, names: Names) -> list[str]:
    """Names of the real candidates of a batch of one row, such as `category 7, item 35`."""
    return _labels(features, schema, names, CANDIDATE, features[CANDIDATE_MASK][0])


def _labels(features, schema, names, role, mask) -> list[str]:
    fields = [f for f in schema.with_role(role) if f.is_categorical and f.values == 1]
    titled = [f.name for f in fields if names.has_titles(f.vocabulary)]
    fields.sort(key=lambda field: field.name == ITEM)  # the most specific name goes last
    fields.sort(key=lambda field: field.name not in titled)  # but a title says the most
    columns = [
        names.of(field.vocabulary, np.asarray(features[feature_name(role, field)])[0][mask])
        for field in fields
    ]
    short = [f.name.removesuffix("_id").removesuffix("_type") for f in fields]
    short = [
        "" if field.name in titled else word for field, word in zip(fields, short, strict=True)
    ]
    return [
        ", ".join(f"{word} {value}".lstrip() for word, value in zip(short, row, strict=True))
        for row in zip(*columns, strict=True)
    ]


def _numpy(tensors: Any) -> Any:
    """Nested tensors as arrays, low precision as float32."""

    def convert(tensor: tf.Tensor) -> np.ndarray:
        is_low = tensor.dtype in (tf.bfloat16, tf.float16)
        return (tf.cast(tensor, tf.float32) if is_low else tensor).numpy()

    return tf.nest.map_structure(convert, tensors)


def _leaves(
    values: NestedArrays, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """Arrays with their paths, in the order of the mappings (tf.nest would sort them by name)."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value
