"""Samples one negative for every past event, for DIEN's auxiliary loss (Eq. 7).

The sample is a function of (seed, batch number) alone, so that a resumed run sees the same ones, and
it is part of the batch, so that replicas that share a batch see what one device would.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import tensorflow as tf

from dgin_tf.schema import FIRST_ID, HISTORY, ITEM, Schema, feature_name, negative_name


class Sampler(Protocol):
    """Draws item ids of a given shape."""

    def __call__(self, shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor: ...


def uniform_sampler(vocabulary_size: int) -> Sampler:
    """Every real item is equally likely: the paper's "from the item set"."""

    def sample(shape, seed):
        return tf.random.stateless_uniform(shape, seed, FIRST_ID, vocabulary_size, tf.int32)

    return sample


def popularity_sampler(count: np.ndarray) -> Sampler:
    """Items in proportion to their training events, as the released code draws them.

    Args:
      count: training events of each item id, [items]; padding and unknown are never drawn.

    Raises:
      ValueError: no item has an event.
    """
    count = np.array(count, np.int64)
    count[:FIRST_ID] = 0
    upper = np.cumsum(count)
    if upper[-1] < 1:
        raise ValueError(
            "sampling by popularity needs items with training events, the catalogue counts none; "
            "sample uniformly instead."
        )
    edges = tf.constant(upper)

    def sample(shape, seed):
        event = tf.random.stateless_uniform(shape, seed, 0, upper[-1], tf.int64)
        flat = tf.searchsorted(edges, tf.reshape(event, [-1]), side="right")
        return tf.reshape(flat, shape)

    return sample


class HistoryNegatives:
    """Adds `hist_negative_*` [users, time] to a batch: another item than the event's.

    A draw that hits the event's own item is drawn once more, and where that hits it again the next
    item id takes its place, so that "except the clicked item" always holds.

    Args:
      schema: its paired fields are given to the sampled items as well.
      catalogue: field name -> attribute of every item id, [items, ...].
      sampler: draws item ids.

    Raises:
      ValueError: the catalogue lacks a paired field, or the vocabulary has fewer than two items.
    """

    def __init__(self, schema: Schema, catalogue: Mapping[str, np.ndarray], sampler: Sampler):
        fields = [field for field in schema.paired_fields if field.name != ITEM]
        missing = sorted({field.name for field in fields} - set(catalogue))
        if missing:
            raise ValueError(
                f"the catalogue lacks {missing}, which the schema gives to every item."
            )
        self._items = schema.vocabulary_sizes[schema.field(ITEM).vocabulary]
        if self._items < FIRST_ID + 2:
            raise ValueError("sampling negatives needs at least two items in the vocabulary.")
        self._item = feature_name(HISTORY, schema.field(ITEM))
        self._attributes = {
            negative_name(feature_name(HISTORY, field)): tf.constant(
                catalogue[field.name], field.dtype
            )
            for field in fields
        }
        self._sampler = sampler

    def __call__(self, features: Mapping[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the batch with the sampled items and their attributes; `seed` is int64 [2]."""
        clicked = features[self._item]
        shape = tf.shape(clicked)
        item = self._sampler(shape, seed)
        again = self._sampler(shape, seed + tf.constant([1, 0], tf.int64))
        item = tf.where(item == clicked, again, item)
        neighbor = tf.where(clicked < self._items - 1, clicked + 1, FIRST_ID)
        item = tf.where(item == clicked, neighbor, item)
        attributes = {name: tf.gather(values, item) for name, values in self._attributes.items()}
        return {**features, negative_name(self._item): item, **attributes}
