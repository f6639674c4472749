"""The service over HTTP: TF Serving's REST interface, ranking, events, health and metrics.

    POST /v1/models/NAME[/versions/N|/labels/L]:predict     rows ("instances") or columns ("inputs")
    POST /v1/models/NAME[/versions/N|/labels/L]:rank        a user or a history, and candidates; ours alone
    GET  /v1/models/NAME[/versions/N|/labels/L]             state of the versions
    GET  /v1/models/NAME[/versions/N|/labels/L]/metadata    signatures
    POST /rank      the same as :rank; tells which version answered and what was done
    POST /events    what users did, acknowledged when it is durable
    GET  /health/live, /health/ready, the metrics of Prometheus, /openapi.json and /docs

Bodies are read by hand: they are as large as histories, and what is wrong with one is said in a sentence.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import fastapi
from fastapi import Request, Response
from starlette.exceptions import HTTPException

from dgin_tf.serving.online import openapi
from dgin_tf.serving.online.event_intake import MOST_EVENTS
from dgin_tf.serving.online.gate import Gate, error_body
from dgin_tf.serving.online.limits import RequestError
from dgin_tf.serving.online.predict_requests import metadata, parse_json, status_json
from dgin_tf.serving.online.service import ModelAddress, Service

_LARGEST = 2**63 - 1
_UNDER_V1 = re.compile(r"/v1/", re.IGNORECASE)
_PARTS = ("", "version", "label")  # of an address, behind the model's name


def make_app(
    service: Service,
    metrics_path: str,
    token: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> Gate:
    """The application that answers for a service.

    Args:
      service: computes the answers.
      metrics_path: address of the metrics.
      token: bearer token that requests must carry; empty for none.
      say: takes tracebacks of faults.
    """
    app = fastapi.FastAPI(
        title=f"dgin_tf: {service.model.name}",
        version="1",
        description="Click probabilities of candidates, over TF Serving's REST interface and by user.",
        docs_url=None,  # FastAPI's own page loads scripts from a network
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_handlers(app)
    for part in _PARTS:
        _add_model_routes(app, service, part)
    _add_rank(app, service)
    _add_events(app, service)
    _add_health(app, service, metrics_path)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(openapi.page(app.openapi()), media_type="text/html")

    return Gate(app, service.limits, service.metrics, token, say)


def _add_model_routes(app: fastapi.FastAPI, service: Service, part: str) -> None:
    """Routes of one kind of address: of the model, of a version, of a label."""
    path = "/v1/models/{name}" + (f"/{part}s/{{{part}}}" if part else "")

    def described(route: dict[str, Any]) -> dict[str, Any]:
        return openapi.addressed(route, "name", *filter(None, [part]))

    @app.post(f"{path}:predict", tags=["TF Serving"], **described(openapi.PREDICT))
    async def predict(request: Request) -> Response:
        """Runs a signature."""
        version = _address(request).find(service.model)
        return _json(await service.predict_json(version, await request.body()))

    @app.post(f"{path}:rank", tags=["ranking"], **described(openapi.RANK_AS_BEFORE))
    async def rank(request: Request) -> Response:
        """Ranks candidates; the probabilities alone."""
        version = _address(request).find(service.model)
        _, ranking, _ = await service.rank(await request.body(), lambda _: version)
        return _json({"probabilities": ranking.probabilities.tolist()})

    @app.get(path, tags=["TF Serving"], **described(openapi.STATUS))
    async def status(request: Request) -> Response:
        """State of the versions."""
        address = _address(request)
        number = address.find(service.model).number if address.label else address.version
        try:
            return _json(status_json(service.model.states(address.name, number)))
        except LookupError as error:
            raise RequestError(404, str(error.args[0])) from None

    @app.get(f"{path}/metadata", tags=["TF Serving"], **described(openapi.METADATA))
    async def describe(request: Request) -> Response:
        """Signatures of a version."""
        address = _address(request)
        return _json(metadata(address.name, address.find(service.model)))


def _add_rank(app: fastapi.FastAPI, service: Service) -> None:
    @app.post("/rank", tags=["ranking"], **openapi.RANK)
    async def rank(request: Request) -> Response:
        """Ranks candidates for a user or a history, and tells what was done."""
        wanted, ranking, version = await service.rank(await request.body(), service.find_ranked)
        answer: dict[str, Any] = {"model": service.model.name, "version": version.number}
        if wanted.top_n is None:
            answer["probabilities"] = ranking.probabilities.tolist()
            answer["mask"] = ranking.mask.tolist()
        else:
            answer["ranked"] = wanted.best(ranking)
        return _json({**answer, "report": ranking.report.to_json()})


def _add_events(app: fastapi.FastAPI, service: Service) -> None:
    @app.post("/events", tags=["events"], **openapi.EVENTS)
    async def add(request: Request) -> Response:
        """Takes events; they are durable when the answer comes."""
        lines = _event_lines(await request.body(), service)
        reasons = await service.add_events(lines)
        refused = [{"event": n, "reason": r} for n, r in enumerate(reasons) if r is not None]
        status = 400 if refused and len(refused) == len(reasons) else 200
        answer: dict[str, Any] = {"applied": len(reasons) - len(refused), "refused": refused}
        if status == 400:
            answer["error"] = f"no event could be applied; the first: {refused[0]['reason']}."
        return _json(answer, status)


def _event_lines(body: bytes, service: Service) -> list[bytes]:
    """JSON of each event: of a list, of {"events": [...]}, or of lines."""
    lines = [line for line in body.splitlines() if line.strip()]
    if len(lines) > 1 and all(line.lstrip().startswith(b"{") for line in lines):
        try:
            json.loads(lines[0])
        except (ValueError, RecursionError):
            pass  # one object over several lines
        else:
            return lines
    content = parse_json(body, service.limits.json_depth)
    if isinstance(content, dict) and "events" in content:
        content = content["events"]
    events = [content] if isinstance(content, dict) else content
    if not isinstance(events, list) or not events:
        raise RequestError(
            400, 'expected an event, {"events": [...]} or a line of JSON for each event.'
        )
    if len(events) > MOST_EVENTS:
        raise RequestError(
            400, f"expected at most {MOST_EVENTS:,} events in a request; got {len(events):,}."
        )
    return [json.dumps(event).encode() for event in events]


def _add_health(app: fastapi.FastAPI, service: Service, metrics_path: str) -> None:
    @app.get("/health/live", tags=["health"], **openapi.HEALTH)
    async def live() -> Response:
        """Answers as long as the process does."""
        return _json({"status": "live"})

    @app.get("/health/ready", tags=["health"], **openapi.HEALTH)
    async def ready() -> Response:
        """Tells whether requests should come here: not once the service is about to end."""
        if not service.is_ready:
            return _json({"error": "the service is about to end."}, 503)
        return _json({"status": "ready"})

    @app.get(metrics_path, tags=["health"], **openapi.METRICS)
    async def metrics() -> Response:
        """Metrics in Prometheus's text format."""
        return Response(
            service.metrics.text(), headers={"content-type": service.metrics.content_type}
        )


def _address(request: Request) -> ModelAddress:
    parts = request.path_params
    number = parts.get("version")
    if number is not None:
        # int() takes more than digits.
        if not (number.isascii() and number.isdecimal()) or int(number[:20]) > _LARGEST:
            raise RequestError(400, f"Failed to convert version: {number[:50]} to numeric.")
        return ModelAddress(parts["name"], version=int(number))
    return ModelAddress(parts["name"], label=parts.get("label"))


def _add_handlers(app: fastapi.FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: RequestError) -> Response:
        headers = {"retry-after": str(error.retry_after)} if error.retry_after else {}
        return _error(error.status, str(error), headers)

    @app.exception_handler(ValueError)
    async def malformed(request: Request, error: ValueError) -> Response:
        return _error(400, str(error))

    @app.exception_handler(HTTPException)
    async def nowhere(request: Request, error: HTTPException) -> Response:
        path = request.url.path
        if _UNDER_V1.match(path):  # as TF Serving has it, for whatever is wrong with the address
            return _error(400, f"Malformed request: {request.method} {path[:200]}")
        sentence = f"{request.method} {path[:200]} is not served; /docs lists what is."
        return _error(error.status_code, sentence, dict(error.headers or {}))


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), status, media_type="application/json")


def _error(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return Response(error_body(sentence), status, headers, media_type="application/json")
