"""Throughput and memory of `python -m data_prep.prepare` on a synthetic log."""

import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from data_prep.outputs import remove_data_set
from experiments.benchmarking.workers import ROOT, WorkerFailedError

SCALE_ROWS = 1_000_000
SCALE_EVENTS_PER_USER, SMALL_EVENTS_PER_USER = 100, 60
POLL_SECONDS = 0.1


def write_log(path: pathlib.Path, rows: int, seed: int) -> None:
    """Writes a synthetic log of `rows` rows in Taobao's layout, unless it exists."""
    if path.is_file():
        return
    is_large = rows >= SCALE_ROWS
    per_user = SCALE_EVENTS_PER_USER if is_large else SMALL_EVENTS_PER_USER
    settings = [
        f"--output={path}",
        f"--preset={'scale' if is_large else 'quickstart'}",
        f"--events={rows}",
        f"--users={max(2, rows // per_user)}",
        f"--seed={seed}",
    ]
    _run(["data_prep.synthetic", *settings], path.with_suffix(".log"))


def measure_preparations(
    log: pathlib.Path, rows: int, output_dir: pathlib.Path, protocols: Sequence[str], runs: int
) -> dict[str, dict[str, Any]]:
    """Prepares a log several times from scratch, the protocols by turns.

    Returns:
      For each protocol `rate` (median rows per second, with `rate_min` and `rate_max`), `peak_mib`,
      the largest sum of resident sets over the process tree, in which memory shared by workers counts
      for each, and `records_mib`, the size of the records.
    """
    rates: dict[str, list[float]] = {protocol: [] for protocol in protocols}
    peaks: dict[str, list[float]] = {protocol: [] for protocol in protocols}
    records_mib = {}
    for _ in range(runs):
        for protocol in protocols:
            settings = [
                "--dataset=taobao",
                f"--input={log}",
                f"--output_dir={output_dir}",
                f"--protocol={protocol}",
                "--noprogress",
            ]
            remove_data_set(output_dir)  # or it would find its own output
            start_time = time.perf_counter()
            peaks[protocol].append(
                _run(["data_prep.prepare", *settings], output_dir.with_suffix(".log"))
            )
            rates[protocol].append(rows / (time.perf_counter() - start_time))
            sizes = (path.stat().st_size for path in output_dir.rglob("*.tfrecord"))
            records_mib[protocol] = sum(sizes) / 2**20
    return {
        protocol: {
            "rate": sorted(rates[protocol])[len(rates[protocol]) // 2],
            "rate_min": min(rates[protocol]),
            "rate_max": max(rates[protocol]),
            "turns": runs,
            "rows": rows,
            "peak_mib": max(peaks[protocol]),
            "records_mib": records_mib[protocol],
        }
        for protocol in protocols
    }


def _run(arguments: Sequence[str], log: pathlib.Path) -> float:
    """Runs a module; returns the peak memory of its process tree in MiB."""
    with open(log, "w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=ROOT, stdout=output, stderr=output
        )
        peak = 0.0
        while process.poll() is None:  # sampled: workers come and go
            peak = max(peak, resident_mib(process.pid))
            time.sleep(POLL_SECONDS)
    if process.returncode:
        words = log.read_text(errors="replace").strip().splitlines() or ["no message"]
        raise WorkerFailedError(f"{arguments[0]}: {words[-1]}")
    return peak


def resident_mib(root: int) -> float:
    """Resident memory of a process and all its descendants, read from /proc; 0 without one."""
    parents, resident = {}, {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            pages = int((folder / "statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            continue  # the process has just ended
        parents[int(folder.name)] = int(fields[1])
        resident[int(folder.name)] = pages * 4096 / 2**20
    # One generation of descendants more in every round, until there are no more.
    tree, before = {root}, 0
    while len(tree) > before:
        before = len(tree)
        tree |= {child for child, parent in parents.items() if parent in tree}
    return sum(resident.get(pid, 0.0) for pid in tree)
