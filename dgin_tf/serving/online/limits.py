"""Bounds of a service: sizes of requests, time, threads, connections."""

import dataclasses


class RequestError(ValueError):
    """A request that is refused with a status of its own; the text is the one sentence of the answer.

    Args:
      status: of HTTP.
      sentence: of the answer.
      retry_after: seconds after which the client may try again; None where trying again does not help.
    """

    def __init__(self, status: int, sentence: str, retry_after: int | None = None):
        super().__init__(sentence)
        self.status, self.retry_after = status, retry_after


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a service takes on.

    Attributes:
      body_bytes: largest body of a request.
      json_depth: deepest nesting of a body.
      candidates: most candidates of one user.
      pairs: most pairs of an event and a candidate in a predict request, which memory grows with.
      request_seconds: within which a request is answered.
      read_seconds: within which a request has to arrive.
      idle_seconds: for which an unused connection stays open.
      connections: most connections at a time.
      threads: that answer requests.
      queue: most requests that wait for a thread.
    """

    body_bytes: int = 4 << 20
    json_depth: int = 16
    candidates: int = 5_000
    pairs: int = 20_000_000
    request_seconds: float = 10.0
    read_seconds: float = 10.0
    idle_seconds: float = 75.0
    connections: int = 4_096
    threads: int = 8
    queue: int = 256
