"""Encodes the states of all users ahead of requests.

ENCODE (Zhou et al., 2024) calls it the offline stage, MIMN's User Interest Center starts from it, and DGIN's
groups are encoded after every model update. A source gives users in batches, an encoder turns features into
states, and a sink stores them. Users whose stored state is current are skipped, so that a job that was
stopped continues where it was.

    RecordUsers -> UserStateSink    histories of a prepared data set -> states in a store
    GroupUsers -> GroupSink         groups of an engine -> cached groups
"""

import concurrent.futures
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from dgin_tf.models.base import CTRModel
from dgin_tf.records import Arrays
from dgin_tf.serving.center.progress import Progress as StreamProgress
from dgin_tf.serving.center.user_states import UserState, UserStates
from dgin_tf.serving.export.state_names import flatten_state
from dgin_tf.serving.online.cached_groups import CachedGroups
from dgin_tf.serving.online.state_sources import GroupStates
from dgin_tf.serving.user_records import Progress, RecordUsers, UserBatch
from dgin_tf.stores.values import DamagedValueError, StaleValueError

Item = TypeVar("Item")
Encode = Callable[[Arrays], Mapping[str, np.ndarray]]


class FirstBatch(NamedTuple):
    """The first batch that was written, whose seconds are mostly compiling."""

    users: int
    seconds: float


class EncodingReport(NamedTuple):
    """Counts of a job.

    Attributes:
      users: users whose state was encoded and written.
      current: users whose stored state was current.
      bytes: size of all values that were written.
      first: the first batch.
      seconds: duration of the job.
    """

    users: int
    current: int
    bytes: int
    first: FirstBatch
    seconds: float

    @property
    def users_per_second(self) -> float:
        """Throughput behind the first batch; 0 where nothing was written behind it."""
        users, seconds = self.users - self.first.users, self.seconds - self.first.seconds
        return users / seconds if users else 0.0


def encode_users(
    source: "RecordUsers | GroupUsers",
    encode: Encode,
    sink: "UserStateSink | GroupSink",
    batch_users: int = 256,
    progress: Progress = lambda items, total, text: items,
) -> EncodingReport:
    """Encodes and stores the state of every user whose stored one is not current.

    Args:
      source: users and their features.
      encode: features [users, ...] -> state by flat name, [users, ...]; such as `BundleModel.run` for
        a signature, or `model_encoder`.
      sink: where the states go.
      batch_users: users encoded, and written, at a time.
      progress: wraps the items of the source, for a bar: (items, their number, text).
    """

    def encode_batch(batch: UserBatch):
        pending = sink.pending(batch.users, batch.revisions)
        rows = [row for row, user in enumerate(batch.users) if user in pending]
        states: dict[int, tuple[int, Arrays]] = {}
        if rows:
            revisions, features = batch.load(rows)
            state = encode(features)
            for place, (row, revision) in enumerate(zip(rows, revisions, strict=True)):
                arrays = {name: array[place] for name, array in state.items()}
                # `load` may have read a newer revision than that of the batch.
                states[batch.users[row]] = revision, arrays
        return len(batch.users), states, pending

    users = current = size = 0
    first, start = None, perf_counter()
    # Loading, encoding and writing in a thread each.
    batches = _ahead(source.batches(batch_users, progress))
    for count, states, pending in _ahead(map(encode_batch, batches)):
        written_users, written_bytes = sink.write(states, pending)
        if written_users and first is None:
            first = FirstBatch(written_users, perf_counter() - start)
        users += written_users
        current += count - written_users
        size += written_bytes
    return EncodingReport(users, current, size, first or FirstBatch(0, 0.0), perf_counter() - start)


def model_encoder(model: CTRModel) -> Encode:
    """An encoder that runs a model in Python, with the weights that it has."""
    encode = tf.function(model.encode_user, autograph=False)

    def run(features: Arrays) -> Arrays:
        state = {name: value.numpy() for name, value in flatten_state(encode(features)).items()}
        # Half-precision floats of TensorFlow's own are no type of numpy's.
        return {n: v if v.dtype.kind in "biuf" else v.astype(np.float32) for n, v in state.items()}

    return run


def model_metadata(model: CTRModel, name: str) -> dict[str, Any]:
    """Metadata of a model in Python, for `UserStates`: states of other weights are stale.

    Args:
      model: built.
      name: namespace of its states.
    """
    digest = hashlib.blake2b(digest_size=8)
    for layer in model.layers:
        for variable in layer.weights:
            digest.update(f"{variable.name}{variable.shape}".encode())
            digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return {
        "name": name,
        "version": "weights",
        "weights_digest": digest.hexdigest(),
        "schema_fingerprint": model.schema.fingerprint(),
    }


class GroupUsers:
    """Users of an engine, with the inputs of their groups; a revision is `BehaviorEngine.version`.

    Args:
      groups: of the model and the engine.

    Attributes:
      damaged: users whose account is damaged; they are skipped.
    """

    def __init__(self, groups: GroupStates):
        self._groups = groups
        self.damaged: set[int] = set()

    def batches(self, batch_users: int, progress: Progress) -> Iterator[UserBatch]:
        """All users of the engine."""
        self.damaged = set(self._groups.engine.damaged_users())
        users = [user for user in self._groups.engine.users() if user not in self.damaged]
        remaining = iter(progress(users, len(users), "groups"))
        while chunk := list(itertools.islice(remaining, batch_users)):
            yield self._batch(chunk)

    def _batch(self, users: list[int]) -> UserBatch:
        versions = [self._groups.engine.version(user) for user in users]
        return UserBatch(
            users, versions, lambda rows: self._groups.inputs([users[row] for row in rows])
        )


class UserStateSink:
    """Writes states for `StoredStates`, and for an interest center that goes on from them.

    A state that follows a stream of events stays as it is.

    Args:
      states: of the model's version.

    Attributes:
      incomplete: users whose stream began before their history was encoded, so that their state lacks it.
        They cannot be told where events have no times.
    """

    def __init__(self, states: UserStates):
        self.incomplete: set[int] = set()
        self._states = states

    def pending(self, users: Sequence[int], revisions: Sequence[int]) -> dict[int, bytes | None]:
        """Users whose state is missing or does not include the newest event, with the stored bytes."""
        values = zip(users, self._states.store.get_many(users), revisions, strict=True)
        return {u: value for u, value, newest in values if not self._is_current(u, value, newest)}

    def write(
        self, states: Mapping[int, tuple[int, Arrays]], pending: Mapping[int, bytes | None]
    ) -> tuple[int, int]:
        """Stores states, user -> (newest event, state); those that have changed meanwhile stay.

        Returns:
          How many were stored, and their bytes.
        """
        values = {
            user: self._states.encode(UserState(arrays, StreamProgress.up_to(newest)))
            for user, (newest, arrays) in states.items()
        }
        users = self._states.store.swap_each({user: pending[user] for user in values}, values)
        self.incomplete.update(values.keys() - users)
        return len(users), sum(len(values[user]) for user in users)

    def _is_current(self, user: int, value: bytes | None, newest: int) -> bool:
        if value is None:
            return False
        try:
            progress = self._states.decode(user, value).progress
        except (StaleValueError, DamagedValueError):
            return False
        if progress.sequence > 0:  # a stream was folded in, which no history knows
            if progress.included_until < 0 <= newest:
                self.incomplete.add(user)
            return True
        return progress.newest >= newest


class GroupSink:
    """Writes the states of groups for `GroupStates`.

    Args:
      cache: of the model's version.
    """

    def __init__(self, cache: CachedGroups):
        self._cache = cache

    def pending(self, users: Sequence[int], revisions: Sequence[int]) -> dict[int, bytes | None]:
        """Users whose state is missing or not of this version; those of version 0 are unknown."""
        versions = zip(users, revisions, strict=True)
        return {u: None for u, v in versions if v and self._cache.read(u, v) is None}

    def write(
        self, states: Mapping[int, tuple[int, Arrays]], pending: Mapping[int, bytes | None]
    ) -> tuple[int, int]:
        """Stores states, user -> (version, state); returns how many, and their bytes.

        Whatever is stored is replaced, since the version is compared at every read.
        """
        # The ranker reads states of one user, [1, ...].
        rows = {
            user: (version, {name: array[np.newaxis] for name, array in arrays.items()})
            for user, (version, arrays) in states.items()
        }
        return len(rows), self._cache.write(rows)


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Computes each item in a thread while its predecessor is worked on."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item
