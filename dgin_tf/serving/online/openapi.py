"""Descriptions of the service's routes for OpenAPI, and a page of them that needs no network."""

import html
import json
from typing import Any

_LARGEST = 2**63 - 1
_Schema = dict[str, Any]


def _object(properties: _Schema, required: list[str], closed: bool = False) -> _Schema:
    schema: _Schema = {"type": "object", "properties": properties, "required": required}
    return {**schema, "additionalProperties": False} if closed else schema


def _array(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


_NUMBER, _TEXT = {"type": "number"}, {"type": "string"}
_WHOLE = {"type": "integer", "minimum": 0, "maximum": _LARGEST}
_ID = {"anyOf": [_WHOLE, _TEXT]}
_COLUMNS = {
    "anyOf": [
        _array(_ID),
        {"type": "object", "additionalProperties": _array(_ID)},
    ],
    "description": "Item ids, or values by field; events oldest first.",
}
_ERROR = _object({"error": _TEXT}, ["error"])

_REFUSALS = {
    400: "The request cannot be answered; `error` says why.",
    401: "The bearer token is missing or wrong.",
    404: "There is no such model, version or label.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    429: "Too many requests are waiting; try again after `Retry-After` seconds.",
    503: "A store or the model cannot be reached; try again later.",
    504: "The answer took too long.",
}


def _json_answer(description: str, schema: _Schema) -> _Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _route(answer: _Schema, body: _Schema | None = None, codes: tuple[int, ...] = ()) -> _Schema:
    """Arguments of a route's decorator."""
    responses = {200: answer}
    responses |= {code: _json_answer(_REFUSALS[code], _ERROR) for code in codes}
    described: _Schema = {"responses": responses}
    if body is not None:
        described["openapi_extra"] = {"requestBody": {"required": True, "content": body}}
    return described


def addressed(route: _Schema, *parts: str) -> _Schema:
    """Arguments of a route's decorator with descriptions of the parts of its address, read by hand."""
    parameters = [_PARTS[part] for part in parts]
    extra = {**route.get("openapi_extra", {}), "parameters": parameters}
    return {**route, "openapi_extra": extra}


_READ = (400, 401, 404, 413)
_COMPUTE = (400, 401, 404, 408, 413, 429, 503, 504)

_PARTS = {
    name: {"name": name, "in": "path", "required": True, "schema": schema}
    for name, schema in (
        ("name", _TEXT),
        ("version", {"type": "string", "pattern": "^[0-9]{1,18}$"}),
        ("label", _TEXT),
    )
}

_PREDICT_BODY = {
    "type": "object",
    "properties": {
        "signature_name": {"type": "string", "description": "serving_default where left out."},
        "instances": {"type": "array", "description": "Rows: one object for each user."},
        "inputs": {"description": "Columns: an object of all users' values by input."},
    },
}
PREDICT = _route(
    _json_answer(
        "`predictions` for rows, `outputs` for columns.",
        {"type": "object", "properties": {"predictions": {"type": "array"}, "outputs": {}}},
    ),
    {"application/json": {"schema": _PREDICT_BODY}},
    _COMPUTE,
)

_RANK_BODY = _object(
    {
        "user_id": {**_ID, "description": "Of a user whose state or history the server has."},
        "history": _COLUMNS,
        "candidates": _COLUMNS,
        "context": {
            "type": "object",
            "additionalProperties": _ID,
            "description": "User fields, and fields that are the same for all candidates.",
        },
        "user": {"type": "object", "description": "Old name of `context`."},
        "raw_ids": {"type": "boolean", "description": "True for ids of the log."},
        "before": {**_WHOLE, "description": "Only events before this second count."},
        "ties": {**_WHOLE, "description": "How many events of that second count too."},
        "version": _WHOLE,
        "label": _TEXT,
        "top_n": {**_WHOLE, "description": "How many of the best candidates to return."},
    },
    ["candidates"],
    closed=True,
)

_PROBABILITIES = _array({"type": "number", "minimum": 0, "maximum": 1})
_REPORT = _object(
    {
        "source": {"type": "string", "enum": ["history", "index", "groups", "store"]},
        "is_known": {
            "type": "boolean",
            "description": "False for a user of whom nothing is stored.",
        },
        "is_cached": {"type": "boolean"},
        "events": {"type": ["integer", "null"]},
        "cut": {"type": "integer", "description": "Events older than those that count."},
        "state_age_seconds": {"type": ["number", "null"]},
        "unknown_candidates": {"type": "integer"},
        "absent_candidates": {"type": "integer"},
        "milliseconds": {"type": "object", "additionalProperties": _NUMBER},
    },
    ["source", "is_known", "is_cached", "milliseconds"],
)
RANK = _route(
    _json_answer(
        "Probabilities of all candidates in their order, or with `top_n` the best ones.",
        _object(
            {
                "model": _TEXT,
                "version": {"type": "integer"},
                "probabilities": _PROBABILITIES,
                "mask": _array({"type": "boolean"}),
                "ranked": _array(_object({"item_id": _ID, "probability": _NUMBER}, ["item_id"])),
                "report": _REPORT,
            },
            ["model", "version", "report"],
        ),
    ),
    {"application/json": {"schema": _RANK_BODY}},
    _COMPUTE,
)
RANK_AS_BEFORE = _route(
    _json_answer(
        "Probabilities of all candidates.",
        _object({"probabilities": _PROBABILITIES}, ["probabilities"]),
    ),
    {"application/json": {"schema": _RANK_BODY}},
    _COMPUTE,
)

_EVENT = {
    "type": "object",
    "properties": {
        "user_id": _ID,
        "sequence": {**_WHOLE, "minimum": 1},
        "item_id": _ID,
        "timestamp": _WHOLE,
    },
    "required": ["user_id", "sequence", "item_id"],
}
EVENTS = _route(
    _json_answer(
        "Events that were applied are durable; the others are listed with the reason.",
        _object(
            {
                "applied": {"type": "integer"},
                "refused": _array(
                    _object({"event": {"type": "integer"}, "reason": _TEXT}, ["event", "reason"])
                ),
            },
            ["applied", "refused"],
        ),
    ),
    {
        "application/json": {"schema": _object({"events": _array(_EVENT)}, ["events"])},
        "application/x-ndjson": {"schema": _TEXT},
    },
    _COMPUTE,
)

_STATUS = _object(
    {
        "version": _TEXT,
        "state": _TEXT,
        "status": _object({"error_code": _TEXT, "error_message": _TEXT}, ["error_code"]),
    },
    ["version", "state", "status"],
)
STATUS = _route(
    _json_answer(
        "States of the versions.",
        _object({"model_version_status": _array(_STATUS)}, ["model_version_status"]),
    ),
    codes=_READ,
)
METADATA = _route(
    _json_answer(
        "Signatures.",
        _object(
            {"model_spec": {"type": "object"}, "metadata": {"type": "object"}},
            ["model_spec", "metadata"],
        ),
    ),
    codes=_READ,
)
HEALTH = _route(
    _json_answer("Yes.", _object({"status": _TEXT}, ["status"])), codes=(400, 408, 413, 503)
)
METRICS = _route(
    {"description": "Metrics.", "content": {"text/plain": {"schema": _TEXT}}},
    codes=(400, 401, 408, 413),
)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
summary {{ cursor: pointer; padding: .3rem 0; }} code {{ font-size: 1em; }} b {{ display: inline-block; width: 4rem; }}
pre {{ background: #f4f4f4; padding: .7rem; overflow: auto; font-size: .85em; }}
</style></head><body><h1>{title}</h1><p>{description} <a href="openapi.json">openapi.json</a></p>
{routes}
</body></html>
"""


def page(document: _Schema) -> str:
    """HTML page of an OpenAPI document, without scripts."""
    routes = []
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            detail = {key: route[key] for key in ("requestBody", "responses") if key in route}
            routes.append(
                f"<details><summary><b>{method.upper()}</b><code>{html.escape(path)}</code> "
                f"{html.escape(route.get('description', ''))}</summary>"
                f"<pre>{html.escape(json.dumps(detail, indent=2))}</pre></details>"
            )
    info = document["info"]
    return _PAGE.format(
        title=html.escape(info["title"]),
        description=html.escape(info.get("description", "")),
        routes="\n".join(routes),
    )
