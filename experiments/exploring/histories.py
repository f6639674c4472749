"""Users of a split with their histories and candidates, by the ids of the log."""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence

import numpy as np

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.inspection.traces import Names
from dgin_tf.records import LABEL, POSITION, Arrays, decode_record, read_records
from dgin_tf.schema import (
    BEHAVIOR_TYPE,
    CANDIDATE,
    CANDIDATE_MASK,
    FIRST_ID,
    HISTORY,
    HISTORY_MASK,
    ITEM,
    PREFIX,
    TIMESTAMP,
    UNKNOWN_ID,
    USER,
    USER_ID,
    Field,
    feature_name,
)

MOST_CANDIDATES = 200
MOST_EVENTS = 2_000  # of a typed history
NO_LABEL = -1
ORDERS = {  # by which users are listed -> what it is called
    "events": "most events first",
    "last": "most recent first",
    "user": "by id",
}
_HOUR = 3600  # seconds between typed events
_HIST_ITEM, _CAND_ITEM = PREFIX[HISTORY] + ITEM, PREFIX[CANDIDATE] + ITEM
_HIST_TIME, _CAND_TIME = PREFIX[HISTORY] + TIMESTAMP, PREFIX[CANDIDATE] + TIMESTAMP


class UnknownIdError(LookupError):
    """An id that the data do not have; its text is a sentence for the person who typed it."""


class QueryError(ValueError):
    """A query that cannot be answered whatever the data are; its text is a sentence for who asked."""


@dataclasses.dataclass(frozen=True)
class Query:
    """Whose history, and which candidates: what identifies a case, and nothing of a model.

    Attributes:
      user: raw id of a user of the split; empty for a typed history.
      history: raw ids of items, oldest first, in the place of a user.
      candidates: raw ids of items; () for the user's own candidates and popular items.
      position: number of events before the user's target; None for the last target.
      popular: how many popular items are added to the user's own candidates.
    """

    user: str = ""
    history: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    position: int | None = None
    popular: int = 10


@dataclasses.dataclass(frozen=True)
class Event:
    """A past event.

    Attributes:
      name: title of the item, or its raw id.
      category: names of the ids that events and candidates have beside the item's, such as `category 7`.
      details: names of the ids that events alone have, such as `city 3`.
      behavior_type: counted from 0.
      seconds: time; None where the data have none.
    """

    name: str
    category: str
    details: str
    behavior_type: int
    seconds: int | None


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An item that is ranked.

    Attributes:
      raw_id: of the item.
      name: its title, or its raw id.
      category: as an event has it.
      label: 1 for clicked, 0 for not clicked, `NO_LABEL` for unknown.
    """

    raw_id: str
    name: str
    category: str
    label: int


@dataclasses.dataclass(frozen=True)
class Case:
    """One history against some candidates.

    Attributes:
      features: a batch of one row without padding, and without masks and labels.
      events: oldest first.
      candidates: the user's own ones first.
      positions: numbers of events before each of the user's targets; () for a typed history.
      profile: names of the user's own fields, such as `gender F`.
    """

    features: Arrays
    events: tuple[Event, ...]
    candidates: tuple[Candidate, ...]
    positions: tuple[int, ...] = ()
    profile: tuple[str, ...] = ()

    def place_of(self, item: str) -> int:
        """Place of a candidate by its raw id; raises UnknownIdError where it is none."""
        for place, candidate in enumerate(self.candidates):
            if candidate.raw_id == item:
                return place
        raise UnknownIdError(f"Item {item!r} is not among the candidates; choose one of the list.")

    def batch(self, events: np.ndarray | slice, candidates: np.ndarray | slice) -> Arrays:
        """A batch of one row with these of the events and candidates; padded to one event where it has none."""
        batch = {}
        for name, values in self.features.items():
            if name.startswith(PREFIX[HISTORY]):
                chosen = values[0, events]
                batch[name] = (chosen if len(chosen) else np.zeros(1, values.dtype))[np.newaxis]
            else:
                is_candidate = name.startswith(PREFIX[CANDIDATE])
                batch[name] = values[:, candidates] if is_candidate else values
        labels = np.array([c.label for c in self.candidates], np.float32)[candidates]
        is_event = len(self.features[_HIST_ITEM][0, events]) > 0
        return {
            **batch,
            HISTORY_MASK: np.full(batch[_HIST_ITEM].shape, is_event),
            CANDIDATE_MASK: np.ones((1, len(labels)), bool),
            LABEL: np.maximum(labels, 0)[np.newaxis],
        }


@dataclasses.dataclass(frozen=True)
class UserRow:
    """A user in a list: raw id, events before the last target, number of targets, first and last second."""

    raw_id: str
    events: int
    targets: int
    first: int | None
    last: int | None


class SplitUsers:
    """The users of one split, of whose records the places in the files are held in memory.

    Args:
      data: the prepared data.
      split: its name.

    Raises:
      ValueError: the data have no such split, or a file is damaged.
    """

    def __init__(self, data: PreparedData, split: str):
        self.split = split
        self._data = data
        self.sorted = functools.cache(self._sorted)
        self._places: dict[str, tuple[str, int]] = {}  # raw id -> file, number of the record
        self.rows: dict[str, UserRow] = {}
        names = Names(data.data_dir)
        for shard in data.shards(split):
            path = os.path.join(data.data_dir, shard.path)
            for number, payload in enumerate(read_records(path)):
                record = decode_record(data.schema, payload)
                raw_id = self._raw_id(record, names)
                row = _row(raw_id, record)
                # Of several records of a user the longest is shown.
                if raw_id not in self.rows or row.events > self.rows[raw_id].events:
                    self._places[raw_id], self.rows[raw_id] = (path, number), row

    def record(self, raw_id: str) -> Arrays:
        """A user's record; raises UnknownIdError where the split has no such user."""
        if raw_id not in self._places:
            raise UnknownIdError(
                f"The {self.split} split has no user {raw_id!r}; choose one of the list, or type the "
                "items of a history."
            )
        path, number = self._places[raw_id]
        payload = next(p for n, p in enumerate(read_records(path)) if n == number)
        return decode_record(self._data.schema, payload)

    def _sorted(self, order: str) -> list[UserRow]:
        """Users in one of `ORDERS`."""
        rows = sorted(self.rows.values(), key=lambda r: (len(r.raw_id), r.raw_id))  # 9 before 10
        if order == "events":
            rows.sort(key=lambda row: -row.events)
        elif order == "last":
            rows.sort(key=lambda row: -(row.last or 0))
        return rows

    @property
    def newest(self) -> int:
        """Second of the newest event of all users; 0 where the data have no times."""
        return max((row.last for row in self.rows.values() if row.last is not None), default=0)

    def _raw_id(self, record, names):
        if USER_ID not in record:
            return f"record {len(self.rows) + 1}"
        vocabulary = self._data.schema.field(USER_ID).vocabulary
        return names.raw(vocabulary, record[USER_ID])[0]


class Histories:
    """Cases of queries: the ids of the log become a batch, and ids become names.

    Args:
      data: the prepared data.
      users: of one of its splits.
    """

    def __init__(self, data: PreparedData, users: SplitUsers):
        self._data, self.users = data, users
        self.schema, self.names = data.schema, Names(data.data_dir)
        self._ids = functools.cache(self._read_ids)

    def case(self, query: Query) -> Case:
        """The history and the candidates of a query.

        Raises:
          UnknownIdError: the data have no such user, target or item.
          QueryError: there is neither a user nor a history, or both, or too many ids.
        """
        if bool(query.user) == bool(query.history):
            raise QueryError("Give either a user or the items of a history.")
        if len(query.candidates) > MOST_CANDIDATES or len(query.history) > MOST_EVENTS:
            raise QueryError(
                f"Give at most {MOST_EVENTS:,} past items and {MOST_CANDIDATES} candidates; got "
                f"{len(query.history):,} and {len(query.candidates):,}."
            )
        own: Arrays
        if query.user:
            record = self.users.record(query.user)
            positions = np.unique(record[POSITION])
            position = int(positions[-1] if query.position is None else query.position)
            if position not in positions:
                raise UnknownIdError(
                    f"User {query.user!r} has no target behind {position} events; there are targets "
                    f"behind {', '.join(map(str, positions))}."
                )
            past = {n: v[:position] for n, v in record.items() if n.startswith(PREFIX[HISTORY])}
            own = _own_candidates(record, position)
            now = int(own[_CAND_TIME][0]) if _CAND_TIME in own else 0
        else:
            record, positions = {}, np.zeros(0, int)
            past = self._typed_history(query.history)
            now = self.users.newest + _HOUR
            own = {name: values[:0] for name, values in self._candidates([], now).items()}
            own[LABEL] = np.zeros(0, int)
        candidates, labels = self._with_others(own, query, now)
        profile = {
            feature_name(USER, f): record.get(feature_name(USER, f), np.array([_missing(f)]))
            for f in self.schema.with_role(USER)
        }
        features = {
            **{name: values.astype(self.dtype(name)) for name, values in profile.items()},
            **{name: values[np.newaxis] for name, values in {**past, **candidates}.items()},
        }
        return Case(
            features,
            self._events(past),
            self._named_candidates(candidates, labels),
            tuple(map(int, positions)),
            self._profile(record),
        )

    def dtype(self, feature: str) -> str:
        """Numpy name of a feature's type."""
        return self.schema.features()[feature].dtype

    def ids(self, vocabulary: str, raw: Sequence[str]) -> np.ndarray:
        """Dense ids of raw ones; raises UnknownIdError, which names those that the vocabulary lacks."""
        known = self._ids(vocabulary)
        if unknown := [value for value in raw if value not in known]:
            raise UnknownIdError(
                f"The data have no {vocabulary.removesuffix('_id')} "
                f"{', '.join(map(repr, unknown[:5]))}{' and others' if len(unknown) > 5 else ''}."
            )
        return np.array([known[value] for value in raw], "int32")

    def _read_ids(self, vocabulary: str) -> Mapping[str, int]:
        ids = range(FIRST_ID, self.schema.vocabulary_sizes[vocabulary])
        return dict(zip(self.names.raw(vocabulary, ids), ids, strict=True))

    def _typed_history(self, raw: Sequence[str]) -> Arrays:
        """Typed items as events an hour apart, of the first behavior type."""
        items = self.ids(self._item_vocabulary, raw)
        times = self.users.newest - _HOUR * np.arange(len(items) - 1, -1, -1)
        return self._of_items(HISTORY, items, times)

    def _candidates(self, items: Sequence[int], now: int) -> Arrays:
        return self._of_items(CANDIDATE, np.asarray(items, "int32"), np.full(len(items), now))

    def _of_items(self, role: str, items: np.ndarray, times: np.ndarray) -> Arrays:
        """Features of a role for items, what no catalogue tells being unknown."""
        arrays = {}
        for field in self.schema.with_role(role):
            if field.name == ITEM:
                values = items
            elif field.name == TIMESTAMP:
                values = times
            elif field.name in self._data.catalogue:
                values = self._data.catalogue[field.name][items]
            else:
                values = np.full(len(items), _missing(field))
            arrays[feature_name(role, field)] = values.astype(field.dtype)
        return arrays

    def _with_others(self, own: Arrays, query: Query, now: int) -> tuple[Arrays, np.ndarray]:
        """Own candidates and popular items, or those of the query; with labels."""
        own_items = own[_CAND_ITEM].tolist()
        if query.candidates:
            typed = dict.fromkeys(self.ids(self._item_vocabulary, query.candidates).tolist())
            others = [item for item in typed if item not in own_items]
            places = [place for place, item in enumerate(own_items) if item in typed]
        else:
            wanted = min(query.popular if query.user else max(query.popular, 1), MOST_CANDIDATES)
            count = np.array(self._data.catalogue["count"])
            order = np.argsort(-count[FIRST_ID:], kind="stable") + FIRST_ID
            others = [item for item in order.tolist() if item not in own_items][:wanted]
            places = list(range(len(own_items)))
        added = self._candidates(others, now)
        labels = np.concatenate([own[LABEL][places], np.full(len(others), NO_LABEL)])
        candidates = {
            name: np.concatenate([own[name][places], values]) for name, values in added.items()
        }
        return candidates, labels.astype(int)

    def _events(self, past: Arrays) -> tuple[Event, ...]:
        items = past[_HIST_ITEM]
        types = past.get(PREFIX[HISTORY] + BEHAVIOR_TYPE, np.full(len(items), FIRST_ID))
        times = past[_HIST_TIME].tolist() if _HIST_TIME in past else [None] * len(items)
        names = self.names.of(self._item_vocabulary, items)
        categories = self._described(HISTORY, past, self._category_fields)
        details = self._described(HISTORY, past, self.schema.side_features)
        types = np.maximum(types - FIRST_ID, 0).tolist()
        return tuple(map(Event, names, categories, details, types, times))

    def _named_candidates(self, candidates: Arrays, labels: np.ndarray) -> tuple[Candidate, ...]:
        items = candidates[_CAND_ITEM]
        raw = self.names.raw(self._item_vocabulary, items)
        names = self.names.of(self._item_vocabulary, items)
        categories = self._described(CANDIDATE, candidates, self._category_fields)
        return tuple(map(Candidate, raw, names, categories, labels.tolist()))

    def _described(self, role: str, features: Arrays, names: Sequence[str]) -> list[str]:
        """Words of the fields of these names, such as `category 7`, for every event or candidate."""
        fields = [f for f in self.schema.with_role(role) if f.name in names and f.is_categorical]
        columns = [
            [
                f"{_word(f)} {value}"
                for value in self.names.of(f.vocabulary, features[feature_name(role, f)])
            ]
            for f in fields
        ]
        rows = len(features[PREFIX[role] + ITEM])
        return [", ".join(row) for row in zip(*columns, strict=True)] if columns else [""] * rows

    def _profile(self, record: Arrays) -> tuple[str, ...]:
        return tuple(
            f"{_word(f)} {self.names.of(f.vocabulary, record[name])[0]}"
            for f in self.schema.user_fields
            if f.name != USER_ID and (name := feature_name(USER, f)) in record
        )

    @property
    def _category_fields(self) -> list[str]:
        return [field.name for field in self.schema.paired_fields if field.name != ITEM]

    @property
    def _item_vocabulary(self) -> str:
        return self.schema.field(ITEM).vocabulary


def _own_candidates(record: Arrays, position: int) -> Arrays:
    """Candidates of a target, each item once, clicked ones first."""
    of_target = np.flatnonzero(record[POSITION] == position)
    order = of_target[np.argsort(-record[LABEL][of_target], kind="stable")]
    _, first = np.unique(record[_CAND_ITEM][order], return_index=True)
    places = order[np.sort(first)][:MOST_CANDIDATES]
    names = [name for name in record if name.startswith(PREFIX[CANDIDATE]) and name != POSITION]
    return {name: record[name][places] for name in (*names, LABEL)}


def _row(raw_id: str, record: Arrays) -> UserRow:
    positions = np.unique(record[POSITION])
    events = int(positions[-1]) if len(positions) else 0
    times = record[_HIST_TIME][:events] if _HIST_TIME in record else np.zeros(0, int)
    span = (int(times[0]), int(times[-1])) if len(times) else (None, None)
    return UserRow(raw_id, events, len(positions), *span)


def _missing(field: Field) -> int:
    """The value of a field that nobody gave; that of a behavior type is the first one."""
    if field.name == BEHAVIOR_TYPE:
        return FIRST_ID
    return UNKNOWN_ID if field.is_categorical else 0


def _word(field: Field) -> str:
    return field.name.removeprefix(PREFIX[USER]).removesuffix("_id")
