"""Ranks candidates in process with an exported version: ids in, probabilities out."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from dgin_tf.numeric_features import bucket_ids, encode_numbers
from dgin_tf.schema import CANDIDATE, ITEM, UNKNOWN_ID, USER_ID, Field
from dgin_tf.serving.export.signatures import PROBABILITIES, SCORE_CANDIDATES
from dgin_tf.serving.export.vocabularies import user_key
from dgin_tf.serving.online.bundle_model import BundleModel, Profile, Values, by_field
from dgin_tf.serving.online.state_sources import (
    GroupStates,
    HistoryStates,
    IndexStates,
    Request,
    State,
    StateSource,
    StoredStates,
)
from dgin_tf.stores.behavior_engine import BehaviorEngine
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.state_store import InMemoryStore, StateStore


class Ranker:
    """Scores candidates for users, by their history or by their id.

    By id, the state comes from `index` (which for a model with groups is a `BehaviorEngine`, and `states`
    caches its groups), or without an index from `states`, as the User Interest Center or `encode_users`
    stored them.

    Args:
      model: an exported version, or where it is: base path of several versions, or one's directory.
      index: histories on disk; None where requests bring histories or states are stored.
      states: stored states; None for none, and with a `BehaviorEngine` for a cache in memory.
      cached_states: how many states of histories to cache in memory.

    Raises:
      FileNotFoundError: there is no bundle.
      ValueError: the bundle is not one of ours, or the index does not hold what the model reads.
    """

    def __init__(
        self,
        model: BundleModel | str | os.PathLike,
        index: BehaviorIndex | BehaviorEngine | None = None,
        states: StateStore | None = None,
        cached_states: int = 10_000,
    ):
        self.model = model if isinstance(model, BundleModel) else BundleModel(model)
        self.histories = HistoryStates(self.model, cached_states)
        self.users: StateSource | None = None
        if index is not None and self.model.metadata["groups"]:
            self.users = GroupStates(self.model, index, states or InMemoryStore())
        elif index is not None:
            self.users = IndexStates(self.model, index, self.histories)
        elif states is not None:
            self.users = StoredStates(self.model, states, self.histories)

    def rank(
        self,
        user: int | Values,
        candidates: Values,
        profile: Profile | None = None,
        before: int | None = None,
        ties: int = 0,
    ) -> np.ndarray:
        """Probability of a click for each candidate, float32 [candidates].

        Args:
          user: dense user id, or a history of dense ids, see `BundleModel`. Of a history the newest
            `max_history` events count.
          candidates: dense ids.
          profile: one value of each field of the user and of the request's context that the model reads;
            the user's id is one of them where `user` is a history.
          before, ties: by a user's id, only events before this second count, and the first `ties` of it.

        Raises:
          StoreError: a store cannot be read.
          ValueError: a field that the model reads is missing, fields differ in length, the ranker has
            no source of states by id, or its source knows no earlier time than now.
        """
        if not isinstance(user, int | np.integer):
            return self.score(self.histories.encode(user, profile), candidates, profile)
        if self.users is None:
            raise ValueError(
                "ranking by a user's id needs an index or stored states; give the ranker one of them, "
                "or rank by a history."
            )
        request = Request(int(user), candidates, profile, before, ties)
        return self.score(self.users.state(request), candidates, profile)

    def score(self, state: State, candidates: Values, context: Profile | None = None) -> np.ndarray:
        """Probabilities [candidates] under one user's state, and in one context of a request."""
        features = self.model.features(CANDIDATE, candidates, SCORE_CANDIDATES)
        features |= self.model.context_features(context, SCORE_CANDIDATES)
        probabilities = self.model.run(SCORE_CANDIDATES, {**state, **features})[PROBABILITIES]
        # An empty list was padded to one candidate.
        return probabilities[0, : np.size(by_field(candidates)[ITEM])]


class RawRanker:
    """A ranker for ids as in the log; unknown ones count as out of vocabulary.

    Args:
      ranker: takes the dense ids.
    """

    def __init__(self, ranker: Ranker):
        self._ranker, self._model = ranker, ranker.model

    def rank(
        self,
        user: str | int | Values,
        candidates: Values,
        profile: Profile | None = None,
        before: int | None = None,
        ties: int = 0,
    ) -> np.ndarray:
        """Ranks as `Ranker.rank` does, for raw ids; numeric features are in the log's unit, NaN where unknown.

        Raises:
          ValueError: as there, or the bundle has no vocabulary for a field.
        """
        if isinstance(user, str | int | np.integer):
            source: int | Values = user_key(str(user), self._model.vocabularies[USER_ID])
        else:
            source = self.to_ids(user)
        return self._ranker.rank(
            source, self.to_ids(candidates), self.to_ids(profile or {}), before, ties
        )

    def to_ids(self, values: Values) -> dict[str, Any]:
        """Field -> dense ids for field -> raw values, and numeric features in their integer form.

        Fields that the model does not read are left out: the bundle need not have vocabularies for them.

        Raises:
          KeyError: a field is unknown.
          ValueError: the bundle has no vocabulary for a field that the model reads.
        """
        fields = {name: self._model.schema.field(name) for name in by_field(values)}
        return {
            name: self._to_dense(fields[name], raw)
            for name, raw in by_field(values).items()
            if self._model.reads(fields[name])
        }

    def _to_dense(self, field: Field, raw: Any) -> Any:
        if field.is_numeric:
            return encode_numbers(raw)
        if field.is_standardized or field.boundaries:
            numbers = np.array(raw, np.float64)  # None is NaN
            return bucket_ids(numbers, field.boundaries) if field.boundaries else numbers
        if not field.is_categorical:
            return raw  # seconds
        vocabulary: Mapping[str, int] = self._model.vocabularies[field.vocabulary]

        def ids(values: Any) -> Any:
            if isinstance(values, list | tuple | np.ndarray):
                return [ids(value) for value in values]  # of different lengths, maybe
            return vocabulary.get(str(values), UNKNOWN_ID)

        return np.array(ids(raw), field.dtype) if field.values == 1 else ids(raw)
