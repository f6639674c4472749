"""The benchmark's table, and the machine that it was measured on."""

import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

PACKAGES = ("tensorflow", "tf_keras", "tensorflow-recommenders", "numpy", "pandas")
COLUMNS = (
    "case",
    "examples/s",
    "min",
    "max",
    "turns",
    "CPU ms/step",
    "p50 ms",
    "p99 ms",
    "first step s",
    "peak MiB",
    "step MiB",
    "events/s",
)


def machine() -> dict[str, Any]:
    """Processor, cores, memory, load when asked, and versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The result as Markdown: what was measured, on what, the table, and the ratios."""
    found = result["machine"]
    lines = [
        "# Benchmark",
        "",
        f"{found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB; load average "
        f"{found['load_average'][0]} at the start; "
        + ", ".join(f"{name} {version}" for name, version in found["versions"].items())
        + ".",
        "",
        "Shape: " + ", ".join(f"{name} {value}" for name, value in result["shape"].items()) + ".",
        "Medians over the turns of a case; the cases of one block took turns.",
        "",
    ]
    for title, entries in result["parts"].items():
        lines += [f"## {title}", "", _row(COLUMNS), _row(["---"] * len(COLUMNS))]
        lines += [_row(_cells(entry)) for entry in entries]
        lines += [
            f"\n{entry['case']['name']} could not be measured: {entry['error']}"
            for entry in entries
            if "error" in entry
        ]
        lines.append("")
    if result["ratios"]:
        lines += ["## Ratios", ""]
        lines += [f"- {name}: {value:.2f}" for name, value in result["ratios"].items()]
        lines.append("")
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(entry: Mapping[str, Any]) -> list[str]:
    def shown(name: str, digits: int = 0) -> str:
        return f"{entry[name]:,.{digits}f}" if name in entry else ""

    return [
        entry["case"]["name"],
        shown("rate"),
        shown("rate_min"),
        shown("rate_max"),
        shown("turns"),
        shown("cpu_ms", 1),
        shown("p50_ms", 2),
        shown("p99_ms", 2),
        shown("seconds_to_first_step", 1),
        shown("peak_mib"),
        shown("step_mib"),
        shown("events_per_second"),
    ]


def _processor() -> str:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or "unknown processor"
