"""Report of the benchmark: tables, ratios, and the machine of the measurements."""

import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import dgin_tf
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
    "p99.9 ms",
)
ENVIRONMENT = ("TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS")  # variables that change TensorFlow's speed


def machine() -> dict[str, Any]:
    """Processor, cores, memory, current load, versions, and variables that change TensorFlow's speed."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {
            "dgin_tf": dgin_tf.__version__,
            **{name: metadata.version(name) for name in PACKAGES},
        },
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }


def markdown(result: Mapping[str, Any]) -> str:
    """Formats the result as Markdown: machine and workload, tables, ratios."""
    place = result["machine"]
    lines = [
        "# Benchmark",
        "",
        f"{place['processor']}, {place['cores']} cores, {place['memory_gib']} GiB; load average "
        f"{place['load_average'][0]} at the start; "
        + ", ".join(f"{name} {version}" for name, version in place["versions"].items())
        + "".join(f"; {name}={value}" for name, value in place.get("environment", {}).items())
        + ".",
        "",
        "Workload: "
        + ", ".join(f"{name} {value}" for name, value in result["workload"].items())
        + ".",
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
    """Ratios of cases: ours over the peer, training from records over the step alone, protocols of the
    preparation over the first one, states cached over no state, models over each other, and the 99th
    percentile of requests with longer histories over that with the first.
    """
    rates = {e["case"]["name"]: e["rate"] for part in parts.values() for e in part if "rate" in e}
    ratio_of: dict[str, float] = {}
    for entries in parts.values():
        names = [entry["case"]["name"] for entry in entries if "rate" in entry]
        steps = [name for name in names if " step " in name]
        for name in names:
            if PEER in name:
                ratio_of |= {f"{step} / {name}": rates[step] / rates[name] for step in steps}
            elif " fit " in name and steps:
                ratio_of[f"{name} / {steps[0]}"] = rates[name] / rates[steps[0]]
            elif name.startswith("prepare") and name != names[0]:
                ratio_of[f"{name} / {names[0]}"] = rates[name] / rates[names[0]]
            elif "state cached" in name:
                cold = name.replace("state cached", "no state")
                if cold in rates:
                    ratio_of[f"{name} / {cold}"] = rates[name] / rates[cold]
        ratio_of |= _ratios_of_models([entry for entry in entries if "rate" in entry])
        requests = [e for e in entries if e["case"].get("kind") == REQUEST and "p99_ms" in e]
        first: dict[str, Mapping[str, Any]] = {}
        for entry in requests:
            shortest = first.setdefault(entry["case"].get("model", ""), entry)
            if entry is not shortest:
                name = f"p99 of {entry['case']['name']} / {shortest['case']['name']}"
                ratio_of[name] = entry["p99_ms"] / shortest["p99_ms"]
    return ratio_of


def _ratios_of_models(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Ratios of the first model over the others of the block, in the cases that both have."""

    def sizes(entry):
        names = ("kind", "variant", "users", "candidates", "has_state", "history")
        return [entry["case"].get(name) for name in names]

    own = [e for e in entries if e["case"].get("model") == entries[0]["case"].get("model")]
    return {
        f"{mine['case']['name']} / {other['case']['name']}": mine["rate"] / other["rate"]
        for other in entries
        for mine in own
        if other not in own and sizes(mine) == sizes(other)
    }


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(entry: Mapping[str, Any]) -> list[str]:
    def cell(name: str, digits: int = 0) -> str:
        return f"{entry[name]:,.{digits}f}" if name in entry else ""

    return [
        entry["case"]["name"],
        cell("rate"),
        cell("rate_min"),
        cell("rate_max"),
        cell("turns"),
        cell("cpu_ms", 1),
        cell("p50_ms", 2),
        cell("p99_ms", 2),
        cell("seconds_to_first_step", 1),
        cell("peak_mib"),
        cell("step_mib"),
        cell("events_per_second"),
        cell("tensors_mib"),
        cell("p999_ms", 2),
    ]


def _processor() -> str:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or "unknown processor"
