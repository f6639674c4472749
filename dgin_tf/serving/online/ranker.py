"""Ranks candidates with an exported version: ids in, probabilities out, and a report of what was done."""

import dataclasses
import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dgin_tf.numeric_features import bucket_ids, encode_numbers
from dgin_tf.schema import CANDIDATE, ITEM, PADDING_ID, UNKNOWN_ID, USER_ID, Field, feature_name
from dgin_tf.serving.export.signatures import PROBABILITIES, SCORE_CANDIDATES, SCORE_MASK
from dgin_tf.serving.export.vocabularies import user_key
from dgin_tf.serving.online.bundle_model import BundleModel, Profile, Values, by_field
from dgin_tf.serving.online.state_sources import (
    GroupStates,
    HistoryStates,
    IndexStates,
    Lookup,
    Request,
    State,
    StateSource,
    StoredStates,
)
from dgin_tf.stores.behavior_engine import BehaviorEngine
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.state_store import InMemoryStore, StateStore

ENCODE, SCORE = "state", "score"  # parts of a request, in reports


@dataclasses.dataclass(frozen=True)
class Report:
    """What was done for a request.

    Attributes:
      lookup: the state, and facts about where it came from.
      state_age: seconds since the newest event in the state; None where its time is not known.
      unknown_candidates: candidates that are out of vocabulary.
      absent_candidates: candidates that are padding; their probability is 0.
      seconds: part of the request -> its time.
    """

    lookup: Lookup
    state_age: float | None
    unknown_candidates: int
    absent_candidates: int
    seconds: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Facts as plain JSON values."""
        facts = self.lookup._asdict()
        del facts["state"], facts["newest"]
        return {
            **facts,
            "state_age_seconds": self.state_age,
            "unknown_candidates": self.unknown_candidates,
            "absent_candidates": self.absent_candidates,
            "milliseconds": {part: round(1e3 * value, 3) for part, value in self.seconds.items()},
        }


class Ranking(NamedTuple):
    """Scores of a request.

    Attributes:
      probabilities: of a click for each candidate, float32 [candidates]; 0 for padding.
      mask: true for real candidates, bool [candidates].
      report: what was done.
    """

    probabilities: np.ndarray
    mask: np.ndarray
    report: Report


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
        context: Profile | None = None,
        before: int | None = None,
        ties: int = 0,
    ) -> np.ndarray:
        """Probability of a click for each candidate, float32 [candidates].

        Args:
          user: dense user id, or a history of dense ids, see `BundleModel`. Of a history the newest
            `max_history` events count.
          candidates: dense ids. An item id of 0 is no candidate, and has the probability 0.
          context: one value of each field of the user and of the request that the model reads, and of each
            field that is the same for all candidates, such as the request's `timestamp`. The user's id is
            one of them where `user` is a history.
          before, ties: by a user's id, only events before this second count, and the first `ties` of it.

        Raises:
          StoreError: a store cannot be read.
          ValueError: a field that the model reads is missing, fields differ in length, the ranker has
            no source of states by id, or its source knows no earlier time than now.
        """
        return self.answer(user, candidates, context, before, ties).probabilities

    def answer(
        self,
        user: int | Values,
        candidates: Values,
        context: Profile | None = None,
        before: int | None = None,
        ties: int = 0,
    ) -> Ranking:
        """Ranks as `rank` does; the answer says what was done too."""
        start = time.perf_counter()
        candidates, profile, of_request = self._divided(candidates, context or {})
        if not isinstance(user, int | np.integer):
            lookup = self.histories.look_up(user, profile)
        elif self.users is None:
            raise ValueError(
                "ranking by a user's id needs an index or stored states; give the ranker one of them, "
                "or rank by a history."
            )
        else:
            lookup = self.users.state(Request(int(user), candidates, profile, before, ties))
        middle = time.perf_counter()
        probabilities, mask = self._scores(lookup.state, candidates, of_request)
        items = np.asarray(candidates[ITEM]).reshape(-1)
        report = Report(
            lookup,
            None if lookup.newest is None else max(time.time() - lookup.newest, 0.0),
            int(np.count_nonzero(items == UNKNOWN_ID)),
            int(np.count_nonzero(~mask)),
            {ENCODE: middle - start, SCORE: time.perf_counter() - middle},
        )
        return Ranking(probabilities, mask, report)

    def score(self, state: State, candidates: Values, context: Profile | None = None) -> np.ndarray:
        """Probabilities [candidates] under one user's state, and in one context of a request."""
        return self._scores(state, candidates, context)[0]

    def _scores(
        self, state: State, candidates: Values, context: Profile | None
    ) -> tuple[np.ndarray, np.ndarray]:
        features = self.model.features(CANDIDATE, candidates, SCORE_CANDIDATES)
        features |= self.model.context_features(context, SCORE_CANDIDATES)
        scores = self.model.run(SCORE_CANDIDATES, {**state, **features})
        count = np.size(by_field(candidates)[ITEM])
        # An empty list was padded to one candidate, and a short one to its neighbors' length.
        probabilities = scores[PROBABILITIES][0, :count]
        if SCORE_MASK in scores:
            return probabilities, scores[SCORE_MASK][0, :count]
        # A bundle of an earlier version does not say what padding is.
        mask = (
            features[feature_name(CANDIDATE, self.model.schema.field(ITEM))][0, :count]
            != PADDING_ID
        )
        return np.where(mask, probabilities, np.float32(0.0)), mask

    def _divided(
        self, candidates: Values, context: Profile
    ) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]:
        """Candidates with what the context says of all of them, and its parts of the user and of the request."""
        columns = dict(by_field(candidates))
        if not context:
            return columns, context, context
        schema = self.model.schema
        of_user, of_request = (
            {field.name: context[field.name] for field in fields if field.name in context}
            for fields in (schema.user_fields, schema.context_fields)
        )
        shared = {
            field.name: context[field.name]
            for field in self.model.schema.with_role(CANDIDATE)
            if field.name in context and field.name not in columns
        }
        for name, value in shared.items():
            columns[name] = np.full(np.size(columns.get(ITEM, ())), value)
        known = {*of_user, *of_request, *shared, *columns}
        if unknown := sorted(set(context) - known):
            raise ValueError(
                f"{unknown} are no fields of users, requests or candidates in this schema."
            )
        return columns, of_user, of_request


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
        context: Profile | None = None,
        before: int | None = None,
        ties: int = 0,
    ) -> np.ndarray:
        """Ranks as `Ranker.rank` does, for raw ids; numeric features are in the log's unit, NaN where unknown.

        Raises:
          ValueError: as there, or the bundle has no vocabulary for a field.
        """
        return self.answer(user, candidates, context, before, ties).probabilities

    def answer(
        self,
        user: str | int | Values,
        candidates: Values,
        context: Profile | None = None,
        before: int | None = None,
        ties: int = 0,
    ) -> Ranking:
        """Ranks as `rank` does; the answer says what was done too."""
        if isinstance(user, str | int | np.integer):
            source: int | Values = user_key(str(user), self._model.vocabularies[USER_ID])
        else:
            source = self.to_ids(user)
        return self._ranker.answer(
            source, self.to_ids(candidates), self.to_ids(context or {}), before, ties
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
