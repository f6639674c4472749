"""Cuts batch rows out of user records: each candidate sees only what came before it.

A record holds a whole history once, oldest event first, and candidates that follow each other by
position. Neighbors with one position share one cut and become one row. Cutting at a position and
truncating to the model's length are one substring of the stored bytes, and decoding pads it at the
end; nothing is looped over, reversed or un-batched.
"""

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from dgin_tf.records import LABEL, POSITION, record_features, record_shapes
from dgin_tf.schema import (
    CANDIDATE,
    CANDIDATE_MASK,
    CONTEXT,
    HISTORY,
    HISTORY_MASK,
    PREFIX,
    REQUEST,
    USER,
    Schema,
    feature_name,
)


class Rows(NamedTuple):
    """The rows that a set of records holds, not cut yet.

    Attributes:
      users: user feature -> value, [users, ...].
      histories: history feature -> stored bytes, oldest first, [users].
      candidates: candidate feature and label -> values of all candidates one after the other,
        [candidates, ...].
      user: the record of each row, [rows].
      position: how many stored events each row sees, [rows].
      start, count: the row's slice of the candidates, [rows].
      contexts: context feature -> value of each row, [rows, ...].
    """

    users: Mapping[str, tf.Tensor]
    histories: Mapping[str, tf.Tensor]
    candidates: Mapping[str, tf.Tensor]
    user: tf.Tensor
    position: tf.Tensor
    start: tf.Tensor
    count: tf.Tensor
    contexts: Mapping[str, tf.Tensor]


class _Layout(NamedTuple):
    """Type and shape of one value of a feature."""

    dtype: tf.DType
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of one value."""
        return self.dtype.size * math.prod(self.shape)

    def decode(self, stored: tf.Tensor) -> tf.Tensor:
        """Bytes [users] -> the values of all of them one after the other, [values, ...]."""
        values = tf.io.decode_raw(tf.strings.reduce_join(stored), self.dtype)
        return tf.reshape(values, [-1, *self.shape]) if self.shape else values


def parse_rows(records: tf.Tensor, schema: Schema, width: tf.Tensor | None = None) -> Rows:
    """Parses serialized records and finds their rows.

    Args:
      records: `tf.train.Example`s as `dgin_tf.records` writes them, string [users].
      schema: what the records hold.
      width: candidates in the widest row of the file, int32 []; more candidates of one position are
        several rows. None makes one row of them all.

    Returns:
      `Rows` in the order of the records, each record's by rising position.
    """
    layouts = _layouts(schema)
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in layouts}
    columns = tf.io.parse_example(records, spec)
    names = functools.partial(_names, schema)
    candidates = {
        name: layouts[name].decode(columns[name])
        for name in (*names(CANDIDATE), *names(CONTEXT), POSITION, LABEL)
    }
    contexts = {name: candidates.pop(name) for name in names(CONTEXT)}
    # A cut begins where the record, the position, the request or its context changes.
    per_user = tf.strings.length(columns[POSITION]) // layouts[POSITION].size
    user = tf.repeat(tf.range(tf.size(per_user)), per_user)
    position = candidates.pop(POSITION)
    changes = (user[1:] != user[:-1]) | (position[1:] != position[:-1])
    request = candidates.get(PREFIX[CANDIDATE] + REQUEST)
    if request is not None:  # impressions: a request is a row
        changes |= request[1:] != request[:-1]
    for values in contexts.values():
        changes |= _differ(values[1:], values[:-1])
    start = tf.concat(
        [tf.zeros_like(user[:1]), tf.cast(tf.where(changes)[:, 0], tf.int32) + 1], axis=0
    )
    if width is not None:
        # A row begins at every so many candidates of a cut.
        candidate = tf.range(tf.size(user))
        first = tf.gather(start, tf.searchsorted(start, candidate, side="right") - 1)
        start = tf.cast(tf.where((candidate - first) % width == 0)[:, 0], tf.int32)
    end = tf.concat([start[1:], tf.shape(user)[:1]], axis=0)
    return Rows(
        users={name: layouts[name].decode(columns[name]) for name in names(USER)},
        histories={name: columns[name] for name in names(HISTORY)},
        candidates=candidates,
        user=tf.gather(user, start),
        position=tf.gather(position, start),
        start=start,
        count=end - start,
        contexts={name: tf.gather(values, start) for name, values in contexts.items()},
    )


def whole_histories(records: tf.Tensor, schema: Schema, time: int) -> dict[str, tf.Tensor]:
    """The users' side of records: all that happened, and no candidates.

    Args:
      records: as for `parse_rows`, string [users].
      schema: what the records hold.
      time: length to which histories are truncated (the newest events stay) and padded.

    Returns:
      `hist_*` [users, time, ...], oldest first and padded at the end, `user_*` [users, ...], and
      `hist_mask`.
    """
    layouts = _layouts(schema)
    users, histories = _names(schema, USER), _names(schema, HISTORY)
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in (*users, *histories)}
    columns = tf.io.parse_example(records, spec)
    size = tf.strings.length(columns[histories[0]]) // layouts[histories[0]].size
    length = tf.minimum(size, time)
    features = {name: layouts[name].decode(columns[name]) for name in users}
    for name in histories:
        features[name] = _cut_history(columns[name], size, length, (layouts[name], time))
    return {**features, HISTORY_MASK: tf.sequence_mask(length, time)}


def cut(
    rows: Rows, schema: Schema, index: tf.Tensor, time: int, width: int
) -> dict[str, tf.Tensor]:
    """Makes a batch of the chosen rows.

    Args:
      rows: parsed records.
      schema: what the records hold.
      index: rows to take, int32 [users]; -1 makes an empty row, all padding.
      time: length to which histories are truncated (the newest events stay) and padded.
      width: number of candidates to which rows are padded; must hold the widest row.

    Returns:
      `hist_*` [users, time, ...], oldest first and padded at the end, `cand_*` [users, width, ...] and
      `label` [users, width], `user_*` and `context_*` [users, ...], with `hist_mask` and `cand_mask`.
    """
    is_row = index >= 0
    index = tf.maximum(index, 0)
    user = tf.gather(rows.user, index)
    position = tf.where(is_row, tf.gather(rows.position, index), 0)
    length = tf.minimum(position, time)
    features = {name: tf.gather(values, user) for name, values in rows.users.items()}
    features.update({name: tf.gather(v, index) for name, v in rows.contexts.items()})
    layouts = _layouts(schema)
    for name, events in rows.histories.items():
        features[name] = _cut_history(
            tf.gather(events, user), position, length, (layouts[name], time)
        )
    features[HISTORY_MASK] = tf.sequence_mask(length, time)
    count = tf.where(is_row, tf.gather(rows.count, index), 0)
    mask = tf.sequence_mask(count, width)
    member = tf.gather(rows.start, index)[:, None] + tf.range(width)
    member = tf.where(mask, member, 0)
    for name, values in rows.candidates.items():
        features[name] = zero_padding(tf.gather(values, member), mask)
    features[LABEL] = tf.cast(features[LABEL], tf.float32)
    features[CANDIDATE_MASK] = mask
    return features


def zero_padding(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Values [users, time, ...], zero where a mask [users, time] is False."""
    for _ in range(values.shape.rank - mask.shape.rank):
        mask = mask[..., tf.newaxis]
    return tf.where(mask, values, tf.zeros([], values.dtype))


def _cut_history(stored, position, length, layout_and_time):
    """The last `length` of the first `position` events, bytes [users] -> values [users, time, ...]."""
    layout, time = layout_and_time
    newest = tf.strings.substr(stored, (position - length) * layout.size, length * layout.size)
    values = tf.io.decode_raw(newest, layout.dtype, fixed_length=time * layout.size)
    return tf.reshape(values, [-1, time, *layout.shape]) if layout.shape else values


def _differ(values: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """True where two values [rows, ...] are not the same bits, bool [rows]; unknown numbers are equal."""
    if values.dtype.is_floating:
        values, others = (tf.bitcast(part, tf.int32) for part in (values, others))
    differs = values != others
    return tf.reduce_any(differs, axis=1) if differs.shape.rank > 1 else differs


def _layouts(schema: Schema) -> dict[str, _Layout]:
    shapes = record_shapes(schema)
    return {
        name: _Layout(tf.as_dtype(dtype), shapes[name])
        for name, dtype in record_features(schema).items()
    }


def _names(schema: Schema, role: str) -> list[str]:
    return [feature_name(role, field) for field in schema.with_role(role)]


def batch_index(order: tf.Tensor, batch_rows: int) -> tf.Tensor:
    """Deals row numbers [rows] to batches, [batches, batch_rows]; the last is filled up with -1."""
    missing = -tf.size(order) % batch_rows
    return tf.reshape(tf.pad(order, [[0, missing]], constant_values=-1), [-1, batch_rows])


def spread_batches(index: tf.Tensor, spare: tf.Tensor) -> tf.Tensor:
    """Puts `spare` batches without rows evenly among batches, int32 [batches, rows]."""
    count = tf.shape(index, tf.int64)[0]
    total = count + tf.cast(spare, tf.int64)
    places = tf.range(count) * total // count
    empty = tf.fill([total, tf.shape(index, tf.int64)[1]], -1)
    return tf.tensor_scatter_nd_update(empty, places[:, tf.newaxis], index)
