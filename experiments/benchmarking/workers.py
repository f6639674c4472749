"""Worker processes of the benchmark and their turns; the other half of `interleaving`."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.benchmarking.cases import Case
from experiments.benchmarking.interleaving import MARK
from experiments.benchmarking.workload import Workload

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEER_SCRIPT = pathlib.Path(__file__).with_name("peer_deepctr.py")
PEER = "deepctr"


class WorkerFailedError(RuntimeError):
    """A measured process ended early; the message is its last error."""


class Worker:
    """One measured process.

    Args:
      case: the case that it measures.
      command: that starts it.
      log: file for its standard error.
    """

    def __init__(self, case: Case, command: Sequence[str], log: pathlib.Path):
        self.case = case
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered, or a line of the protocol could wait in the worker's buffer.
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
        with open(log, "w") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        if self._process.stdin is None or self._process.stdout is None:
            raise WorkerFailedError(f"{case.name}: no pipes to the process")
        self._requests, self._replies = self._process.stdin, self._process.stdout

    def read(self) -> dict[str, Any]:
        """Reads the next line of the protocol.

        Raises:
          WorkerFailedError: the process ended instead.
        """
        for line in self._replies:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        # The output of a failing process closes before its traceback is in the log.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=60)
        reason = _last_error(self.log)
        if self._process.returncode == -signal.SIGKILL:
            reason = (
                "it was killed, as the kernel does where memory is short; measure fewer cases at a time, or "
                "smaller ones"
            )
        raise WorkerFailedError(f"{self.case.name}: {reason}")

    def turn(self) -> dict[str, Any]:
        """Has the process measure once; returns its figures.

        Raises:
          WorkerFailedError: the process has ended.
        """
        with contextlib.suppress(BrokenPipeError):  # `read` says how it ended
            self._requests.write("turn\n")
            self._requests.flush()
        return self.read()

    def finish(self) -> dict[str, Any]:
        """Ends the process; returns its last figures."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        return self.read()

    def stop(self) -> None:
        """Kills the process."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        self._replies.close()
        self._process.wait()


def start(case: Case, workload: Workload, log_dir: pathlib.Path, peer_python: str) -> Worker:
    """Starts the process of a case, a peer's in the peer's environment."""
    log = log_dir / f"{case.name.replace(' ', '_').replace('/', '_')}.log"
    if case.kind == PEER:
        settings = {
            **dataclasses.asdict(workload),  # its `users` is the vocabulary, not the batch
            "model": case.model,
            "batches": case.data,
            "seconds": case.seconds,
        }
        return Worker(case, [peer_python, str(PEER_SCRIPT), json.dumps(settings)], log)
    arguments = [json.dumps(dataclasses.asdict(value)) for value in (case, workload)]
    return Worker(case, [sys.executable, "-m", "experiments.benchmarking.cases", *arguments], log)


def measure(
    cases: Sequence[Case],
    workload: Workload,
    rounds: int,
    log_dir: pathlib.Path,
    peer_python: str = "",
) -> list[dict[str, Any]]:
    """Measures cases that are to be compared, turn by turn: A B C A B C ...

    Returns:
      One entry a case: the case, its facts, `rate` (median, min, max over the rounds) and the medians
      of the other figures of a turn; or the case and its `error`, where a process failed.
    """
    entries: list[dict[str, Any]] = []
    running: dict[int, Worker] = {}
    turns: dict[int, list[dict[str, Any]]] = {}
    try:
        for number, case in enumerate(cases):
            entries.append({"case": dataclasses.asdict(case)})
            running[number] = start(case, workload, log_dir, peer_python)
            turns[number] = []
            _guarded(entries, running, number, lambda worker: worker.read())  # built and warm
        for _ in range(rounds):
            for number in list(running):  # a copy: a failed worker leaves `running`
                figures = _guarded(
                    entries, running, number, lambda worker: worker.turn(), updates=False
                )
                if figures:
                    turns[number].append(figures)
        for number in list(running):
            entries[number].update(summarize(turns[number]))
            _guarded(entries, running, number, lambda worker: worker.finish())
    finally:  # an error or an interrupt must leave no process behind
        for worker in running.values():
            worker.stop()
    return entries


def summarize(turns: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Median, minimum and maximum of the rate, and medians of the rest."""
    rates = [turn["rate"] for turn in turns]
    others = {name: statistics.median(t[name] for t in turns) for name in turns[0]}
    return {
        **others,
        "rate": statistics.median(rates),
        "rate_min": min(rates),
        "rate_max": max(rates),
        "turns": len(turns),
    }


def _guarded(entries, running, number, action, updates=True) -> dict[str, Any]:
    """Figures of `action`; a failed worker leaves the rounds, with its error in its entry."""
    try:
        figures = action(running[number])
    except WorkerFailedError as error:
        entries[number]["error"] = str(error)
        running.pop(number).stop()
        return {}
    if updates:
        entries[number].update(figures)
    return figures


def _last_error(log: pathlib.Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    errors = [line for line in lines if "Error" in line or "Exception" in line]
    return (errors or lines or ["it ended without a message"])[-1]
