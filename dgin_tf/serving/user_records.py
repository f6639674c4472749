"""Users of a prepared data set, in batches of the features that a model's `encode_user` takes."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from dgin_tf.inputs.cutting import whole_histories
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.records import Arrays
from dgin_tf.schema import FIRST_ID, HISTORY, HISTORY_MASK, PREFIX, TIMESTAMP, USER_ID
from dgin_tf.serving.export.signatures import UPDATE_USER

_TIMES, _MASK = PREFIX[HISTORY] + TIMESTAMP, HISTORY_MASK
_DAY = 86_400  # seconds

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]


class UserBatch(NamedTuple):
    """Users, and a function that loads the features of some of them.

    Attributes:
      users: ids, each once.
      revisions: number of what is to be encoded of each user, see the source.
      load: rows of the batch -> their revisions, and features [rows, ...], behind which there may be rows of
        padding.
    """

    users: list[int]
    revisions: list[int]
    load: Callable[[Sequence[int]], tuple[list[int], Arrays]]


class RecordUsers:
    """Users of a prepared data set, with their whole histories; a revision is the second of the newest event.

    Args:
      data: the data set.
      metadata: of the model that encodes, an export's `model.json` or `model_metadata`.
      max_history: newest events that count; None for all.
      days: how many days before the newest event of all count; 0 for all.
      only: users; None for all. All records are read until these are found.

    Raises:
      ValueError: the data follow another schema or have no whole histories, no user ids, or no times to cut
        by; or the model has groups.
    """

    def __init__(
        self,
        data: PreparedData,
        metadata: Mapping[str, Any],
        max_history: int | None = None,
        days: int = 0,
        only: Collection[int] | None = None,
    ):
        schema = data.schema
        if schema.fingerprint() != metadata["schema_fingerprint"]:
            raise ValueError(
                f"the data in {data.data_dir!r} follow schema {schema.fingerprint()}, but the model "
                f"follows {metadata['schema_fingerprint']}; encode users of the data that the model was "
                "trained on, or of others prepared with the same vocabularies."
            )
        if metadata.get("groups"):
            raise ValueError(
                f"model {metadata['name']!r} has groups, which requests read from an engine; encode the "
                "users of a model without groups, such as encode."
            )
        if USER_ID not in [field.name for field in schema.user_fields]:
            raise ValueError(
                f"states are stored by {USER_ID}, which this schema lacks; prepare the data with it."
            )
        if days and TIMESTAMP not in [field.name for field in schema.with_role(HISTORY)]:
            raise ValueError("the data hold no times of events to cut by; leave --days out.")
        self._data, self._max_history, self._days = data, max_history, days
        self._shards = data.whole_shards()
        self._only = only
        # An update appends to a state that grows, which must not have padding in its middle.
        self._exact_lengths = (
            UPDATE_USER in metadata.get("signatures", ())
            and metadata["state_bytes"]["per_event"] > 0
        )

    def batches(self, batch_users: int, progress: Progress) -> Iterator[UserBatch]:
        """All users, histories of one length or one bucket of lengths in a batch."""
        since = self._since(batch_users) if self._days else 0
        total = sum(shard.users for shard in self._shards)
        parts = self._parse(progress(self._data.whole_records(), total, "users"), batch_users)
        parts = _with_ids(parts)
        if self._only is not None:
            parts = _only_of(parts, self._only)
        if since:
            parts = ((time, _cut_before(arrays, since)) for time, arrays in parts)
        if self._exact_lengths:
            parts = _split_by_length(parts)
        return _regroup(parts, batch_users, not self._exact_lengths)

    def _since(self, batch_users: int) -> int:
        """Second from which on events count."""
        parts = self._parse(self._data.whole_records(), batch_users)
        return max((max(_newest_seconds(arrays)) for _, arrays in parts), default=0) - (
            self._days * _DAY
        )

    def _parse(
        self, records: Iterable[tuple[int, bytes]], batch_users: int
    ) -> Iterator[tuple[int, Arrays]]:
        """Lengths to which histories are padded, and users' features of that length.

        Records are parsed by the batch: one alone takes ten times as long.
        """
        specs = (tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32))
        parse = tf.function(
            lambda chunk, time: whole_histories(chunk, self._data.schema, time),
            input_signature=specs,
            autograph=False,
        )
        for time, chunk in _chunks(records, batch_users, self._max_history):
            features = parse(tf.constant(chunk), tf.constant(time))
            yield time, {name: value.numpy() for name, value in features.items()}


def _chunks(
    records: Iterable[tuple[int, bytes]], batch_users: int, max_history: int | None
) -> Iterator[tuple[int, list[bytes]]]:
    """Padded lengths, and records that are to be padded to them.

    The length is not the batch's, so that a user's state does not depend on who else is in the batch, and few
    shapes are compiled.
    """
    waiting: dict[int, list[bytes]] = {}
    for length, record in records:
        time = length if max_history is None else min(length, max_history)
        chunk = waiting.setdefault(time, [])
        chunk.append(record)
        if len(chunk) == batch_users:
            yield time, waiting.pop(time)
    yield from waiting.items()


def _with_ids(parts: Iterable[tuple[int, Arrays]]) -> Iterator[tuple[int, Arrays]]:
    """Users with an id of their own; the unknown id, which many users share, has no state."""
    for time, arrays in parts:
        rows = np.flatnonzero(arrays[USER_ID] >= FIRST_ID)
        yield time, _rows(arrays, rows) if len(rows) < len(arrays[USER_ID]) else arrays


def _only_of(
    parts: Iterable[tuple[int, Arrays]], users: Collection[int]
) -> Iterator[tuple[int, Arrays]]:
    """The rows of some users, each of whom has one at most."""
    missing = len(users)
    for time, arrays in parts:
        rows = [row for row, user in enumerate(arrays[USER_ID].tolist()) if user in users]
        if rows:
            yield time, _rows(arrays, rows)
        missing -= len(rows)
        if not missing:
            return


def _cut_before(arrays: Arrays, since: int) -> Arrays:
    """Features without the events before a second, in the same length."""
    mask = arrays[_MASK]  # [users, time], padded at the end
    shift = (mask & (arrays[_TIMES] < since)).sum(axis=1, keepdims=True)
    # Events are oldest first: the others move to the front, and padding follows them.
    time = np.arange(mask.shape[1])
    places = np.minimum(time + shift, mask.shape[1] - 1)
    mask = time < mask.sum(axis=1, keepdims=True) - shift
    histories = {}
    for name in filter(_is_history, arrays):
        values = arrays[name]
        more = (..., *[None] * (values.ndim - 2))  # of several ids
        moved = np.take_along_axis(values, places[more], axis=1)
        histories[name] = np.where(mask[more], moved, 0).astype(values.dtype)
    return {**arrays, **histories, _MASK: mask}


def _split_by_length(parts: Iterable[tuple[int, Arrays]]) -> Iterator[tuple[int, Arrays]]:
    """Features of users whose histories have one length, without padding."""
    for _, arrays in parts:
        lengths = arrays[_MASK].sum(axis=1)
        for length in np.unique(lengths).tolist():
            rows = _rows(arrays, np.flatnonzero(lengths == length))
            # One column of padding for no events at all: not every operation takes an empty axis.
            width = max(length, 1)
            yield length, {n: v[:, :width] if _is_history(n) else v for n, v in rows.items()}


def _is_history(feature: str) -> bool:
    return feature.startswith(PREFIX[HISTORY])


def _regroup(
    parts: Iterable[tuple[int, Arrays]], batch_users: int, is_padded: bool
) -> Iterator[UserBatch]:
    """Batches of `batch_users` users of one length; rows are padded so that few shapes are compiled."""
    waiting: dict[int, Arrays] = {}
    for time, arrays in parts:
        if first := waiting.pop(time, None):
            arrays = {name: np.concatenate([first[name], arrays[name]]) for name in arrays}
        # Users that are left over wait for others of their length.
        while len(arrays[USER_ID]) >= batch_users:
            yield _batch(_rows(arrays, slice(batch_users)), batch_users)
            arrays = _rows(arrays, slice(batch_users, None))
        if len(arrays[USER_ID]):
            waiting[time] = arrays
    for arrays in waiting.values():
        yield _batch(arrays, batch_users if is_padded else 0)


def _batch(arrays: Arrays, padded_users: int) -> UserBatch:
    newest = _newest_seconds(arrays)

    # Rows of padding keep the number of shapes small, each of which is compiled.
    def load(rows: Sequence[int]) -> tuple[list[int], Arrays]:
        padding = max(padded_users - len(rows), 0)
        features = {
            name: np.pad(values[rows], [(0, padding), *[(0, 0)] * (values.ndim - 1)])
            for name, values in arrays.items()
        }
        return [newest[row] for row in rows], features

    return UserBatch(arrays[USER_ID].tolist(), newest, load)


def _newest_seconds(arrays: Arrays) -> list[int]:
    """Second of each user's newest event; -1 for no events, or where the data have no times."""
    mask = arrays[_MASK]
    times = arrays.get(_TIMES, np.full(mask.shape, -1))
    return np.max(np.where(mask, times, -1), axis=1, initial=-1).tolist()


def _rows(arrays: Arrays, rows: Any) -> Arrays:
    return {name: values[rows] for name, values in arrays.items()}
