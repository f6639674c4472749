"""JSON body of a rank request: a user's id or a history, and candidates with their features.

    {"user_id": 7, "candidates": {"item_id": [42, 43]}}
    {"history": ["B00X", "B00Y"], "candidates": ["B00Z"], "raw_ids": true}
    {"user_id": 7, "candidates": [42], "context": {"context_hour": 9}}

By id, the state comes from the server's index or store. Histories and candidates are columns, events
oldest first; a bare list is item ids, and fields that the catalogue has may be left out.
"""

import json
from collections.abc import Mapping
from typing import Any

from dgin_tf.schema import ITEM, USER, USER_ID, Field
from dgin_tf.serving.online.ranker import Ranker, RawRanker

CANDIDATES, HISTORY, CONTEXT = "candidates", "history", "context"
_RAW, _BEFORE, _TIES = "raw_ids", "before", "ties"
_NAMES = {USER_ID, HISTORY, CANDIDATES, USER, CONTEXT, _RAW, _BEFORE, _TIES}
_LARGEST = 2**63 - 1


def rank_request(ranker: Ranker, body: bytes) -> dict[str, Any]:
    """Ranks the candidates of a request.

    Beside `candidates` it has `user_id` or `history`. It may have `user`, values of the user fields that
    the model reads, and `context`, those of the request; `before` and `ties`, see `Ranker.rank`; and
    `raw_ids`, true where all ids are those of the log. Several ids of one field are a list, unknown numbers
    null.

    Returns:
      `probabilities`, one for each candidate.

    Raises:
      ValueError: the body is no request that the model can answer.
    """
    request = _parse(body)
    is_raw = request.get(_RAW, False)
    fields = {field.name: field for field in ranker.model.schema.fields}
    if HISTORY in request:
        user = _columns(HISTORY, request[HISTORY], is_raw, fields)
    else:
        user = _id(USER_ID, request[USER_ID], is_raw)
    before = request.get(_BEFORE)
    try:
        probabilities = (RawRanker(ranker) if is_raw else ranker).rank(
            user,
            _columns(CANDIDATES, request[CANDIDATES], is_raw, fields),
            {
                name: value
                for owner in (USER, CONTEXT)
                for name, value in _single_values(
                    owner, request.get(owner, {}), is_raw, fields
                ).items()
            },
            None if before is None else _id(_BEFORE, before),
            _id(_TIES, request.get(_TIES, 0)),
        )
    except KeyError as error:  # a field that the schema does not have
        raise ValueError(error.args[0]) from None
    return {"probabilities": probabilities.tolist()}


def parse_json(body: bytes) -> Any:
    """Content of a request's body; raises ValueError where it is no JSON."""
    try:
        return json.loads(body)
    except ValueError as error:
        raise ValueError(
            f"expected a JSON object; got text that does not parse: {error}."
        ) from None


def _parse(body: bytes) -> dict[str, Any]:
    request = parse_json(body)
    if not isinstance(request, dict) or CANDIDATES not in request:
        raise ValueError(f'expected a JSON object with "{CANDIDATES}".')
    if len({USER_ID, HISTORY} & set(request)) != 1:
        raise ValueError(f'expected either "{USER_ID}" or "{HISTORY}" beside "{CANDIDATES}".')
    if unknown := sorted(set(request) - _NAMES):
        raise ValueError(f"a rank request has no {unknown}; it may have {sorted(_NAMES)}.")
    return request


def _columns(name: str, content: Any, is_raw: bool, fields: Mapping[str, Field]) -> dict[str, Any]:
    """Field -> list of values; a bare list means item ids."""
    columns = {ITEM: content} if isinstance(content, list) else content
    if not isinstance(columns, dict) or not all(isinstance(v, list) for v in columns.values()):
        raise ValueError(f"{name} must be a list of item ids, or lists by field.")
    return {
        field: [
            _value(f"{field} of the {name}", value, is_raw, fields.get(field)) for value in values
        ]
        for field, values in columns.items()
    }


def _single_values(
    owner: str, content: Any, is_raw: bool, fields: Mapping[str, Field]
) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{owner} must be single values by field.")
    return {
        name: _value(f"{name} of the {owner}", value, is_raw, fields.get(name))
        for name, value in content.items()
    }


def _value(name: str, value: Any, is_raw: bool, field: Field | None) -> Any:
    """A value of a field, checked: an id, a list of ids, or a number, which may be null."""
    if field is None:
        return _id(name, value, is_raw)
    if field.values > 1:
        if not isinstance(value, list):
            raise ValueError(f"{name} must be lists of ids; got {value!r}.")
        return [_id(name, part, is_raw) for part in value]
    if field.is_standardized or (is_raw and field.boundaries):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{name} must be numbers, null where unknown; got {value!r}.")
        return float("nan") if value is None else float(value)
    return _id(name, value, is_raw)


def _id(name: str, value: Any, is_raw: bool = False) -> Any:
    """A dense id or a number of seconds, checked; with `is_raw` also a text of the log."""
    # A bool is an int in Python, but not in JSON.
    if is_raw and isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        hint = "" if is_raw else '; ids of the log need "raw_ids": true'
        raise ValueError(f"{name} must hold whole numbers from 0 on; got {value!r}{hint}.")
    return value
