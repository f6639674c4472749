"""uvicorn with time-outs for requests that never arrive, a limit of connections, and an end without cut requests."""

import asyncio
import contextlib
import importlib.util
import logging
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from dgin_tf.serving.online.gate import App, error_body
from dgin_tf.serving.online.limits import Limits

BACKLOG = 2_048
LARGEST_HEADERS = 64 << 10  # bytes of a request's first lines
_LAST_REQUESTS = 1.0  # seconds in which clients with an open connection learn that it closes


class _TimedReading:
    """Part of a protocol that closes connections on which half a request came and no more.

    uvicorn closes idle connections after an answer, but waits for ever for a first request and for the rest of
    headers. Bodies have a time-out of their own, in `Gate`.
    """

    limits: Limits
    on_reject: Callable[[str], None]
    _timer: asyncio.TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        if len(self.connections) > self.limits.connections:  # type: ignore[attr-defined]
            self.on_reject("connections")
            self._refuse(503, "too many connections; try again later.", retry_after=1)
            return
        self._arm()

    def data_received(self, data: bytes) -> None:
        self._header_bytes += len(data)
        super().data_received(data)  # type: ignore[misc]
        if not self._is_between_requests():
            self._disarm()
        elif not self.transport.is_closing():  # type: ignore[attr-defined]
            if self._header_bytes > LARGEST_HEADERS:
                self._refuse(431, f"headers have more than {LARGEST_HEADERS:,} bytes.")
            elif self._timer is None:  # the beginning of the next request on this connection
                self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)  # type: ignore[misc]

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():  # type: ignore[attr-defined]
            self.transport.abort()  # type: ignore[attr-defined]  # nobody reads the answer
        else:
            super().timeout_keep_alive_handler()  # type: ignore[misc]

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "this is no HTTP request.")

    def _is_between_requests(self) -> bool:
        cycle = self.cycle  # type: ignore[attr-defined]
        return cycle is None or cycle.response_complete

    def _arm(self) -> None:
        seconds = self.limits.read_seconds
        self._timer = self.loop.call_later(seconds, self._expire)  # type: ignore[attr-defined]

    def _disarm(self) -> None:
        self._header_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        if self._is_between_requests():
            self.on_reject("headers")
            self.transport.abort()  # type: ignore[attr-defined]

    def _refuse(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        body = error_body(sentence)
        lines = [
            f"HTTP/1.1 {status} Refused",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
        ]
        if retry_after is not None:
            lines.append(f"retry-after: {retry_after}")
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)  # type: ignore[attr-defined]
        self.transport.close()  # type: ignore[attr-defined]


class HttpServer(uvicorn.Server):
    """A server of one application.

    Args:
      app: the application.
      address: host and port; port 0 takes a free one.
      limits: of connections and time.
      tls: files of certificate and key; empty for plain HTTP.
      on_reject: takes the reason for which a connection is dropped.

    Attributes:
      port: that it listens on, once it has started.
      drain: called when it should end, before it stops to listen.
      grace_seconds: within which requests in flight have to end.
    """

    def __init__(
        self,
        app: App,
        address: tuple[str, int],
        limits: Limits,
        tls: tuple[str, str] | None = None,
        on_reject: Callable[[str], None] = lambda reason: None,
    ):
        certificate, key = tls or (None, None)
        # What it has to say at its level of information, the command says.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        super().__init__(
            uvicorn.Config(
                app,
                *address,
                http=_protocol(limits, on_reject),
                interface="asgi3",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=max(int(limits.idle_seconds), 1),
                ssl_certfile=certificate,
                ssl_keyfile=key,
            )
        )
        self.port = 0
        self.grace_seconds = 20.0
        self.drain: Callable[[], None] = lambda: None

    async def startup(self, sockets: Any = None) -> None:
        """Listens.

        Raises:
          OSError: the address cannot be listened on.
        """
        config = self.config
        self.lifespan = config.lifespan_class(config)
        await self.lifespan.startup()
        server = await asyncio.get_running_loop().create_server(
            lambda: config.http_protocol_class(config, self.server_state, {}),  # type: ignore[call-arg]
            config.host,
            config.port,
            ssl=config.ssl,
            backlog=config.backlog,
        )
        self.servers = [server]
        self.port = server.sockets[0].getsockname()[1]
        self.started = True

    async def shutdown(self, sockets: Any = None) -> None:
        """Stops to listen, answers what is in flight and what still comes on open connections, and ends."""
        self.drain()
        for server in self.servers:
            server.close()
        # A client that just sent a request on an idle connection should get its answer, not a reset.
        until = asyncio.get_running_loop().time() + min(_LAST_REQUESTS, self.grace_seconds)
        while self.server_state.connections and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.02)
        self.config.timeout_graceful_shutdown = max(round(self.grace_seconds), 1)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the command."""
        yield


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Makes event loops of uvloop where that is installed; None for asyncio's own."""
    return uvicorn.Config("", loop="auto").get_loop_factory()


def _protocol(limits: Limits, on_reject: Callable[[str], None]) -> type:
    """The faster of the HTTP protocols that is installed, with time-outs."""
    base: type = H11Protocol
    if importlib.util.find_spec("httptools") is not None:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

        base = HttpToolsProtocol
    members = {"limits": limits, "on_reject": staticmethod(on_reject)}
    return type("TimedProtocol", (_TimedReading, base), members)
