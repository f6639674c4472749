"""Past events and candidates as plain values, and the lookups that turn ids into embeddings.

A `History` or a `Target` is a tuple of tensors: it can be built by hand from random numbers, sliced and
printed, and nothing in it changes when it is read. Raw features go by the names of their schema fields
(`item_id`, `timestamp`, ...), without the role's prefix that they have in a batch.

Encoders that read every event get them embedded. Searches, whose state holds ids, embed only the few
events that they retrieve, from the tables that travel along (`embed_ids`).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dgin_tf.layers.field_tables import Table, padding_value, read_values
from dgin_tf.ops.grouping import Groups, gather_at
from dgin_tf.schema import HISTORY, check_features

State = dict[str, tf.Tensor]
Features = Mapping[str, tf.Tensor]
Tables = Mapping[str, Table]

EVENTS, MASK = "events", "mask"
EMBEDDING = "embedding"  # the only stored field of events that came embedded, without tables


class History(NamedTuple):
    """A batch of past events, oldest first; padding may be on either side.

    Attributes:
      events: embeddings of the fields that events share with candidates, [users, time, dim], zero
        where `mask` is False; None where nobody has embedded them yet.
      mask: True where the event is real, bool [users, time].
      features: raw features by field name, each [users, time], or [users, time, values] of several ids.
      fields: `events` field by field, each [users, time, dim of one]; those of padding mean nothing.
        Read by sums over time, whose gradients then need not be cut out of that of all fields.
      negatives: embeddings of one sampled negative for every event, [users, time, dim], or None.
      tables: embedding tables by field name, in the order in which fields are concatenated.
      groups: the whole history in groups, where the batch came grouped or DGIN grouped it.
    """

    events: tf.Tensor | None
    mask: tf.Tensor
    features: Features = {}
    fields: tuple[tf.Tensor, ...] = ()
    negatives: tf.Tensor | None = None
    tables: Tables = {}
    groups: Groups | None = None


class Target(NamedTuple):
    """A batch of candidates.

    Attributes:
      embedding: e_a, the fields of `History.events` in the same order, [users, candidates, dim].
      mask: True where the candidate is real, bool [users, candidates].
      features: raw features by field name, each [users, candidates], or with an axis of values.
      tables: as `History.tables`, for encoders whose state holds ids.
    """

    embedding: tf.Tensor
    mask: tf.Tensor
    features: Features = {}
    tables: Tables = {}


def embed_by_field(
    tables: Tables, features: Features, dtype: tf.DType | str
) -> tuple[tf.Tensor, ...]:
    """Looks up the fields that have a table.

    Args:
      tables: by field name.
      features: ids by field name, all of one shape [...], or [..., values] of several ids.
      dtype: of the result.

    Returns:
      A tensor [..., dim of one] for each table; the stored embeddings of events that came embedded.

    Raises:
      ValueError: there are neither tables nor embeddings, or an id is not in the vocabulary (on a CPU
        and outside of graphs; graphs leave the error to TensorFlow, and GPUs read zeros).
    """
    if not tables and EMBEDDING in features:
        return (tf.cast(features[EMBEDDING], dtype),)
    if not tables:
        raise ValueError(
            "these events are ids and need tables to be embedded; build history and target by "
            "FeatureEmbedding, or pass History(..., tables=) and Target(..., tables=)."
        )
    embeddings = []
    for name, table in tables.items():
        try:
            embeddings.append(tf.cast(read_values(table, features[name]), dtype))
        except tf.errors.InvalidArgumentError as error:  # outside of graphs
            ids, size = np.ravel(features[name]), table.shape[0]
            unknown_ids = ids[(ids < 0) | (ids >= size)]
            if not unknown_ids.size:
                raise
            raise ValueError(
                f"expected ids of {name!r} below the size of its vocabulary, {size}; got "
                f"{unknown_ids[0]}."
            ) from error
    return tuple(embeddings)


def embed_ids(
    tables: Tables, features: Features, dtype: tf.DType | str, mask: tf.Tensor | None = None
) -> tf.Tensor:
    """Embeddings of ids, all fields side by side.

    Args:
      tables: by field name.
      features: ids by field name, all of one shape [...].
      dtype: of the result.
      mask: True where there is an event, bool [...]; None for everywhere.

    Returns:
      [..., dim]; zero where `mask` is False.
    """
    events = tf.concat(embed_by_field(tables, features, dtype), axis=-1)
    return events if mask is None else mask_padding(events, mask)


def embed_padding(tables: Tables, dtype: tf.DType | str) -> tf.Tensor:
    """Embedding of an event of padding ids, [dim]; the authors' released codes read it."""
    padding = {name: padding_value(table) for name, table in tables.items()}
    return embed_ids(tables, padding, dtype)


def embed_history(history: History, dtype: tf.DType | str) -> History:
    """The same history with its events embedded; unchanged where they are already."""
    if history.events is not None:
        return history
    fields = embed_by_field(history.tables, history.features, dtype)
    events = mask_padding(tf.concat(fields, axis=-1), history.mask)
    return history._replace(events=events, fields=fields)


def event_fields(history: History, dtype: tf.DType | str) -> tuple[tf.Tensor, ...]:
    """`History.fields`, or all fields as one where the events came embedded from elsewhere."""
    history = embed_history(history, dtype)
    return history.fields or (history.events,)


def embed_without_gradient(history: History, dtype: tf.DType | str) -> tf.Tensor:
    """Embeddings to search by, [users, time, dim], without a gradient; those of padding mean nothing.

    Padding is not set to zero: searches leave it out anyway, and this is the largest tensor of a step.
    """
    return tf.stop_gradient(tf.concat(event_fields(history, dtype), axis=-1))


def embed_events_at(
    history: History, places: tf.Tensor, mask: tf.Tensor, dtype: tf.DType | str
) -> tf.Tensor:
    """Embeddings of a history's events at some places, without those of all others.

    Args:
      history: the events, ids or embedded.
      places: places in time, int32 [users, ...].
      mask: True where a place holds an event, bool in the shape of `places`.
      dtype: of the result.

    Returns:
      [users, ..., dim]; zero where there is no event.
    """
    if history.events is not None and not history.tables:
        events = gather_at(history.events, places)
        return mask_padding(tf.cast(events, dtype), mask)
    ids = {name: gather_at(history.features[name], places) for name in history.tables}
    return embed_ids(history.tables, ids, dtype, mask)


def gather_features(features: Features, indices: tf.Tensor) -> State:
    """Raw features [users, time] at `indices`, int32 [users, ...]."""
    return {name: tf.gather(value, indices, batch_dims=1) for name, value in features.items()}


def store_events(history: History, names: tuple[str, ...] = ()) -> dict[str, State | tf.Tensor]:
    """The raw events of a history as a state: a tenth of the size of embeddings, and never stale.

    Events that came embedded, without ids, are stored as they are, under `embedding`.

    Args:
      history: raw features [users, time].
      names: of features to keep beside the ids that have tables, such as `timestamp`.

    Returns:
      `events`, field name -> [users, time], and `mask` bool [users, time].
    """
    names = tuple(dict.fromkeys((*history.tables, *names)))
    check_features(history.features, names, HISTORY)
    fields = {name: history.features[name] for name in names}
    if not history.tables and history.events is not None:
        fields[EMBEDDING] = history.events
    return {EVENTS: fields, MASK: history.mask}


def stored_history(state: Mapping, tables: Tables) -> History:
    """The history that `store_events` made a state of, not embedded."""
    return History(None, state[MASK], state[EVENTS], tables=tables)


def append_in_time(state: Mapping, newer: Mapping) -> dict:
    """Joins the tensors [users, time, ...] of two states of one structure along time."""
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=1), dict(state), dict(newer))


def newest(history: History, count: int) -> History:
    """The newest `count` events, [users, count], padded at the end and not embedded.

    Args:
      history: its real events lie side by side.
      count: how many.
    """
    time = tf.shape(history.mask)[1]
    real = tf.reduce_sum(tf.cast(history.mask, tf.int32), 1, keepdims=True)
    end = tf.reduce_max(tf.where(history.mask, tf.range(1, time + 1), 0), 1, keepdims=True)
    length = tf.minimum(real, count)
    step = tf.range(count)
    mask = step < length
    # The row of zeros behind the last event stands for padding, also where time is zero.
    places = tf.where(mask, end - length + step, time)
    return _at_times(history, lambda values: gather_at(values, places), mask)


def all_but_newest(history: History, count: int) -> History:
    """The same arrays with the newest `count` events masked, and without their last columns.

    The last `count` columns hold no event that remains, so that they need not be embedded. At least one
    column stays, since not every operation takes an empty axis.
    """
    rank = tf.cumsum(tf.cast(history.mask, tf.int32), axis=1, exclusive=True, reverse=True)
    mask = history.mask & (rank >= count)
    return first(history._replace(mask=mask), tf.maximum(tf.shape(mask)[1] - count, 1))


def first(history: History, count: tf.Tensor) -> History:
    """The first `count` places in time."""
    return _at_times(history, lambda values: values[:, :count], history.mask[:, :count])


def without_gaps(history: History) -> History:
    """The same history with the real events first, in their order."""
    order = tf.argsort(tf.cast(~history.mask, tf.int32), axis=1, stable=True)
    mask = tf.gather(history.mask, order, batch_dims=1)
    return _at_times(history, lambda values: tf.gather(values, order, batch_dims=1), mask)


def only(history: History, mask: tf.Tensor) -> History:
    """The same arrays, of which only the events under a mask, bool [users, time], remain real."""
    mask = history.mask & mask
    events = None if history.events is None else mask_padding(history.events, mask)
    return history._replace(mask=mask, events=events)


def mask_padding(events: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Sets masked positions of [users, time, dim] to exactly zero."""
    return tf.where(mask[..., tf.newaxis], events, tf.zeros([], events.dtype))


def _at_times(history: History, select, mask: tf.Tensor) -> History:
    """A history whose tensors were all selected along time; ids are embedded anew by who reads them."""
    features = {name: select(value) for name, value in history.features.items()}
    if history.tables:
        return History(None, mask, features, tables=history.tables)
    events = None if history.events is None else mask_padding(select(history.events), mask)
    return History(events, mask, features)
