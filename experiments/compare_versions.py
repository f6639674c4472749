"""Compares the speed of two checkouts by turns: `python -m experiments.compare_versions --before=PATH`.

Each turn runs `experiments.benchmark` once in the other checkout and once in this one, every case in a
process of its own, so that a machine that slows down slows both. Writes `<name>.json` and `<name>.md`:
medians of CPU ms a step over the turns, the ratio turn by turn, and whether first losses agree.

    python -m experiments.compare_versions --before=../before --output_dir=D --turns=5 \\
        --models=dien,mimn,dgin --parts=train

The benchmark's histories are all of one length. With `--data_dir`, prepared data that both versions read, a
turn is an epoch of `experiments.train` over these instead, for every config of `--configs`:

    python -m experiments.compare_versions --before=../before --output_dir=D --turns=3 --data_dir=P \\
        --name=benchmark_versions_mixed --configs=experiments/dien/movielens.py:din,...
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from dgin_tf.commands import command_line
from dgin_tf.ownership import claim
from dgin_tf.schema import write_text
from experiments.benchmarking.epochs import compare_epochs, epochs_to_markdown
from experiments.running import runs

_BEFORE = flags.DEFINE_string("before", None, "Checkout to compare with.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of the results.", required=True)
_NAME = flags.DEFINE_string("name", "benchmark_versions", "Of the two files.")
_TURNS = flags.DEFINE_integer("turns", 5, "How often each side runs.", lower_bound=1)
_MODELS = flags.DEFINE_list("models", ["dien", "mimn", "sim_soft"], "Models to measure.")
_WORKLOAD = flags.DEFINE_string("workload", "amazon", "Sizes, see experiments.benchmark.")
_PARTS = flags.DEFINE_string("parts", "train", "Parts, see experiments.benchmark.")
_SECONDS = flags.DEFINE_float("seconds", 3.0, "Length of a turn of a case.", lower_bound=0.0)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data, for epochs of --configs.")
_CONFIGS = flags.DEFINE_list(
    "configs", [], "Configs of experiments.train, with --data_dir; in both checkouts."
)
_ROOT = pathlib.Path(__file__).resolve().parent.parent


def main(_: object) -> None:
    """Runs the turns and writes the comparison."""
    before, output_dir = pathlib.Path(_BEFORE.value).resolve(), pathlib.Path(_OUTPUT_DIR.value)
    if not (before / "experiments" / "benchmark.py").is_file():
        raise FileNotFoundError(
            f"expected a checkout of this project in {os.fspath(before)!r}, found no "
            "experiments/benchmark.py; git clone it there and check out the version to compare with."
        )
    names = [f"{_NAME.value}.json", f"{_NAME.value}.md", "turns"]
    claim(output_dir, "a comparison of two versions", names)
    if _CONFIGS.value and not _DATA_DIR.value:
        raise ValueError("--configs are trained on --data_dir; give it, or --models alone.")
    commits = {"before": _commit(before), "after": _commit(_ROOT)}
    if _DATA_DIR.value:
        data_dir = pathlib.Path(_DATA_DIR.value).resolve()
        cases = compare_epochs((before, _ROOT), data_dir, _CONFIGS.value, _TURNS.value)
        content = {"machine": runs.machine(), "versions": runs.versions(), "commits": commits}
        content["cases"] = cases
        text = epochs_to_markdown(content)
    else:
        content = {"commits": commits, **_compare_steps(before, output_dir)}
        text = to_markdown(content)
    write_text(output_dir / f"{_NAME.value}.json", json.dumps(content, indent=2) + "\n")
    write_text(output_dir / f"{_NAME.value}.md", text)
    sys.stdout.write(text)


def _compare_steps(before: pathlib.Path, output_dir: pathlib.Path) -> dict[str, Any]:
    """The benchmark's cases of both sides by turns, with machine and workload."""
    sides: dict[str, list[dict[str, Any]]] = {"before": [], "after": []}
    for turn in range(_TURNS.value):
        for side, root in (("before", before), ("after", _ROOT)):
            folder = (output_dir / "turns" / f"{side}-{turn}").resolve()
            sides[side].append(_run(root, folder))
    first = sides["after"][0]
    return {"machine": first["machine"], "workload": first["workload"], "cases": _compare(sides)}


def to_markdown(content: Mapping[str, Any]) -> str:
    """A table with a row for every case that both versions have."""
    commits, machine = content["commits"], content["machine"]
    lines = [
        "# Two versions by turns",
        "",
        f"{machine['processor']}, {machine['cores']} cores; TensorFlow "
        f"{machine['versions']['tensorflow']}. Before is {commits['before']}, after {commits['after']}; "
        "medians over the turns, the ratio turn by turn.",
        "",
        "| case | CPU ms/step before | after | after / before | min | max | turns | first losses |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, case in content["cases"].items():
        before, after, ratios = case["before"], case["after"], case["ratios"]
        lines.append(
            f"| {name} | {statistics.median(before):.1f} | {statistics.median(after):.1f} | "
            f"{statistics.median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} | {len(ratios)} | "
            f"{'equal' if case['first_losses_agree'] else 'differ'} |"
        )
    return "\n".join(lines) + "\n"


def _run(root: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
    """Results of one run of the benchmark in a checkout."""
    arguments = {
        "output_dir": folder,
        "models": ",".join(_MODELS.value),
        "parts": _PARTS.value,
        "shape": _WORKLOAD.value,  # versions until 0.5 do not know it as workload
        "seconds": _SECONDS.value,
        "variants": "paper",
        "rounds": 1,
        "records": 0,
    }
    command = [sys.executable, "-m", "experiments.benchmark"]
    command += [f"--{name}={value}" for name, value in arguments.items()]
    done = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.fspath(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(
            f"the benchmark of {os.fspath(root)!r} failed: {done.stderr.strip()[-400:]}"
        )
    return json.loads((folder / "benchmark.json").read_text())


def _compare(sides: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """CPU ms of every case that both sides have, turn by turn."""
    cases: dict[str, Any] = {}
    by_name = {side: [_by_name(result) for result in results] for side, results in sides.items()}
    for name in by_name["before"][0]:
        if name not in by_name["after"][0]:
            continue
        before, after = (
            [turn[name]["cpu_ms"] for turn in by_name[side]] for side in ("before", "after")
        )
        first, second = (
            by_name[side][0][name].get("first_loss", 0.0) for side in ("before", "after")
        )
        cases[name] = {
            "before": before,
            "after": after,
            "ratios": [new / old for old, new in zip(before, after, strict=True)],
            "first_losses": [first, second],
            "first_losses_agree": abs(first - second) < 1e-4,
        }
    return cases


def _by_name(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {row["case"]["name"]: row for rows in result["parts"].values() for row in rows}


def _commit(root: pathlib.Path) -> str:
    """Short name of a checkout's commit, `unknown` outside git."""
    done = subprocess.run(
        ["git", "-C", os.fspath(root), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    command_line.run(main)
