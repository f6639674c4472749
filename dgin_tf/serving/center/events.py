"""Behavior events as JSON, one object each:

{"user_id": "u17", "sequence": 12, "item_id": "B0017", "timestamp": 1700000000}

`sequence` numbers the events of one user from 1 on, in the order in which they happened. The other
fields are those of the schema's history, with ids as in the log; those that the bundle's catalogue has
for an item, such as its category, may be left out. An id that the vocabulary lacks is out of vocabulary.
Numeric features, such as dwell time, are in the log's unit; they and side features, such as a location,
are unknown where they are left out. Fields that the model does not read may be left out too.
"""

import json
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from dgin_tf.numeric_features import LARGEST, bucket_ids, encode_numbers
from dgin_tf.schema import FIRST_ID, UNKNOWN_ID, Field, Schema
from dgin_tf.serving.export.vocabularies import Vocabularies, user_key

USER_ID, SEQUENCE, ITEM, TIME = "user_id", "sequence", "item_id", "timestamp"
LONGEST_LINE = 1 << 20  # bytes

_LARGEST = 2**63 - 1
_MAX_AHEAD = 86_400  # seconds by which another machine's clock may be ahead


class BadEventError(ValueError):
    """The line is no event, for the reason in the text."""


class Event(NamedTuple):
    """One event of one user.

    Attributes:
      user: number of the user's state in stores, see `user_key`.
      user_id: the dense user id, an input of models that embed it.
      sequence: number of the event among the user's.
      time: its second; 0 where the schema has no times.
      values: history field -> dense id, second, or numeric feature in its integer form.
      line: the line that it was read from.
    """

    user: int
    user_id: int
    sequence: int
    time: int
    values: Mapping[str, int]
    line: bytes


class EventParser:
    """Reads events under one schema.

    Args:
      schema: its history fields are the fields of events.
      catalogue: field -> attribute of every item id, for fields that events may leave out.
      vocabularies: from raw ids to dense ones; None where events carry dense ids.
      clock: the current second. An event of a far future, such as one in milliseconds, is refused:
        every later event of its user would seem to run backwards.
      fields_read: history fields that the model reads; None for all. Others may be left out, and are
        unknown too where there is no vocabulary for them. Item and time are always needed.

    Raises:
      ValueError: a vocabulary is missing.
    """

    def __init__(
        self,
        schema: Schema,
        catalogue: Mapping[str, np.ndarray],
        vocabularies: Vocabularies | None = None,
        clock: Callable[[], float] = time.time,
        fields_read: Collection[str] | None = None,
    ):
        fields = schema.stored_fields
        # The item first: its id is the row of the others in the catalogue.
        self._fields = sorted(fields, key=lambda field: field.name != ITEM)
        self._catalogue = {f.name: catalogue[f.name] for f in fields if f.name in catalogue}
        self._sizes = schema.vocabulary_sizes
        self._side_features = schema.side_features
        self._names = {USER_ID, SEQUENCE, *(field.name for field in fields)}
        self._clock = clock
        self._has_times = any(field.name == TIME for field in fields)
        self._optional: set[str] = set()
        if fields_read is not None:
            self._optional = {f.name for f in fields} - {ITEM, TIME, *fields_read}
        self._vocabularies: dict[str, Mapping[str, int]] | None = None
        if vocabularies is not None:
            names = {USER_ID}
            for field in fields:
                is_needed = field.name not in self._optional or field.vocabulary in vocabularies
                if field.is_categorical and is_needed:
                    names.add(field.vocabulary)
            self._vocabularies = {name: vocabularies[name] for name in names}

    def __call__(self, line: bytes) -> Event:
        """The event of a line.

        Raises:
          BadEventError: the line is no event of the schema.
        """
        content = _object(line)
        if unknown := set(content) - self._names:
            raise BadEventError(f"unknown fields: {', '.join(sorted(unknown))}")
        sequence = _whole(content, SEQUENCE, 1)
        user, user_id = self._user(content)
        values: dict[str, int] = {}
        for field in self._fields:
            values[field.name] = self._value(field, content, values)
        second = values[TIME] if self._has_times else 0
        if second > self._clock() + _MAX_AHEAD:
            raise BadEventError(
                f"{TIME} {second} is more than a day ahead of the clock; seconds since 1970 are expected"
            )
        return Event(user, user_id, sequence, second, values, line)

    def _user(self, content: Mapping[str, Any]) -> tuple[int, int]:
        """Number in stores and dense id."""
        if self._vocabularies is None:
            dense = _whole(content, USER_ID, FIRST_ID)
            return dense, dense
        raw = _raw(content, USER_ID)
        return user_key(raw, self._vocabularies[USER_ID]), self._vocabularies[USER_ID].get(
            raw, UNKNOWN_ID
        )

    def _value(self, field: Field, content: Mapping[str, Any], values: Mapping[str, int]) -> int:
        name = field.name
        if name not in content and name in self._catalogue:
            attributes, item = self._catalogue[name], values[ITEM]
            return int(attributes[item if item < len(attributes) else UNKNOWN_ID])
        if field.is_numeric:
            number = _number(content, name)
            return 0 if number is None else int(encode_numbers(number))
        if field.boundaries and self._vocabularies is not None:
            number = _number(content, name, -LARGEST)
            return int(bucket_ids(np.nan if number is None else number, field.boundaries))
        is_optional = name in self._optional
        # A side feature that is left out is unknown, an id that the model reads is an error.
        if content.get(name) is None and (is_optional or name in self._side_features):
            return UNKNOWN_ID
        if not field.is_categorical:
            return _whole(content, name, 0)
        if self._vocabularies is not None:
            if is_optional and field.vocabulary not in self._vocabularies:
                return UNKNOWN_ID
            return self._vocabularies[field.vocabulary].get(_raw(content, name), UNKNOWN_ID)
        dense = _whole(content, name, UNKNOWN_ID)
        return dense if dense < self._sizes[field.vocabulary] else UNKNOWN_ID


def _object(line: bytes) -> dict[str, Any]:
    if len(line) > LONGEST_LINE:
        raise BadEventError(f"longer than {LONGEST_LINE:,} bytes")
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadEventError(f"no JSON: {error}") from error
    if not isinstance(content, dict):
        raise BadEventError(f"expected a JSON object; got {type(content).__name__}")
    return content


def _whole(content: Mapping[str, Any], name: str, smallest: int) -> int:
    value = content.get(name)
    # Not isinstance: true is an int in Python, but no number of an event.
    if type(value) is not int or not smallest <= value <= _LARGEST:
        raise BadEventError(f"{name} must be a whole number from {smallest} on; got {value!r:.50}")
    return value


def _number(content: Mapping[str, Any], name: str, smallest: int = 0) -> float | None:
    value = content.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not smallest <= value <= LARGEST:
        raise BadEventError(
            f"{name} must be a number from {smallest:,} to {LARGEST:,}; got {value!r:.50}"
        )
    return value


def _raw(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    raise BadEventError(f"{name} must be a text or a whole number; got {value!r:.50}")
