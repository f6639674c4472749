"""JSON body of a rank request: a user's id or a history, and candidates with their features.

    {"user_id": 7, "candidates": {"item_id": [42, 43]}}
    {"history": ["B00X", "B00Y"], "candidates": ["B00Z"], "raw_ids": true, "top_n": 10, "label": "canary"}
    {"user_id": 7, "candidates": [42], "context": {"context_hour": 9}}

By id, the state comes from the server's index or store. Histories and candidates are columns, events
oldest first; a bare list is item ids, and fields that the catalogue has may be left out.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from dgin_tf.schema import ITEM, USER, USER_ID, Field
from dgin_tf.serving.online.limits import Limits
from dgin_tf.serving.online.predict_requests import parse_json
from dgin_tf.serving.online.ranker import Ranker, Ranking, RawRanker

CANDIDATES, HISTORY, CONTEXT = "candidates", "history", "context"
VERSION, LABEL, TOP = "version", "label", "top_n"
_RAW, _BEFORE, _TIES = "raw_ids", "before", "ties"
NAMES = {
    *(USER_ID, HISTORY, CANDIDATES, USER, CONTEXT),
    *(_RAW, _BEFORE, _TIES, VERSION, LABEL, TOP),
}
_LARGEST = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class RankRequest:
    """A request that was read from JSON.

    Attributes:
      user: id, or history by field.
      candidates: by field.
      context: fields of the user and of the request, and those that are the same for all candidates.
      is_raw: true where ids are those of the log.
      before, ties: see `Ranker.rank`.
      version: number of the version that should answer; None for any.
      label: of the version that should answer; None for any.
      top_n: how many of the best candidates are wanted; None for the scores of all, in their order.
    """

    user: Any
    candidates: dict[str, Any]
    context: dict[str, Any]
    is_raw: bool = False
    before: int | None = None
    ties: int = 0
    version: int | None = None
    label: str | None = None
    top_n: int | None = None

    def answer(self, ranker: Ranker) -> Ranking:
        """Ranks the candidates; raises ValueError where the model cannot answer."""
        fields = {field.name: field for field in ranker.model.schema.fields}
        user = self.user
        if isinstance(user, dict):
            user = _checked(HISTORY, user, self.is_raw, fields)
        candidates = _checked(CANDIDATES, self.candidates, self.is_raw, fields)
        context = {name: [value] for name, value in self.context.items()}
        context = _checked(CONTEXT, context, self.is_raw, fields)
        try:
            return (RawRanker(ranker) if self.is_raw else ranker).answer(
                user,
                candidates,
                {name: value for name, (value,) in context.items()},
                self.before,
                self.ties,
            )
        except KeyError as error:  # a field that the schema does not have
            raise ValueError(error.args[0]) from None

    def best(self, ranking: Ranking) -> list[dict[str, Any]]:
        """The best real candidates, best first."""
        order = np.argsort(-ranking.probabilities, kind="stable")
        order = order[ranking.mask[order]][: self.top_n]
        items, probabilities = self.candidates[ITEM], ranking.probabilities
        return [{ITEM: items[n], "probability": float(probabilities[n])} for n in order.tolist()]


def read_rank_request(body: bytes, limits: Limits = Limits()) -> RankRequest:  # noqa: B008
    """Reads the body of a rank request.

    Beside `candidates` it has `user_id` or `history`. It may have `user` and `context`, values of the
    fields of user and request that the model reads and of fields that are the same for all candidates;
    `before` and `ties`, see `Ranker.rank`; `raw_ids`, true where all ids are those of the log; `version` or `label` of the
    model; and `top_n`.

    Raises:
      ValueError: the body is no such request.
    """
    request = parse_json(body, limits.json_depth)
    if not isinstance(request, dict) or CANDIDATES not in request:
        raise ValueError(f'expected a JSON object with "{CANDIDATES}".')
    if len({USER_ID, HISTORY} & set(request)) != 1:
        raise ValueError(f'expected either "{USER_ID}" or "{HISTORY}" beside "{CANDIDATES}".')
    if unknown := sorted(set(request) - NAMES):
        raise ValueError(f"a rank request has no {unknown}; it may have {sorted(NAMES)}.")
    if {VERSION, LABEL} <= set(request):
        raise ValueError(f'give one of "{VERSION}" and "{LABEL}".')
    is_raw, label = request.get(_RAW, False), request.get(LABEL)
    if not isinstance(is_raw, bool):
        raise ValueError(f"{_RAW} must be true or false; got {is_raw!r:.50}.")
    if LABEL in request and not isinstance(label, str):
        raise ValueError(f"{LABEL} must be a text; got {label!r:.50}.")
    if HISTORY in request:
        user = _columns(HISTORY, request[HISTORY])
    else:
        user = _id(USER_ID, request[USER_ID], is_raw)
    candidates = _columns(CANDIDATES, request[CANDIDATES])
    longest = max(map(len, candidates.values()), default=0)
    if longest > limits.candidates:
        raise ValueError(f"expected at most {limits.candidates:,} candidates; got {longest:,}.")
    if ITEM not in candidates:
        raise ValueError(
            f"expected {ITEM} among the fields of the candidates; got {sorted(candidates)}."
        )
    context: dict[str, Any] = {}
    for name in (USER, CONTEXT):
        context |= _single_values(name, request.get(name, {}))
    numbers = {n: _id(n, request[n]) for n in (_BEFORE, _TIES, VERSION, TOP) if n in request}
    return RankRequest(
        user,
        candidates,
        context,
        is_raw,
        numbers.get(_BEFORE),
        numbers.get(_TIES, 0),
        numbers.get(VERSION),
        label,
        numbers.get(TOP),
    )


def _columns(name: str, content: Any) -> dict[str, Any]:
    """Field -> list of values; a bare list means item ids."""
    columns = {ITEM: content} if isinstance(content, list) else content
    if not isinstance(columns, dict) or not all(isinstance(v, list) for v in columns.values()):
        raise ValueError(f"{name} must be a list of item ids, or lists by field.")
    return columns


def _single_values(name: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{name} must be single values by field.")
    return content


def _checked(
    owner: str, columns: Mapping[str, Any], is_raw: bool, fields: Mapping[str, Field]
) -> dict[str, Any]:
    """Lists of values by field, as a model takes them.

    Of a field with several ids each value is a list; a number may be null, which is unknown.
    """
    return {
        name: _values(f"{name} of the {owner}", values, is_raw, fields.get(name))
        for name, values in columns.items()
    }


def _values(name: str, values: list[Any], is_raw: bool, field: Field | None) -> list[Any]:
    if field is not None and field.values > 1:
        for value in values:
            if not isinstance(value, list):
                raise ValueError(f"{name} must be lists of ids; got {value!r:.80}.")
            _check_ids(name, value, is_raw)
        return values
    if field is not None and (field.is_standardized or (is_raw and field.boundaries)):
        for value in values:
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float)
            ):
                raise ValueError(f"{name} must be numbers, null where unknown; got {value!r:.80}.")
        return [float("nan") if value is None else float(value) for value in values]
    _check_ids(name, values, is_raw)
    return values


def _id(name: str, value: Any, is_raw: bool = False) -> Any:
    """A dense id or a number of seconds, checked; with `is_raw` also a text of the log."""
    _check_ids(name, [value], is_raw)
    return value


def _check_ids(name: str, values: list[Any], is_raw: bool) -> None:
    """Raises ValueError unless all values are ids, seconds or numbers of the log."""
    kinds = set(map(type, values))  # of a few kinds, however long the list
    if kinds <= {int} and (not values or (min(values) >= 0 and max(values) <= _LARGEST)):
        return
    for value in values:
        # A bool is an int in Python, but not in JSON.
        if is_raw and isinstance(value, str):
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
            hint = "" if is_raw else '; ids of the log need "raw_ids": true'
            raise ValueError(f"{name} must hold whole numbers from 0 on; got {value!r:.80}{hint}.")
