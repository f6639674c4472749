"""Ranks candidates in process with an exported bundle: ids in, probabilities out.

The bundle is loaded by plain TensorFlow. What a caller does not know about an item (its category)
comes from the bundle's catalogue, and raw ids are translated by the bundle's vocabularies. A history
is encoded once: its state is kept under a digest of the very ids it was made from, so that a state is
never stale, and a second request of the same person pays for scoring alone.

Where a model searches a history by an attribute of the candidates (SIM's hard search), a behavior
index stands in for the history: a request names the person, and what its candidates can find is looked
up on disk, however long the history is.

Where a model makes groups of a history (DGIN), the engine that knows the groups' statistics stands in
for it. What a person's groups mean to the model is kept in a store until the person does something or
the model is replaced; a request pays for reading it and for the candidates' own events.
"""

import collections
import hashlib
import os
import pathlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dgin_tf.inputs.negatives import ITEM
from dgin_tf.numeric_features import encode_numbers
from dgin_tf.records import load_catalogue, stack_padded
from dgin_tf.schema import (
    CANDIDATE,
    HISTORY,
    UNKNOWN_ID,
    USER,
    Field,
    Schema,
    feature_name,
)
from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.serving.export.signatures import (
    ENCODE_FOUND,
    ENCODE_GROUPS,
    ENCODE_USER,
    PROBABILITIES,
    SCORE_CANDIDATES,
    UPDATE_USER,
    signature_specs,
    total_feature,
)
from dgin_tf.serving.export.versions import ASSETS, open_bundle
from dgin_tf.serving.export.vocabularies import Vocabularies, person_of
from dgin_tf.serving.online.cached_groups import CachedGroups
from dgin_tf.stores.behavior_engine import TOTAL, BehaviorEngine
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.state_store import InMemoryStore, StateStore

Arrays = dict[str, np.ndarray]
Values = Mapping[str, Any] | Sequence[Any] | np.ndarray


class Ranker:
    """Scores candidates for people with a bundle's newest version.

    Histories, candidates and users are mappings of field name -> values (`{"item_id": [...],
    "timestamp": [...]}`); a bare sequence means item ids. Events are oldest first. Fields that the
    catalogue knows need not be given.

    Args:
      bundle: base path of the exported versions, or the directory of one version.
      schema: what the caller's ids follow; checked against the bundle's. None to go unchecked.
      cached_states: how many people's states to keep; the least recently used goes first.
      index: what people did, for `rank_person`, an engine for models that keep groups; None where
        callers bring histories.
      signatures: those of the version, where they are loaded already; None to load them.
      states: what is kept of people: by the User Interest Center, for `rank_stored`, or of their
        groups, which without it are kept in memory.

    Raises:
      FileNotFoundError: there is no bundle.
      ValueError: the bundle was exported under another schema, or is none of ours; or the index does
        not hold what the model searches.
    """

    def __init__(
        self,
        bundle: str | os.PathLike,
        schema: Schema | None = None,
        cached_states: int = 10_000,
        index: BehaviorIndex | BehaviorEngine | None = None,
        signatures: Mapping[str, Any] | None = None,
        states: StateStore | None = None,
    ):
        self.version_dir, self.metadata = open_bundle(bundle)
        self.schema = Schema.load(self.version_dir / ASSETS)
        if schema is not None and schema.fingerprint() != self.schema.fingerprint():
            raise ValueError(
                f"expected a bundle of schema {schema.fingerprint()}; the one in "
                f"{self.version_dir} was exported under {self.schema.fingerprint()}. Export the model "
                "that was trained on these data."
            )
        self._index = index
        if index is not None:
            _check_index(index, self.metadata, self.schema)
        self._assets = pathlib.Path(self.metadata["assets_dir"] or self.version_dir / ASSETS)
        self._catalogue = load_catalogue(self._assets)
        if signatures is None:
            signatures = tf.saved_model.load(os.fspath(self.version_dir)).signatures
        self._signatures = signatures
        self._inputs = {n: signature_specs(f)[0] for n, f in signatures.items()}
        self._vocabularies = Vocabularies(self._assets)
        self._states = _StateCache(cached_states)
        self._stored = None if states is None else UserStates(states, self.metadata)
        self._kept = CachedGroups(states or InMemoryStore(), self.metadata)

    def rank(self, history: Values, candidates: Values, user: Values = ()) -> np.ndarray:
        """Probability of a click for each candidate, float32 [candidates].

        Args:
          history: dense ids of past events, oldest first; the newest `max_history` count.
          candidates: dense ids.
          user: one value of each user field that the model reads.

        Raises:
          ValueError: a field that the model reads is missing, or fields differ in length.
        """
        return self.score(self.encode(history, user), candidates)

    def rank_person(
        self,
        person: int,
        candidates: Values,
        user: Values = (),
        before: int | None = None,
        ties: int = 0,
    ) -> np.ndarray:
        """As `rank`, with the history that the behavior index holds, all of it.

        Args:
          person: dense user id; somebody unknown has an empty history.
          candidates: dense ids.
          user: one value of each user field that the model reads, other than the user's id.
          before: where given, only events before this second count.
          ties: how many events of that very second count too; see `BehaviorIndex.lookup`.

        Raises:
          ValueError: the ranker has no index, groups are kept of now and `before` is given, or as for
            `rank`.
        """
        if self._index is None:
            raise ValueError("rank_person needs an index; give the ranker one, or use rank.")
        user = {"user_id": person, **_by_field(user)}
        if self.metadata.get("kept"):
            if before is not None:
                raise ValueError(
                    f"model {self.metadata['name']!r} keeps groups of all that people did until now; "
                    "leave `before` out, or give the history of that time to rank."
                )
            return self._rank_by_groups(self._index, person, candidates, user)
        excerpt = self.metadata["excerpt"]
        wanted = np.unique(self._values(CANDIDATE, self.schema.field(excerpt["key"]), candidates))
        events = self._index.excerpt(person, wanted, excerpt["newest"], before, ties)
        return self.score(self._encode(events, user, ENCODE_USER, whole=True), candidates)

    def _rank_by_groups(
        self,
        index: BehaviorIndex | BehaviorEngine,
        person: int,
        candidates: Values,
        user: Values,
    ) -> np.ndarray:
        """Scores by the kept groups and, where the model has a target module, the candidates' events."""
        groups, excerpt = self.kept_state(person), self.metadata["excerpt"]
        if ENCODE_FOUND not in self._inputs:
            return self.score(groups, candidates)
        keys: Any = []
        if excerpt:
            keys = np.unique(self._values(CANDIDATE, self.schema.field(excerpt["key"]), candidates))
        features = self._features(HISTORY, index.lookup(person, keys), ENCODE_FOUND, whole=True)
        # Of these candidates alone: not worth a place in the cache, nor a way through numpy.
        found = self._call(ENCODE_FOUND, {**features, **self._user(user, ENCODE_FOUND)})
        return self.score({**groups, **found}, candidates)

    def kept_state(self, person: int) -> Arrays:
        """The state of a person's groups, from the store unless model or person have changed since."""
        engine, kept = self._engine_of_groups()
        state = self._kept.read(person, engine.version(person))
        if state is None:
            version, features = self._groups(person, engine, kept)
            state = self._run(ENCODE_GROUPS, features)
            if version:  # of somebody known
                self._kept.write({person: (version, state)})
        return state

    def keep_states(self, people: Sequence[int]) -> int:
        """Makes those states of some people's groups that `kept_state` would have to make, in one call.

        Called for everybody after a model update, it fills the store before requests come.

        Returns:
          How many were made.
        """
        engine, kept = self._engine_of_groups()
        made = {
            person: self._groups(person, engine, kept)
            for person in people
            if self._kept.read(person, engine.version(person)) is None
        }
        made = {
            person: (version, features) for person, (version, features) in made.items() if version
        }
        if not made:
            return 0
        rows = [features for _, features in made.values()]
        features = {name: stack_padded([row[name][0] for row in rows]) for name in rows[0]}
        states = self._run(ENCODE_GROUPS, features)
        self._kept.write(
            {
                person: (version, {name: array[row : row + 1] for name, array in states.items()})
                for row, (person, (version, _)) in enumerate(made.items())
            }
        )
        return len(made)

    def _groups(
        self, person: int, engine: BehaviorEngine, kept: Mapping[str, Any]
    ) -> tuple[int, Arrays]:
        """What a person's groups are made of, [1, events], and its version, both of one moment."""
        version, events = engine.groups(person, kept["groups"], kept["events"])
        features = self._features(HISTORY, events, ENCODE_GROUPS, whole=True)
        for name in kept["statistics"]:
            features[total_feature(name)] = _padded(events[TOTAL + name], np.int32)
        return version, features

    def _engine_of_groups(self) -> tuple[BehaviorEngine, Mapping[str, Any]]:
        """The engine, and what the model keeps."""
        engine, kept = self._index, self.metadata.get("kept")
        if not kept or not isinstance(engine, BehaviorEngine):
            raise ValueError(
                "the states of groups are kept with an engine, for a model that has groups; give such "
                "an export and a BehaviorEngine as index."
            )
        return engine, kept

    def rank_stored(self, person: int | str, candidates: Values) -> np.ndarray:
        """As `rank`, under the state that the User Interest Center keeps of a person.

        Args:
          person: dense user id, or as a text the raw one.
          candidates: dense ids.

        Raises:
          ValueError: the ranker has no states, or another version of the model wrote the state.
          StoreError: the store cannot be read.
        """
        if self._stored is None:
            raise ValueError("rank_stored needs states; give the ranker their store, or use rank.")
        if isinstance(person, str):
            known = self._vocabularies["user_id"]
            number, user_id = person_of(person, known), known.get(person, UNKNOWN_ID)
        else:
            number = user_id = person
        (found,) = self._stored.read([number])
        if found is not None:
            state = {name: array[np.newaxis] for name, array in found.arrays.items()}
        else:  # nobody has seen this person do anything
            user = {field.name: UNKNOWN_ID for field in self.schema.user_fields}
            state = self.encode(_no_events(self.schema), {**user, "user_id": user_id})
        return self.score(state, candidates)

    def rank_raw(self, history: Values, candidates: Values, user: Values = ()) -> np.ndarray:
        """As `rank`, with ids as the log has them; unknown ones count as out-of-vocabulary."""
        return self.rank(self.to_ids(history), self.to_ids(candidates), self.to_ids(user))

    def encode(self, history: Values, user: Values = ()) -> Arrays:
        """The state of one person, name -> [1, ...]; from the cache where these ids were seen."""
        return self._encode(history, user, ENCODE_USER)

    def _encode(self, history: Values, user: Values, signature: str, whole: bool = False) -> Arrays:
        features = self._features(HISTORY, history, signature, whole)
        inputs = {**features, **self._user(user, signature)}
        digest = hashlib.blake2b(signature.encode(), digest_size=16)
        for name in sorted(inputs):
            digest.update(f"{name}{inputs[name].shape}".encode() + inputs[name].tobytes())
        state = self._states.get(digest.digest())
        if state is None:
            state = self._run(signature, inputs)
            self._states.put(digest.digest(), state)
        return state

    def score(self, state: Mapping[str, Any], candidates: Values) -> np.ndarray:
        """Probabilities [candidates] under a state that `encode` or `update` gave."""
        features = self._features(CANDIDATE, candidates, SCORE_CANDIDATES)
        count = np.size(_by_field(candidates)[ITEM])
        return self._run(SCORE_CANDIDATES, {**state, **features})[PROBABILITIES][0, :count]

    def update(self, state: Mapping[str, np.ndarray], events: Values) -> Arrays:
        """Folds newer events into a state.

        Raises:
          ValueError: the model's state is not incremental; encode the longer history instead.
        """
        if UPDATE_USER not in self._inputs:
            raise ValueError(
                f"model {self.metadata['name']!r} has no {UPDATE_USER}; encode the whole history."
            )
        return self._run(UPDATE_USER, {**state, **self._features(HISTORY, events, UPDATE_USER)})

    def to_ids(self, values: Values) -> dict[str, Any]:
        """Field -> dense ids for field -> raw values, and amounts as they are stored.

        Seconds stay as they are; amounts are in the log's unit, NaN where unknown.

        Raises:
          ValueError: a field is unknown, or the bundle has no vocabulary for it.
        """
        return {name: self._dense(name, raw) for name, raw in _by_field(values).items()}

    def _dense(self, name, raw):
        field = self.schema.field(name)
        if field.is_numeric:
            return encode_numbers(raw)
        if not field.is_categorical:
            return raw
        known = self._vocabularies[field.vocabulary]
        if np.ndim(raw) == 0:
            return known.get(str(raw), UNKNOWN_ID)
        return np.array([known.get(str(value), UNKNOWN_ID) for value in raw], field.dtype)

    def _features(self, role: str, values: Values, signature: str, whole: bool = False) -> Arrays:
        """A role's inputs of a signature, [1, length], missing ones from the catalogue.

        A history is cut to the newest events that training saw, unless it is wanted whole.
        """
        features = {}
        limit = self.metadata["max_history"] if role == HISTORY and not whole else None
        for field in self.schema.with_role(role):
            name = feature_name(role, field)
            if name in self._inputs[signature]:
                value = self._values(role, field, values)
                value = value[max(len(value) - limit, 0) :] if limit else value
                features[name] = _padded(value, field.dtype)
        return features

    def _values(self, role: str, field: Field, values: Values) -> np.ndarray:
        """One field of a role, given or from the catalogue; unknown ids become the unknown id."""
        given = {name: np.asarray(value).reshape(-1) for name, value in _by_field(values).items()}
        if ITEM not in given:
            raise ValueError(
                f"expected {ITEM} among the fields of the {role}; got {sorted(given)}."
            )
        items = given[ITEM].astype(np.int64)
        if field.name in given:
            value = given[field.name]
            if len(value) != len(items):
                raise ValueError(
                    f"expected one {field.name} for each of {len(items)} items of the {role}; got "
                    f"{len(value)}."
                )
        elif field.name in self._catalogue:
            known = (items >= 0) & (items < len(self._catalogue[field.name]))
            value = self._catalogue[field.name][np.where(known, items, UNKNOWN_ID)]
        else:
            raise ValueError(
                f"model {self.metadata['name']!r} reads {field.name} of the {role}, which the "
                f"catalogue does not know; give it beside {ITEM}."
            )
        if field.is_categorical:
            size = self.schema.vocabulary_sizes[field.vocabulary]
            value = np.where((value >= 0) & (value < size), value, UNKNOWN_ID)
        return value

    def _user(self, user: Values, signature: str) -> Arrays:
        given = _by_field(user) if len(user) else {}
        features = {}
        for field in self.schema.user_fields:
            name = feature_name(USER, field)
            if name in self._inputs[signature]:
                if field.name not in given:
                    raise ValueError(
                        f"model {self.metadata['name']!r} reads {field.name} of the user; give it."
                    )
                features[name] = np.asarray(given[field.name], field.dtype).reshape(1)
        return features

    def _run(self, signature: str, inputs: Mapping[str, Any]) -> Arrays:
        outputs = self._call(signature, inputs)
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def _call(self, signature: str, inputs: Mapping[str, Any]) -> Mapping[str, tf.Tensor]:
        """What a signature gives for arrays, or for tensors that another one gave."""
        specs = self._inputs[signature]
        tensors = {
            name: tf.convert_to_tensor(inputs[name], spec.dtype) for name, spec in specs.items()
        }
        return self._signatures[signature](**tensors)


def _padded(values: np.ndarray, dtype: Any) -> np.ndarray:
    """[length] -> [1, length], with one column of padding for an empty list."""
    row = np.zeros((1, max(len(values), 1)), dtype)  # not every operation takes an empty axis
    row[0, : len(values)] = values
    return row


def _check_index(
    index: BehaviorIndex | BehaviorEngine, metadata: Mapping[str, Any], schema: Schema
) -> None:
    """Raises ValueError where an index cannot stand in for the histories of a model."""
    excerpt, kept, found = metadata.get("excerpt"), metadata.get("kept"), index.metadata
    if excerpt is None and kept is None:
        raise ValueError(
            f"model {metadata['name']!r} reads whole histories, which a behavior index does not "
            "hold; give histories to rank, or export a model with hard search."
        )
    needed = max(excerpt["per_key"] if excerpt else 0, kept["events"] if kept else 0)
    for name, wanted, got in (
        ("schema", schema.fingerprint(), found.schema),
        ("key", (excerpt or kept or {})["key"], found.key),
    ):
        if wanted != got:
            raise ValueError(
                f"model {metadata['name']!r} needs a behavior index of {name} {wanted!r}; this one "
                f"has {got!r}. Build one with python -m experiments.build_index."
            )
    if found.max_events_per_key < needed:
        raise ValueError(
            f"model {metadata['name']!r} may read the newest {needed} events under a key; "
            f"this index keeps {found.max_events_per_key}. Build it with --max_events_per_key="
            f"{needed} or more."
        )
    if not kept:
        return
    if not isinstance(index, BehaviorEngine):
        raise ValueError(
            f"model {metadata['name']!r} keeps groups, whose statistics an index alone has not; give a "
            "BehaviorEngine of index and totals."
        )
    if missing := sorted(set(kept["statistics"]) - set(index.totals.names)):
        raise ValueError(
            f"model {metadata['name']!r} describes groups by {missing}, which these totals do not "
            f"count; they have {index.totals.names}. Name the fields in `distinct`."
        )


def _no_events(schema: Schema) -> dict[str, list[int]]:
    return {field.name: [] for field in schema.with_role(HISTORY)}


def _by_field(values: Values) -> Mapping[str, Any]:
    return values if isinstance(values, Mapping) else {ITEM: values}


class _StateCache:
    """The most recently used states, for several threads."""

    def __init__(self, size: int):
        if size < 0:
            raise ValueError(f"cached_states must not be negative; got {size}.")
        self._size = size
        self._states: collections.OrderedDict[bytes, Arrays] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Arrays | None:
        with self._lock:
            if key in self._states:
                self._states.move_to_end(key)
            return self._states.get(key)

    def put(self, key: bytes, state: Arrays) -> None:
        with self._lock:
            self._states[key] = state
            while len(self._states) > self._size:
                self._states.popitem(last=False)
