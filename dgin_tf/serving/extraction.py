"""What a request need not wait for: the state of every user of a data set, computed beforehand.

ENCODE (Zhou et al., 2024) calls it the offline stage: the interests of all users are extracted with the
newest weights now and then, and a request reads them. It works for every model, since all of them are
cut where the candidate enters; it pays where the state is small, as ENCODE's and MIMN's are.
"""

import concurrent.futures
import hashlib
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from dgin_tf.inputs.cutting import whole_histories
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.models.base import CTRModel
from dgin_tf.records import SPLITS, Shard, read_records
from dgin_tf.schema import Schema
from dgin_tf.stores.state_store import StateStore
from dgin_tf.stores.values import DamagedValueError, StaleValueError, decode_value, encode_value

USER_ID = "user_id"

Arrays = dict[str, np.ndarray]
Item = TypeVar("Item")
Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]


class Beginning(NamedTuple):
    """The first batch that was written, whose seconds are mostly compiling."""

    users: int
    seconds: float


class Extracted(NamedTuple):
    """What an extraction did.

    Attributes:
      users: whose states were written.
      kept: whose states were there already, of these very weights.
      bytes: of all values that were written.
      first: the first batch.
      seconds: in all.
    """

    users: int
    kept: int
    bytes: int
    first: Beginning
    seconds: float

    @property
    def users_per_second(self) -> float:
        """The rate behind the first batch; 0 where nothing was written behind it."""
        users, seconds = self.users - self.first.users, self.seconds - self.first.seconds
        return users / seconds if users else 0.0


def weights_version(model: CTRModel) -> str:
    """A digest of a built model's weights: states of other weights are stale."""
    digest = hashlib.blake2b(digest_size=8)
    for layer in model.layers:
        for variable in layer.weights:
            digest.update(f"{variable.name}{variable.shape}".encode())
            digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()


def extract(
    model: CTRModel,
    data: PreparedData,
    store: StateStore,
    max_history: int,
    batch_users: int = 256,
    progress: Progress = lambda items, total, text: items,
) -> Extracted:
    """Encodes every user's whole stored history and writes the states.

    A user whose stored state is of these weights is passed over, so that an extraction that was
    stopped goes on where it was. Of a user who is in several splits the newest record counts.

    Args:
      model: built, with the weights to use.
      data: whose users.
      store: where the states go, see `load_state`.
      max_history: newest events that count.
      batch_users: users encoded, and written, at a time.
      progress: wraps what is gone through, for a bar: (records, their number, text).

    Raises:
      ValueError: records have no user id to file a state under.
    """
    schema = data.schema
    if USER_ID not in [field.name for field in schema.user_fields]:
        raise ValueError(
            f"states are kept by {USER_ID}, which this schema does not have; prepare the data with it."
        )
    version, fingerprint = weights_version(model), schema.fingerprint()
    encode = tf.function(model.encode_user, autograph=False)

    def without_state(batches):
        for names, features in batches:
            stored = store.get_many(names)
            yield names, features, [not _is_current(v, version, fingerprint) for v in stored]

    def encoded(batch):
        names, features, wanted = batch
        if not any(wanted):
            return len(names), {}
        state = {name: tensor.numpy() for name, tensor in encode(features).items()}
        values = {
            name: encode_value(
                {key: _plain(array[row]) for key, array in state.items()},
                model_version=version,
                schema=fingerprint,
                sequence=0,
            )
            for row, name in enumerate(names)
            if wanted[row]
        }
        return len(names) - len(values), values

    users = kept = size = 0
    first, began = None, perf_counter()
    shards = [shard for split in reversed(SPLITS) for shard in data.manifest.splits.get(split, ())]
    total = sum(shard.users for shard in shards)
    records = progress(_records(data, shards), total, "users")
    parsed = _parsed(schema, _chunks(records, batch_users, max_history))
    batches = _ahead(_batches(_first_of_each(parsed), batch_users))
    # Parsing, encoding and writing in a thread each.
    for already, values in _ahead(map(encoded, without_state(batches))):
        if values:
            store.put_many(values)
            first = first or Beginning(len(values), perf_counter() - began)
        kept += already
        users += len(values)
        size += sum(map(len, values.values()))
    return Extracted(users, kept, size, first or Beginning(0, 0.0), perf_counter() - began)


def load_state(
    store: StateStore, user: int, model_version: str, schema: str
) -> dict[str, np.ndarray] | None:
    """A user's state as `score` and `score_candidates` take it, name -> [1, ...]; None where none is.

    Raises:
      StaleValueError: it is of other weights or another schema.
      DamagedValueError: it was cut short or changed.
    """
    value = store.get(user)
    if value is None:
        return None
    arrays = decode_value(value, model_version=model_version, schema=schema).arrays
    return {name: array[np.newaxis] for name, array in arrays.items()}


def _is_current(value: bytes | None, version: str, schema: str) -> bool:
    if value is None:
        return False
    try:
        decode_value(value, model_version=version, schema=schema)
    except (StaleValueError, DamagedValueError):
        return False
    return True


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made while its predecessor is worked on."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item


def _records(data: PreparedData, shards: Iterable[Shard]) -> Iterator[tuple[int, bytes]]:
    """The padded length of each record's shard, and the record."""
    for shard in shards:
        for payload in read_records(f"{data.data_dir}/{shard.path}"):
            yield shard.bucket, payload


def _chunks(
    records: Iterable[tuple[int, bytes]], batch_users: int, max_history: int
) -> Iterator[tuple[int, list[bytes]]]:
    """Padded lengths, and records that are to be padded to them.

    The length is the shard's, not the batch's, so that a user's state does not depend on who else is
    in the batch, and few shapes are compiled.
    """
    waiting: dict[int, list[bytes]] = {}
    for bucket, record in records:
        time = min(bucket, max_history)
        chunk = waiting.setdefault(time, [])
        chunk.append(record)
        if len(chunk) == batch_users:
            yield time, waiting.pop(time)
    yield from waiting.items()


def _parsed(
    schema: Schema, chunks: Iterable[tuple[int, list[bytes]]]
) -> Iterator[tuple[int, Arrays]]:
    """Padded lengths, and the users' side of records, in arrays: a record alone takes ten times as long."""
    parse = tf.function(lambda chunk, time: whole_histories(chunk, schema, time), autograph=False)
    for time, chunk in chunks:
        found = parse(tf.constant(chunk), tf.constant(time))
        yield time, {name: value.numpy() for name, value in found.items()}


def _first_of_each(parts: Iterable[tuple[int, Arrays]]) -> Iterator[tuple[int, Arrays]]:
    """The rows of each user's first record, which is the newest, before batches mix the splits."""
    seen: set[int] = set()
    for time, arrays in parts:
        users = arrays[USER_ID].tolist()
        rows = [row for row, user in enumerate(users) if user not in seen]
        seen.update(users)
        if len(rows) < len(users):
            arrays = {name: values[rows] for name, values in arrays.items()}
        yield time, arrays


def _batches(
    parts: Iterable[tuple[int, Arrays]], batch_users: int
) -> Iterator[tuple[list[int], dict[str, tf.Tensor]]]:
    """Users and their features, so many at a time; rows without a user are padding, so that shapes stay few."""
    waiting: dict[int, Arrays] = {}
    for time, arrays in parts:
        if first := waiting.pop(time, None):
            arrays = {name: np.concatenate([first[name], arrays[name]]) for name in arrays}
        while len(arrays[USER_ID]) >= batch_users:
            yield _batch(arrays, batch_users)
            arrays = {name: values[batch_users:] for name, values in arrays.items()}
        if len(arrays[USER_ID]):
            waiting[time] = arrays
    for arrays in waiting.values():
        yield _batch(arrays, batch_users)


def _batch(arrays: Arrays, users: int) -> tuple[list[int], dict[str, tf.Tensor]]:
    """The first users of some arrays, which are padded where they have not as many."""
    names = arrays[USER_ID][:users].tolist()
    features = {}
    for name, values in arrays.items():
        rows = values[:users]
        if len(names) < users:
            rows = np.concatenate(
                [rows, np.zeros((users - len(names), *rows.shape[1:]), rows.dtype)]
            )
        features[name] = tf.constant(rows)
    return names, features


def _plain(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.kind not in "biuf" else array
