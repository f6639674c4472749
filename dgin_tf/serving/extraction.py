"""What a request need not wait for: the state of every user of a data set, computed beforehand.

ENCODE (Zhou et al., 2024) calls it the offline stage: the interests of all users are extracted with the
newest weights now and then, and a request reads them. It works for every model, since all of them are
cut where the candidate enters; it pays where the state is small, as ENCODE's and MIMN's are.
"""

import concurrent.futures
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.models.base import CTRModel
from dgin_tf.records import SPLITS, Shard, decode_record, read_records
from dgin_tf.schema import HISTORY, USER, feature_name
from dgin_tf.stores.state_store import StateStore
from dgin_tf.stores.values import DamagedValueError, StaleValueError, decode_value, encode_value

USER_ID = "user_id"

Arrays = dict[str, np.ndarray]
Item = TypeVar("Item")
Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]


class Extracted(NamedTuple):
    """What an extraction did.

    Attributes:
      users: whose states were written.
      kept: whose states were there already, of these very weights.
      bytes: of all values that were written.
    """

    users: int
    kept: int
    bytes: int


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
    version = weights_version(model)
    encode = tf.function(model.encode_user, autograph=False)
    users = kept = size = 0
    shards = [shard for split in reversed(SPLITS) for shard in data.manifest.splits.get(split, ())]
    total = sum(shard.users for shard in shards)
    records = progress(_records(data, shards), total, "users")
    batches = _batches(_first_of_each(records), batch_users, max_history)
    prepared = (
        ([int(record[USER_ID][0]) for record in batch], _features(data, batch, batch_users, time))
        for time, batch in batches
    )
    for names, features in _ahead(prepared):
        wanted = [
            n
            for n, value in enumerate(store.get_many(names))
            if not _is_current(value, version, schema.fingerprint())
        ]
        kept += len(names) - len(wanted)
        if not wanted:
            continue
        state = {name: tensor.numpy() for name, tensor in encode(features).items()}
        values = {
            names[n]: encode_value(
                {name: _plain(array[n]) for name, array in state.items()},
                model_version=version,
                schema=schema.fingerprint(),
                sequence=0,
            )
            for n in wanted
        }
        store.put_many(values)
        users += len(values)
        size += sum(map(len, values.values()))
    return Extracted(users, kept, size)


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


def _records(data: PreparedData, shards: Iterable[Shard]) -> Iterator[tuple[int, Arrays]]:
    """The padded length of each record's shard, and the record."""
    for shard in shards:
        for payload in read_records(f"{data.data_dir}/{shard.path}"):
            yield shard.bucket, decode_record(data.schema, payload)


def _first_of_each(records: Iterable[tuple[int, Arrays]]) -> Iterator[tuple[int, Arrays]]:
    """Each user's first record, which is the newest, before batches mix the splits."""
    seen: set[int] = set()
    for bucket, record in records:
        user = int(record[USER_ID][0])
        if user not in seen:
            seen.add(user)
            yield bucket, record


def _batches(
    records: Iterable[tuple[int, Arrays]], batch_users: int, max_history: int
) -> Iterator[tuple[int, list[Arrays]]]:
    """Padded lengths, and records that are to be padded to them.

    The length is the shard's, not the batch's, so that a user's state does not depend on who else is
    in the batch, and few shapes are compiled.
    """
    waiting: dict[int, list[Arrays]] = {}
    for bucket, record in records:
        batch = waiting.setdefault(min(bucket, max_history), [])
        batch.append(record)
        if len(batch) == batch_users:
            yield min(bucket, max_history), batch
            waiting[min(bucket, max_history)] = []
    for time, batch in waiting.items():
        if batch:
            yield time, batch


def _features(
    data: PreparedData, batch: list[Arrays], batch_users: int, time: int
) -> dict[str, tf.Tensor]:
    """The user's side of a batch; rows without a user are padding, so that shapes stay few."""
    mask = np.zeros((batch_users, time), bool)
    features: Arrays = {}
    for field in data.schema.with_role(USER):
        name = feature_name(USER, field)
        features[name] = np.zeros(batch_users, field.dtype)
        features[name][: len(batch)] = [record[name][0] for record in batch]
    for field in data.schema.with_role(HISTORY):
        name = feature_name(HISTORY, field)
        features[name] = np.zeros((batch_users, time), field.dtype)
        for row, record in enumerate(batch):
            newest = record[name][-time:]
            features[name][row, : len(newest)] = newest
            mask[row, : len(newest)] = True
    return {name: tf.constant(value) for name, value in {**features, "hist_mask": mask}.items()}


def _plain(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.kind not in "biuf" else array
