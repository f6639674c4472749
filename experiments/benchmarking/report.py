"""The benchmark's table, and the machine that it was measured on."""

import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from experiments.benchmarking.cases import REQUEST
from experiments.benchmarking.workers import PEER

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
    "tensors MiB",
)
ENVIRONMENT = ("TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS")  # that decides how fast TensorFlow is


def machine() -> dict[str, Any]:
    """Processor, cores, memory, load when asked, versions, and what the environment asks of TensorFlow."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
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
        + "".join(f"; {name}={value}" for name, value in found.get("environment", {}).items())
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


def ratios(parts: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """What is to be compared: ours over the peer, training from records over the step alone, one
    protocol of the preparation over the first, and the 99th percentile of requests with longer
    histories over that with the first.
    """
    rates = {e["case"]["name"]: e["rate"] for part in parts.values() for e in part if "rate" in e}
    found: dict[str, float] = {}
    for entries in parts.values():
        names = [entry["case"]["name"] for entry in entries if "rate" in entry]
        steps = [name for name in names if " step " in name]
        for name in names:
            if PEER in name:
                found |= {f"{step} / {name}": rates[step] / rates[name] for step in steps}
            elif " fit " in name and steps:
                found[f"{name} / {steps[0]}"] = rates[name] / rates[steps[0]]
            elif name.startswith("prepare") and name != names[0]:
                found[f"{name} / {names[0]}"] = rates[name] / rates[names[0]]
            elif "state cached" in name:
                cold = name.replace("state cached", "no state")
                if cold in rates:
                    found[f"{name} / {cold}"] = rates[name] / rates[cold]
        found |= _rivals([entry for entry in entries if "rate" in entry])
        asked = [e for e in entries if e["case"].get("kind") == REQUEST and "p99_ms" in e]
        first: dict[str, Mapping[str, Any]] = {}
        for entry in asked:
            shortest = first.setdefault(entry["case"].get("model", ""), entry)
            if entry is not shortest:
                name = f"p99 of {entry['case']['name']} / {shortest['case']['name']}"
                found[name] = entry["p99_ms"] / shortest["p99_ms"]
    return found


def _rivals(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The first model over every other one of the block, in the cases that both have."""

    def what(entry):
        names = ("kind", "variant", "users", "candidates", "has_state", "history")
        return [entry["case"].get(name) for name in names]

    own = [e for e in entries if e["case"].get("model") == entries[0]["case"].get("model")]
    return {
        f"{mine['case']['name']} / {other['case']['name']}": mine["rate"] / other["rate"]
        for other in entries
        for mine in own
        if other not in own and what(mine) == what(other)
    }


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
        shown("tensors_mib"),
    ]


def _processor() -> str:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or "unknown processor"
