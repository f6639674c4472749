"""Sources of the state that a request's candidates are scored against.

HistoryStates   encodes the history that a request brings, equal ones once
IndexStates     encodes what a behavior index has under the candidates' keys (SIM's hard search)
GroupStates     reads cached groups and the candidates' own events (DGIN)
StoredStates    reads what the User Interest Center or `encode_users` stored
"""

import abc
import collections
import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dgin_tf.group_spec import TOTAL
from dgin_tf.records import Arrays, stack_padded, unknown_value
from dgin_tf.schema import CANDIDATE, HISTORY, ITEM, TIMESTAMP, USER_ID
from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.serving.export.signatures import (
    ENCODE_GROUPS,
    ENCODE_RETRIEVED,
    ENCODE_USER,
    total_feature,
)
from dgin_tf.serving.online.bundle_model import BundleModel, Profile, Values, by_field, pad_row
from dgin_tf.serving.online.cached_groups import CachedGroups
from dgin_tf.stores.behavior_engine import BehaviorEngine
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.state_store import StateStore

State = Mapping[str, Any]  # name -> array or tensor, [1, ...]


class Lookup(NamedTuple):
    """A state, and facts about where it came from.

    Attributes:
      state: name -> [1, ...].
      source: "history", "index", "groups" or "store".
      is_known: false for a user of whom nothing is stored, who is ranked for with the empty state.
      is_cached: true where nothing had to be encoded.
      newest: second of the newest event in the state; None where that is not known.
      events: events that were read for the request; None where a stored state holds them.
      cut: events that did not count, because they are older than the newest that training saw.
    """

    state: State
    source: str
    is_known: bool = True
    is_cached: bool = False
    newest: int | None = None
    events: int | None = None
    cut: int = 0


class Request(NamedTuple):
    """One user and candidates, with dense ids.

    Attributes:
      user: dense id; an unknown one is a user without events.
      candidates: see `BundleModel`.
      profile: one value of each user field that the model reads, other than the user's id.
      before: only events before this second count; None for all.
      ties: how many events of that very second count too, see `BehaviorIndex.lookup`.
    """

    user: int
    candidates: Values
    profile: Profile | None = None
    before: int | None = None
    ties: int = 0

    @property
    def user_fields(self) -> Mapping[str, Any]:
        """The profile with the user's id."""
        return {USER_ID: self.user, **(self.profile or {})}


class StateSource(abc.ABC):
    """States by user id."""

    @abc.abstractmethod
    def state(self, request: Request) -> Lookup:
        """The user's state.

        Raises:
          StoreError: a store cannot be read.
          ValueError: the source cannot answer the request.
        """


class HistoryStates:
    """Encodes histories; the most recently used states are cached.

    A state is cached under a digest of the very ids that it was encoded from, so that it is never stale,
    and a second request with the same history pays for scoring alone.

    Args:
      model: the exported version.
      cached_states: how many states to cache; the least recently used one goes first.
    """

    def __init__(self, model: BundleModel, cached_states: int):
        if cached_states < 0:
            raise ValueError(f"cached_states must not be negative; got {cached_states}.")
        self._model = model
        self._size = cached_states
        self._cache: collections.OrderedDict[bytes, Arrays] = collections.OrderedDict()
        self._lock = threading.Lock()

    def encode(
        self, history: Values, profile: Profile | None = None, newest: int | None = None
    ) -> State:
        """The state of one user, name -> [1, ...].

        Args:
          history: dense ids, see `BundleModel`.
          profile: one value of each user field that the model reads.
          newest: how many of the newest events count; None for as many as training saw.
        """
        return self.look_up(history, profile, newest).state

    def look_up(
        self, history: Values, profile: Profile | None = None, newest: int | None = None
    ) -> Lookup:
        """The state of `encode`, and facts about it."""
        newest = self._model.metadata["max_history"] if newest is None else newest
        columns = by_field(history)
        events = np.size(columns.get(ITEM, ()))
        times = np.asarray(columns.get(TIMESTAMP, ())).reshape(-1)
        lookup = Lookup(
            {},
            HISTORY,
            newest=int(times[-1]) if len(times) else None,
            events=min(events, newest),
            cut=max(events - newest, 0),
        )
        inputs = self._model.features(HISTORY, history, ENCODE_USER, newest)
        inputs |= self._model.user_features(profile, ENCODE_USER)
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(inputs):
            digest.update(f"{name}{inputs[name].shape}".encode() + inputs[name].tobytes())
        key = digest.digest()
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return lookup._replace(state=self._cache[key], is_cached=True)
        state = self._model.run(ENCODE_USER, inputs)  # not under the lock: others may encode too
        with self._lock:
            self._cache[key] = state
            while len(self._cache) > self._size:
                self._cache.popitem(last=False)
        return lookup._replace(state=state)


class IndexStates(StateSource):
    """Encodes, of a history on disk, the newest events and those under the candidates' keys.

    Args:
      model: the exported version, which searches a history by an attribute of the candidates.
      index: the histories.
      histories: encodes them.

    Raises:
      ValueError: the index does not hold what the model reads.
    """

    def __init__(
        self,
        model: BundleModel,
        index: BehaviorIndex | BehaviorEngine,
        histories: HistoryStates,
    ):
        _check_index(index, model)
        self._model, self._index, self._histories = model, index, histories

    def state(self, request: Request) -> Lookup:
        history_slice = self._model.metadata["history_slice"]
        keys = _candidate_keys(self._model, history_slice["key"], request.candidates)
        events = self._index.history_slice(
            request.user, keys, history_slice["newest"], request.before, request.ties
        )
        # All events of the slice count, however many: training's limit is one of whole histories.
        count = len(events[history_slice["key"]])
        lookup = self._histories.look_up(events, request.user_fields, newest=count)
        return lookup._replace(source="index", is_known=count > 0)


class GroupStates(StateSource):
    """Reads DGIN's groups from a cache, and encodes the candidates' own events beside them.

    A user's groups are cached until the user does something or the model is replaced.

    Args:
      model: the exported version, which has groups.
      engine: lists and statistics of the groups.
      store: caches the groups' states.

    Raises:
      ValueError: the engine does not hold what the model reads, or is an index alone.
    """

    def __init__(
        self, model: BundleModel, engine: BehaviorIndex | BehaviorEngine, store: StateStore
    ):
        _check_index(engine, model)
        spec = model.metadata["groups"]
        if not isinstance(engine, BehaviorEngine):
            raise ValueError(
                f"model {model.name!r} has groups, whose statistics an index alone does not hold; give "
                "a BehaviorEngine of index and totals."
            )
        if missing := sorted(set(spec["statistics"]) - set(engine.totals.names)):
            raise ValueError(
                f"model {model.name!r} describes groups by {missing}, which these totals do not "
                f"count; they have {engine.totals.names}. Name the fields in `distinct`."
            )
        self.model, self.engine, self.cache = model, engine, CachedGroups(store, model.metadata)

    def state(self, request: Request) -> Lookup:
        _check_is_of_now(request, self.model)
        # Groups from the cache, then the events that only these candidates search for.
        lookup, history_slice = (
            self._group_lookup(request.user),
            self.model.metadata["history_slice"],
        )
        if ENCODE_RETRIEVED not in self.model.inputs:
            return lookup
        keys: Sequence[int] | np.ndarray = []
        if history_slice:
            keys = _candidate_keys(self.model, history_slice["key"], request.candidates)
        events = self.engine.lookup(request.user, keys)
        inputs = self.model.features(HISTORY, events, ENCODE_RETRIEVED)
        inputs |= self.model.user_features(request.user_fields, ENCODE_RETRIEVED)
        # Of these candidates alone: not worth a place in a cache, nor a way through numpy.
        state = {**lookup.state, **self.model.call(ENCODE_RETRIEVED, inputs)}
        return lookup._replace(state=state, events=len(events[ITEM]))

    def group_state(self, user: int) -> State:
        """The state of a user's groups, cached unless model or user have changed since."""
        return self._group_lookup(user).state

    def _group_lookup(self, user: int) -> Lookup:
        version = self.engine.version(user)
        state = self.cache.read(user, version)
        if state is not None:
            return Lookup(state, "groups", is_cached=True)
        (version,), inputs = self.inputs([user])
        state = self.model.run(ENCODE_GROUPS, inputs)
        if version:  # nothing is cached for unknown users: anybody can make up ids
            self.cache.write({user: (version, state)})
        return Lookup(state, "groups", is_known=version != 0)

    def inputs(self, users: Sequence[int]) -> tuple[list[int], Arrays]:
        """Versions of users' groups, and inputs of `encode_groups` [users, events] of these versions."""
        spec, versions, rows = self.model.metadata["groups"], [], []
        for user in users:
            version, events = self.engine.groups(user, spec["groups"], spec["events"])
            # Each event comes with the statistics of its group, [1, events].
            row = self.model.features(HISTORY, events, ENCODE_GROUPS)
            for name in spec["statistics"]:
                row[total_feature(name)] = pad_row(events[TOTAL + name], np.int32)
            versions.append(version)
            rows.append(row)
        return versions, {name: stack_padded([row[name][0] for row in rows]) for name in rows[0]}


class StoredStates(StateSource):
    """Reads states that were encoded ahead of requests; users without one have no events.

    Args:
      model: the exported version.
      store: where the states are; its own namespace does not matter.
      histories: encodes the empty history.
    """

    def __init__(self, model: BundleModel, store: StateStore, histories: HistoryStates):
        self._model, self._histories = model, histories
        self._states = UserStates(store, model.metadata)

    def state(self, request: Request) -> Lookup:
        _check_is_of_now(request, self._model)
        (stored_state,) = self._states.read([request.user])
        if stored_state is not None:
            # A stored state has no axis of users.
            state = {name: array[np.newaxis] for name, array in stored_state.arrays.items()}
            newest = stored_state.progress.newest or None
            return Lookup(state, "store", is_cached=True, newest=newest)
        # A user of whom nothing is stored has no events and an unknown profile.
        unknown = {field.name: unknown_value(field) for field in self._model.schema.user_fields}
        profile = {**unknown, **request.user_fields}
        no_events: Values = {field.name: [] for field in self._model.schema.with_role(HISTORY)}
        lookup = self._histories.look_up(no_events, profile)
        return lookup._replace(source="store", is_known=False)


def _candidate_keys(model: BundleModel, key: str, candidates: Values) -> np.ndarray:
    """The different keys of candidates, rising."""
    return np.unique(model.column(CANDIDATE, model.schema.field(key), candidates))


def _check_is_of_now(request: Request, model: BundleModel) -> None:
    """Raises ValueError where a request is of an earlier time, which a state does not remember."""
    if request.before is not None:
        raise ValueError(
            f"model {model.name!r} has states of all that users did until now; leave `before` out, or "
            "give the history of that time to rank."
        )


def _check_index(index: BehaviorIndex | BehaviorEngine, model: BundleModel) -> None:
    """Raises ValueError where an index cannot stand in for the histories of a model."""
    history_slice, groups = model.metadata["history_slice"], model.metadata["groups"]
    if history_slice is None and groups is None:
        raise ValueError(
            f"model {model.name!r} reads whole histories, which a behavior index does not "
            "hold; give histories to rank, or export a model with hard search."
        )
    for name, value, actual in (
        ("schema", model.schema.fingerprint(), index.metadata.schema),
        ("key", (history_slice or groups)["key"], index.metadata.key),
    ):
        if value != actual:
            raise ValueError(
                f"model {model.name!r} needs a behavior index of {name} {value!r}; this one "
                f"has {actual!r}. Build one with python -m experiments.build_index."
            )
    length = max(
        history_slice["per_key"] if history_slice else 0, groups["events"] if groups else 0
    )
    if index.metadata.max_events_per_key < length:
        raise ValueError(
            f"model {model.name!r} may read the newest {length} events under a key; this index holds "
            f"{index.metadata.max_events_per_key}. Build it with --max_events_per_key={length} or more."
        )
