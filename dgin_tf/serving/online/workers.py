"""A bounded number of threads that answer requests, with a bounded queue and a deadline for each."""

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from dgin_tf.serving.online.limits import RequestError

Result = TypeVar("Result")

_TOO_MANY, _TIME_OUT = 429, 504


class Workers:
    """Threads that run functions for coroutines.

    Args:
      threads: their number.
      queue: most calls that wait; further ones are refused.
      on_start: takes the seconds that a call waited.
      on_reject: takes "queue" or "deadline" where a call is given up.
    """

    def __init__(
        self,
        threads: int,
        queue: int,
        on_start: Callable[[float], None] = lambda seconds: None,
        on_reject: Callable[[str], None] = lambda reason: None,
    ):
        self._executor = concurrent.futures.ThreadPoolExecutor(threads, "answer")
        self._limit, self._queue = threads + queue, queue
        self._on_start, self._on_reject = on_start, on_reject
        self._pending = 0
        self._lock = threading.Lock()

    @property
    def pending(self) -> int:
        """Calls that wait or run."""
        return self._pending

    async def run(self, function: Callable[[], Result], seconds: float) -> Result:
        """Result of a function that a thread runs.

        Args:
          function: to run. Where it has not begun by the deadline it never does; one that runs is left to end.
          seconds: until the deadline.

        Raises:
          RequestError: the queue is full, or the deadline passed.
        """
        with self._lock:
            if self._pending >= self._limit:
                self._on_reject("queue")
                raise RequestError(
                    _TOO_MANY, f"{self._queue} requests are waiting already; try again later.", 1
                )
            self._pending += 1
        try:
            began = time.monotonic()
            future = self._executor.submit(self._answer, function, began, began + max(seconds, 0.0))
        except BaseException:
            self._release(None)
            raise
        # When the thread is free again, not when the client is answered.
        future.add_done_callback(self._release)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), max(seconds, 0.0))
        except (TimeoutError, concurrent.futures.CancelledError) as error:
            if isinstance(error, TimeoutError) and future.done() and not future.cancelled():
                raise  # a time-out of the function itself
            self._on_reject("deadline")
            raise RequestError(
                _TIME_OUT, f"no answer within {seconds:.3g} seconds; try again later.", 1
            ) from None

    def close(self) -> None:
        """Ends the threads after the calls that run."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _answer(self, function: Callable[[], Result], began: float, until: float) -> Result:
        now = time.monotonic()
        if now > until:
            raise concurrent.futures.CancelledError
        self._on_start(now - began)
        return function()

    def _release(self, _: object) -> None:
        with self._lock:
            self._pending -= 1
