"""What a request need not wait for: the state of every user of a data set, computed beforehand.

ENCODE (Zhou et al., 2024) calls it the offline stage: the interests of all users are extracted with the
newest weights now and then, and a request reads them. It works for every model, since all of them are
cut where the candidate enters; it pays where the state is small, as ENCODE's and MIMN's are.

`extract_for_bundle` runs an exported version and writes what `Ranker.rank_stored` reads; `extract` runs
a model in Python, and `load_state` reads what it writes.
"""

import concurrent.futures
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import tensorflow as tf

from dgin_tf.inputs.cutting import whole_histories
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.models.base import CTRModel
from dgin_tf.records import SPLITS, read_records
from dgin_tf.schema import FIRST_ID, Schema
from dgin_tf.serving.center.progress import Progress as StreamProgress
from dgin_tf.serving.center.user_states import UserState, UserStates
from dgin_tf.serving.export.signatures import ENCODE_USER, signature_specs
from dgin_tf.serving.export.versions import open_bundle
from dgin_tf.stores.state_store import StateStore
from dgin_tf.stores.values import DamagedValueError, StaleValueError, decode_value, encode_value

USER_ID = "user_id"
_TIMES, _MASK = "hist_timestamp", "hist_mask"

Arrays = dict[str, np.ndarray]
Item = TypeVar("Item")
Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
Encode = Callable[[Mapping[str, tf.Tensor]], Mapping[str, tf.Tensor]]


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
    values = _OfWeights(store, weights_version(model), data.schema.fingerprint())
    encode = tf.function(model.encode_user, autograph=False)
    return _extract(encode, values, data, max_history, batch_users, progress)


def extract_for_bundle(
    bundle: str | os.PathLike,
    data: PreparedData,
    store: StateStore,
    batch_users: int = 256,
    progress: Progress = lambda items, total, text: items,
) -> Extracted:
    """As `extract`, with the `encode_user` of an exported version, for `Ranker.rank_stored`.

    A user is passed over whose stored state includes the newest event of the data, or follows a
    stream of events already; after a later preparation those who did something are encoded anew.

    Args:
      bundle: base path of the exported versions, or the directory of one version.
      data: whose users.
      store: where the states go; its own namespace does not matter.
      batch_users: users encoded, and written, at a time.
      progress: as for `extract`.

    Raises:
      FileNotFoundError: there is no bundle.
      ValueError: the data follow another schema or have no user id, or the version keeps groups.
    """
    version_dir, metadata = open_bundle(bundle)
    if data.schema.fingerprint() != metadata["schema_fingerprint"]:
        raise ValueError(
            f"the data in {data.data_dir!r} follow schema {data.schema.fingerprint()}, but "
            f"{version_dir} was exported under {metadata['schema_fingerprint']}; extract from the data "
            "that the model was trained on."
        )
    if metadata.get("kept"):
        raise ValueError(
            f"model {metadata['name']!r} keeps groups, which requests read with rank_person and an "
            "engine; extract the states of a model that keeps none, such as encode."
        )
    signature = tf.saved_model.load(os.fspath(version_dir)).signatures[ENCODE_USER]
    asked = list(signature_specs(signature)[0])

    def encode(features: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        return signature(**{name: features[name] for name in asked})

    values = _OfBundle(UserStates(store, metadata))
    return _extract(encode, values, data, metadata["max_history"], batch_users, progress)


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


class _Values(Protocol):
    """How states lie in a store."""

    store: StateStore

    def is_current(self, value: bytes | None, user: int, newest: int) -> bool:
        """Whether a stored value is what would be written for a history up to the second `newest`."""

    def to_value(self, state: Arrays, newest: int) -> bytes:
        """The value of a state."""


class _OfWeights:
    """States marked with a digest of a model's weights; see `load_state`."""

    def __init__(self, store: StateStore, version: str, schema: str):
        self.store = store
        self._marks = {"model_version": version, "schema": schema}

    def is_current(self, value: bytes | None, user: int, newest: int) -> bool:
        if value is None:
            return False
        try:
            decode_value(value, **self._marks)
        except (StaleValueError, DamagedValueError):
            return False
        return True

    def to_value(self, state: Arrays, newest: int) -> bytes:
        return encode_value(state, sequence=0, **self._marks)


class _OfBundle:
    """States of an exported version, as the User Interest Center and the ranker read them."""

    def __init__(self, states: UserStates):
        self.store = states.store
        self._states = states

    def is_current(self, value: bytes | None, user: int, newest: int) -> bool:
        if value is None:
            return False
        try:
            progress = self._states.decode(user, value).progress
        except (StaleValueError, DamagedValueError):
            return False
        # A state that a stream was folded into has numbers that no history knows.
        return progress.sequence > 0 or progress.newest >= newest

    def to_value(self, state: Arrays, newest: int) -> bytes:
        return self._states.encode(UserState(state, StreamProgress.up_to(newest)))


def _extract(
    encode: Encode,
    values: _Values,
    data: PreparedData,
    max_history: int,
    batch_users: int,
    progress: Progress,
) -> Extracted:
    schema = data.schema
    if USER_ID not in [field.name for field in schema.user_fields]:
        raise ValueError(
            f"states are kept by {USER_ID}, which this schema does not have; prepare the data with it."
        )

    def encoded(batch):
        """How many users a batch has, what is stored of those whose state is wanted, and their values."""
        users, features = batch
        newest = _newest(features)
        held = dict(zip(users, values.store.get_many(users), strict=True))
        wanted = {
            row: user
            for row, user in enumerate(users)
            if not values.is_current(held[user], user, newest[row])
        }
        if not wanted:
            return len(users), {}, {}
        state = {name: tensor.numpy() for name, tensor in encode(features).items()}
        found = {
            user: values.to_value(
                {n: _plain(array[row]) for n, array in state.items()}, newest[row]
            )
            for row, user in wanted.items()
        }
        return len(users), {user: held[user] for user in found}, found

    users = kept = size = 0
    first, began = None, perf_counter()
    total = sum(shard.users for shards in data.manifest.splits.values() for shard in shards)
    records = progress(_records(data), total, "users")
    parsed = _parsed(schema, _chunks(records, batch_users, max_history))
    batches = _ahead(_batches(_first_of_each(parsed), batch_users))
    # Parsing, encoding and writing in a thread each.
    for seen, held, found in _ahead(map(encoded, batches)):
        written = values.store.swap_each(held, found)
        if written and first is None:
            first = Beginning(len(written), perf_counter() - began)
        users += len(written)
        kept += seen - len(written)
        size += sum(len(found[user]) for user in written)
    return Extracted(users, kept, size, first or Beginning(0, 0.0), perf_counter() - began)


def _newest(features: Mapping[str, tf.Tensor]) -> list[int]:
    """Second of each user's newest event; -1 for no events, or where the data have no times."""
    mask = features[_MASK].numpy()
    times = features[_TIMES].numpy() if _TIMES in features else np.full(mask.shape, -1)
    return np.max(np.where(mask, times, -1), axis=1, initial=-1).tolist()


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made while its predecessor is worked on."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item


def _records(data: PreparedData) -> Iterator[tuple[str, int, bytes]]:
    """Split, the padded length of each record's shard, and the record; the newest split first."""
    for split in reversed(SPLITS):
        for shard in data.manifest.splits.get(split, ()):
            for payload in read_records(f"{data.data_dir}/{shard.path}"):
                yield split, shard.bucket, payload


def _chunks(
    records: Iterable[tuple[str, int, bytes]], batch_users: int, max_history: int
) -> Iterator[tuple[int, list[bytes]]]:
    """Padded lengths, and records of one split that are to be padded to them.

    The length is the shard's, not the batch's, so that a user's state does not depend on who else is
    in the batch, and few shapes are compiled. No record waits for those of an older split, because
    of a user's records the first one counts.
    """
    waiting: dict[int, list[bytes]] = {}
    current = ""
    for split, bucket, record in records:
        if split != current:
            yield from waiting.items()
            waiting, current = {}, split
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
    specs = (tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32))
    parse = tf.function(
        lambda chunk, time: whole_histories(chunk, schema, time),
        input_signature=specs,
        autograph=False,
    )
    for time, chunk in chunks:
        found = parse(tf.constant(chunk), tf.constant(time))
        yield time, {name: value.numpy() for name, value in found.items()}


def _first_of_each(parts: Iterable[tuple[int, Arrays]]) -> Iterator[tuple[int, Arrays]]:
    """The rows of each user's first record, which is the newest, before batches mix the splits.

    Nobody's state is kept under the unknown id, which many share.
    """
    seen: set[int] = set(range(FIRST_ID))
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
