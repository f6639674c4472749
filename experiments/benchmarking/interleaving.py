"""How measured processes take turns, so that a busy machine slows all of them alike.

The benchmark starts one process for every case, waits until each has built its model and taken its
first step, and then lets them run one after the other, round after round. A worker writes one line
of JSON for its facts, one for every turn and one when its input ends. This half runs inside workers,
also in those of a peer's environment, and therefore needs the standard library alone.
"""

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

MARK = "BENCHMARK "


def serve(prepare: Callable[[], tuple[dict[str, Any], Callable[[], dict[str, Any]]]]) -> None:
    """Prepares a case, then measures one turn for every line of the standard input.

    Args:
      prepare: returns the case's facts and the function that measures one turn; the time that it
        takes is reported as `seconds_to_ready`.
    """
    began = time.perf_counter()
    with _own_output() as write:
        facts, turn = prepare()
        write({**facts, "seconds_to_ready": time.perf_counter() - began})
        for _ in sys.stdin:
            write(turn())
        # Kibibytes on Linux; the peak of this process alone, with its libraries.
        write({"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})


@contextlib.contextmanager
def _own_output() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Keeps the standard output for the protocol; what libraries print goes to the log."""
    with os.fdopen(os.dup(1), "w") as output:
        os.dup2(2, 1)

        def write(content: dict[str, Any]) -> None:
            output.write(MARK + json.dumps(content) + "\n")
            output.flush()

        yield write


def resident_mib() -> float:
    """What this process holds in memory now; from here on `peak_mib` counts anew (Linux)."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _status("VmRSS")


def peak_mib() -> float:
    """The most that this process held at a time since `resident_mib` was called."""
    return _status("VmHWM")


def _status(name: str) -> float:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(name))
    return int(line.split()[1]) / 1024


def rate(step: Callable[[int], Any], examples: int, seconds: float) -> dict[str, Any]:
    """Calls `step(number)` for some seconds.

    Args:
      step: one step, which must have finished when it returns.
      examples: in one step.
      seconds: how long to go on.

    Returns:
      `rate` in examples per second, `steps`, and `cpu_ms`, the processor time of a step over all
      threads, which depends less than the rate on what else the machine does.
    """
    began, cpu = time.perf_counter(), time.process_time()
    steps, elapsed = 0, 0.0
    while elapsed < seconds or steps == 0:
        step(steps)
        steps += 1
        elapsed = time.perf_counter() - began
    return {
        "rate": steps * examples / elapsed,
        "steps": steps,
        "cpu_ms": 1000 * (time.process_time() - cpu) / steps,
    }
