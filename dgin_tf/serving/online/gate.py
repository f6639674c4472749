"""What a request has to pass before a route sees it: token, size and time of its body, and what is counted of it."""

import asyncio
import hmac
import json
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from dgin_tf.serving.online.limits import Limits, RequestError
from dgin_tf.serving.online.metrics import Metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH = "/health/"


class Gate:
    """An ASGI application around another one.

    The body is read whole before the application is called, and refused unread where it says that it is too
    large. Whatever the application raises is answered in one sentence.

    Args:
      app: the application.
      limits: of body and time.
      metrics: count requests.
      token: bearer token that requests must carry, those of health aside; empty for none.
      say: takes the tracebacks of faults.

    Attributes:
      is_draining: set it to have every answer close its connection.
    """

    def __init__(
        self,
        app: App,
        limits: Limits,
        metrics: Metrics,
        token: str = "",
        say: Callable[[str], None] = lambda line: None,
    ):
        self._app, self._limits, self._metrics, self._say = app, limits, metrics, say
        self._expected = f"Bearer {token}".encode() if token else b""
        self.is_draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, answer = time.perf_counter(), _Answer(send, self)
        try:
            self._check_token(scope)
            body = await self._body(scope, receive)
            await self._app(scope, _Body(body, receive), answer)
        except RequestError as error:
            # What was not read of the body would be taken for the next request.
            await answer.refuse(error.status, str(error), error.retry_after)
        except _DisconnectedError:
            return
        except Exception as error:
            self._say("".join(traceback.format_exception(error)))
            if not answer.began:
                await answer.refuse(500, "this should not happen; the service's log has the cause.")
        route = scope.get("route")
        name = getattr(route, "path", "other")
        self._metrics.requests.labels(name, answer.status).inc()
        self._metrics.seconds.labels(name).observe(time.perf_counter() - began)

    def _check_token(self, scope: Scope) -> None:
        if not self._expected or scope["path"].startswith(HEALTH):
            return
        tokens = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(tokens) != 1 or not hmac.compare_digest(tokens[0], self._expected):
            self._metrics.rejected.labels("token").inc()
            raise RequestError(401, "expected the header Authorization: Bearer TOKEN.")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._limits.body_bytes
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > limit:  # the protocol checked the digits
                raise self._too_large()
        parts, size = [], 0
        until = asyncio.get_running_loop().time() + self._limits.read_seconds
        try:
            async with asyncio.timeout_at(until):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _DisconnectedError
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > limit:
                        raise self._too_large()
                    more = message.get("more_body", False)
        except TimeoutError:
            self._metrics.rejected.labels("body").inc()
            raise RequestError(
                408, f"the body did not arrive within {self._limits.read_seconds:g} seconds."
            ) from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self) -> RequestError:
        self._metrics.rejected.labels("body").inc()
        return RequestError(
            413,
            f"expected a body of at most {self._limits.body_bytes:,} bytes; this one is larger.",
        )


class _DisconnectedError(Exception):
    """The client went away before its request had arrived."""


class _Body:
    """Gives the body that was read, and waits for the end of the connection afterwards."""

    def __init__(self, body: bytes, receive: Receive):
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Answer:
    """Sends an answer, and remembers its status."""

    def __init__(self, send: Send, gate: Gate):
        self._send, self._gate = send, gate
        self.began, self.status = False, 499

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.began, self.status = True, message["status"]
            if self._gate.is_draining:
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        """Answers with an error, and closes the connection."""
        body = error_body(sentence)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if retry_after is not None:
            headers.append((b"retry-after", str(retry_after).encode()))
        self.began, self.status = True, status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def error_body(sentence: str) -> bytes:
    """JSON body of an error, as TF Serving has it."""
    return json.dumps({"error": sentence}).encode()
