"""Cuts batch rows out of user records: each candidate sees only what came before it.

A record holds a whole history once, oldest event first, and candidates that follow each other by
position. Neighbors with one position share one cut and become one row. Cutting at a position and
truncating to the model's length are one substring of the stored bytes, and decoding pads it at the
end; nothing is looped over, reversed or un-batched.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from dgin_tf.records import LABEL, POSITION, record_features
from dgin_tf.schema import (
    CANDIDATE,
    CANDIDATE_MASK,
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
      users: user feature -> value, [users].
      histories: history feature -> stored bytes, oldest first, [users].
      candidates: candidate feature and label -> values of all candidates one after the other,
        [candidates].
      user: the record of each row, [rows].
      position: how many stored events each row sees, [rows].
      start, count: the row's slice of the candidates, [rows].
    """

    users: Mapping[str, tf.Tensor]
    histories: Mapping[str, tf.Tensor]
    candidates: Mapping[str, tf.Tensor]
    user: tf.Tensor
    position: tf.Tensor
    start: tf.Tensor
    count: tf.Tensor


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
    dtypes = _dtypes(schema)
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in dtypes}
    columns = tf.io.parse_example(records, spec)
    names = functools.partial(_names, schema)
    candidates = {
        name: _decode_all(columns[name], dtypes[name])
        for name in (*names(CANDIDATE), POSITION, LABEL)
    }
    # A cut begins where the record, the position or the request changes.
    per_user = tf.strings.length(columns[POSITION]) // dtypes[POSITION].size
    user = tf.repeat(tf.range(tf.size(per_user)), per_user)
    position = candidates.pop(POSITION)
    changes = (user[1:] != user[:-1]) | (position[1:] != position[:-1])
    request = candidates.get(PREFIX[CANDIDATE] + REQUEST)
    if request is not None:  # impressions: a request is a row
        changes |= request[1:] != request[:-1]
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
        users={name: _decode_all(columns[name], dtypes[name]) for name in names(USER)},
        histories={name: columns[name] for name in names(HISTORY)},
        candidates=candidates,
        user=tf.gather(user, start),
        position=tf.gather(position, start),
        start=start,
        count=end - start,
    )


def whole_histories(records: tf.Tensor, schema: Schema, time: int) -> dict[str, tf.Tensor]:
    """The users' side of records: all that happened, and no candidates.

    Args:
      records: as for `parse_rows`, string [users].
      schema: what the records hold.
      time: length to which histories are truncated (the newest events stay) and padded.

    Returns:
      `hist_*` [users, time], oldest first and padded at the end, `user_*` [users], and `hist_mask`.
    """
    dtypes = _dtypes(schema)
    users, histories = _names(schema, USER), _names(schema, HISTORY)
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in (*users, *histories)}
    columns = tf.io.parse_example(records, spec)
    size = tf.strings.length(columns[histories[0]]) // dtypes[histories[0]].size
    length = tf.minimum(size, time)
    features = {name: _decode_all(columns[name], dtypes[name]) for name in users}
    for name in histories:
        features[name] = _cut_history(columns[name], size, length, (dtypes[name], time))
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
      `hist_*` [users, time], oldest first and padded at the end, `cand_*` and `label` [users, width],
      `user_*` [users], with `hist_mask` and `cand_mask`.
    """
    is_row = index >= 0
    index = tf.maximum(index, 0)
    user = tf.gather(rows.user, index)
    position = tf.where(is_row, tf.gather(rows.position, index), 0)
    length = tf.minimum(position, time)
    features = {name: tf.gather(values, user) for name, values in rows.users.items()}
    dtypes = _dtypes(schema)
    for name, events in rows.histories.items():
        features[name] = _cut_history(
            tf.gather(events, user), position, length, (dtypes[name], time)
        )
    features[HISTORY_MASK] = tf.sequence_mask(length, time)
    count = tf.where(is_row, tf.gather(rows.count, index), 0)
    mask = tf.sequence_mask(count, width)
    member = tf.gather(rows.start, index)[:, None] + tf.range(width)
    member = tf.where(mask, member, 0)
    for name, values in rows.candidates.items():
        features[name] = tf.where(mask, tf.gather(values, member), 0)
    features[LABEL] = tf.cast(features[LABEL], tf.float32)
    features[CANDIDATE_MASK] = mask
    return features


def _cut_history(stored, position, length, dtype_and_time):
    """The last `length` of the first `position` events, bytes [users] -> values [users, time]."""
    dtype, time = dtype_and_time
    newest = tf.strings.substr(stored, (position - length) * dtype.size, length * dtype.size)
    return tf.io.decode_raw(newest, dtype, fixed_length=time * dtype.size)


def _dtypes(schema: Schema) -> dict[str, tf.DType]:
    return {name: tf.as_dtype(dtype) for name, dtype in record_features(schema).items()}


def _names(schema: Schema, role: str) -> list[str]:
    return [feature_name(role, field) for field in schema.with_role(role)]


def _decode_all(stored: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Bytes [users] -> the values of all of them one after the other, [values]."""
    return tf.io.decode_raw(tf.strings.reduce_join(stored), dtype)


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
