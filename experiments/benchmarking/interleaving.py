"""Interleaved measurements of several processes, so that a busy machine slows all of them alike.

The benchmark starts one process for every case, waits until each has built its model and taken its
first step, and then lets them run one after the other, round after round. A worker writes one line
of JSON for its facts, one for every turn and one when its input ends. This half of the protocol runs
inside workers; it imports the standard library alone, since a peer's environment has nothing of ours.
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
      prepare: returns the case's facts and the function that measures one turn; its duration is
        reported as `seconds_to_ready`.
    """
    start_time = time.perf_counter()
    with _own_output() as write:
        facts, turn = prepare()
        write({**facts, "seconds_to_ready": time.perf_counter() - start_time})
        for _ in sys.stdin:
            write(turn())
        # Kibibytes on Linux; the peak of this process alone, with its libraries.
        write({"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})


@contextlib.contextmanager
def _own_output() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Reserves the standard output for the protocol; output of libraries goes to the log."""
    with os.fdopen(os.dup(1), "w") as output:
        os.dup2(2, 1)  # the descriptor, since C++ libraries do not write by sys.stdout

        def write(content: dict[str, Any]) -> None:
            output.write(MARK + json.dumps(content) + "\n")
            output.flush()

        yield write


def resident_mib() -> float:
    """Resident memory of this process; `peak_mib` starts again from it (Linux)."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # resets the peak, VmHWM
    return _status("VmRSS")


def peak_mib() -> float:
    """Peak of this process's resident memory since `resident_mib` was called."""
    return _status("VmHWM")


def _status(name: str) -> float:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(name))
    return int(line.split()[1]) / 1024


def rate(step: Callable[[int], Any], examples: int, seconds: float) -> dict[str, Any]:
    """Measures the throughput of `step(number)`.

    Args:
      step: one step, which must have finished when it returns.
      examples: number of examples in one step.
      seconds: duration of the measurement; at least one step is taken.

    Returns:
      `rate` in examples per second, `steps`, and `cpu_ms`, the processor time of a step over all
      threads, which depends less than the rate on other processes of the machine.
    """
    start_time, start_cpu = time.perf_counter(), time.process_time()
    steps, duration = 0, 0.0
    while duration < seconds or steps == 0:
        step(steps)
        steps += 1
        duration = time.perf_counter() - start_time
    return {
        "rate": steps * examples / duration,
        "steps": steps,
        "cpu_ms": 1000 * (time.process_time() - start_cpu) / steps,
    }
