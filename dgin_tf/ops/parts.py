"""Batches in parts: a training batch of all lengths of history, of which each has a static shape.

Encoders see one part at a time, and everything that takes moments over the batch sees all parts joined.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.schema import CANDIDATE_MASK, HISTORY, PREFIX

PARTS = "parts"  # of a batch: the features of its parts
Features = Mapping[str, Any]


def parts_of(features: Features) -> tuple[Features, ...]:
    """The parts of a batch; the batch itself where it has none."""
    return features.get(PARTS, (features,))


def join_rows(features: Features) -> Features:
    """All that a batch's parts have besides histories: candidates, labels and users, row by row.

    Args:
      features: a batch, in parts or not.
    """
    if PARTS not in features:
        return features
    parts = features[PARTS]
    return {
        name: tf.concat([part[name] for part in parts], axis=0)
        for name, value in parts[0].items()
        if not name.startswith(PREFIX[HISTORY]) and not tf.nest.is_nested(value)
    }


def split_rows(value: Any, features: Features) -> list[Any]:
    """Tensors [rows, ...], or a structure of such, as one for each part of a batch."""
    parts = parts_of(features)
    if len(parts) == 1:
        return [value]
    masks = [part[CANDIDATE_MASK] for part in parts]
    sizes = [mask.shape[0] for mask in masks]
    if None in sizes:
        sizes = tf.stack([tf.shape(mask)[0] for mask in masks])
    flat = [tf.split(tensor, sizes, num=len(parts)) for tensor in tf.nest.flatten(value)]
    return [tf.nest.pack_sequence_as(value, part) for part in zip(*flat, strict=True)]


def join_outputs(outputs: Sequence[Any]) -> Any:
    """What an encoder gave for each part, joined along the rows.

    Args:
      outputs: for each part a tensor [rows, ...], or a mapping of such by name.

    Returns:
      The same for all rows; tensors of different widths, such as attention over events, as a tuple.
    """
    first = outputs[0]
    if len(outputs) == 1:
        return first
    if isinstance(first, Mapping):
        return {name: join_outputs([output[name] for output in outputs]) for name in first}
    if len({tuple(output.shape[1:]) for output in outputs}) > 1:
        return tuple(outputs)
    return tf.concat(list(outputs), axis=0)
