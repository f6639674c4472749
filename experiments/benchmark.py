"""Measures training, scoring, reading and preparing: `python -m experiments.benchmark --output_dir=D`.

Writes `benchmark.json` and `benchmark.md` and prints the latter. Every case runs in a process of its
own (so that its peak memory is its own), the cases of one block take turns, round after round, and
a row gives the median over the rounds with the smallest and the largest. Absolute figures depend on
what else the machine does; ratios within a block hardly do.

"Same work" is: 128 examples a step, each with a full history; item and category embedded, the
user's id in the head; float32; attention, recurrences and tower of the sizes that the authors
released; forward, backward and an Adam update. `released` is the authors' code's model and `paper`
the papers' equations. `64x2` lets two candidates share one encoded user, `128x1` shares nothing,
as the authors' code and the peers do. `fit` is the training step's `64x2` through `model.fit` from
records on disk, the shuffling and parsing, DIEN's sampling of non-clicks, the start of the epoch and
Keras's loop included.

`--shape=long` is another block of sizes: 1,024 examples a step, histories of 500, a million items. The
part `batch` scores such batches, the histories encoded anew. For the models of long histories:

    python -m experiments.benchmark --output_dir=D --shape=long --parts=train,batch --records=0 \\
        --variants=paper --models=din_long,sim_hard,sim_soft,eta,sdim,twin

`--shape=groups` is DGIN's: 256 examples a step, histories of 10,000 events of about 300 items. What its
batches are condensed to is measured apart (`condense`, in `events_per_second`), for it happens where
records are read; `step_mib` is what a step holds beside tables, slots and batches:

    python -m experiments.benchmark --output_dir=D --shape=groups --parts=train --records=0 \\
        --variants=paper --models=dgin,din_long --together
    python -m experiments.benchmark --output_dir=D --shape=groups --parts=request --request=500 \\
        --variants=paper --models=sim_hard,dgin --together

With `--peer=deepctr`, DeepCTR is installed from PyPI into an environment of its own and runs the
same batches by turns with ours.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from dgin_tf import command_line
from dgin_tf.schema import write_text
from experiments.benchmarking import peer_environment, preparation, report, workers
from experiments.benchmarking.cases import CONDENSE, FIT, READ, REQUEST, SCORE, STEP, Case
from experiments.benchmarking.shape import (
    SHAPES,
    Shape,
    draw_batches,
    save_batches,
    write_data_set,
)

PARTS = ("train", "score", "request", "batch", "read", "prepare")
DEFAULT_PARTS = ("train", "score", "read", "prepare")
READ_CANDIDATES = (10, 2)
_REQUEST_USERS = 64
_DRAWN_EVENTS = 17_000_000  # of all batches of a file

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of the results.", required=True)
_PARTS = flags.DEFINE_list("parts", list(DEFAULT_PARTS), f"What to measure, of {', '.join(PARTS)}.")
_MODELS = flags.DEFINE_list("models", ["din", "dien"], "Models to train and to score with.")
_VARIANTS = flags.DEFINE_list("variants", ["released", "paper"], "Variants of them.")
_TOGETHER = flags.DEFINE_boolean(
    "together", False, "Let the cases of all models take turns, to compare models with each other."
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of every case.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 2.0, "Length of a turn.", lower_bound=0.0)
_PEER = flags.DEFINE_enum("peer", "", ["", workers.PEER], "Measure another library by turns.")
_PEER_DIR = flags.DEFINE_string(
    "peer_dir", "", "Its virtual environment, made when missing; by default in --output_dir."
)
_SHAPE = flags.DEFINE_enum("shape", "amazon", list(SHAPES), "Sizes, where no flag says otherwise.")
_SIZES = {
    "items": flags.DEFINE_integer("items", None, "Item ids.", lower_bound=4),
    "categories": flags.DEFINE_integer("categories", None, "Category ids.", lower_bound=4),
    "users": flags.DEFINE_integer("users", None, "User ids.", lower_bound=4),
    "history": flags.DEFINE_integer("history", None, "Events of a history.", lower_bound=2),
    "batch": flags.DEFINE_integer("batch", None, "Examples in a batch.", lower_bound=2),
    "seed": flags.DEFINE_integer("seed", None, "Of ids and weights."),
}
_RECORDS = flags.DEFINE_integer("records", 16_384, "User records to train on; 0 for no such case.")
_REQUEST = flags.DEFINE_integer("request", 1_000, "Candidates of a request.")
_REQUEST_HISTORIES = flags.DEFINE_list(
    "request_histories", ["1000", "10000", "54000"], "Events of a history, of the part `request`."
)
_READ_HISTORY = flags.DEFINE_integer("read_history", 1_000, "Events of a history, reading.")
_READ_RECORDS = flags.DEFINE_integer("read_records", 16_384, "User records, reading.")
_STEPS_PER_EXECUTION = flags.DEFINE_integer("steps_per_execution", 16, "Of model.fit.")
_PREPARE_ROWS = flags.DEFINE_integer("prepare_rows", 2_000_000, "Rows of the log to prepare.")
_PREPARE_RUNS = flags.DEFINE_integer("prepare_runs", 1, "How often it is prepared.")


class Benchmark:
    """One run of the benchmark.

    Args:
      shape: sizes of the data.
      output_dir: where results, logs and the data to measure on go.
      peer_python: the peer's interpreter; empty for no peer.
    """

    def __init__(self, shape: Shape, output_dir: pathlib.Path, peer_python: str):
        self.shape = shape
        self.output_dir = output_dir
        self.peer_python = peer_python
        self.data_dir = output_dir / "data"
        self.data_dir.mkdir(parents=True, exist_ok=True)

    def train(self, model: str, variant: str) -> list[Case]:
        """The training step, shared and not, training from records, and the peer."""
        shared, single = self._whole_batches(f"{model} {variant} step", STEP, model, variant)
        cases = [shared, single]
        if shared.condenses:
            name = shared.name.replace(STEP, CONDENSE)
            cases.append(dataclasses.replace(shared, name=name, kind=CONDENSE))
        if _RECORDS.value:
            fit = dataclasses.replace(
                shared,
                name=f"{model} {variant} fit {shared.users}x2 from records",
                kind=FIT,
                data=self._records(_RECORDS.value, 2, self.shape),
                steps_per_execution=_STEPS_PER_EXECUTION.value,
            )
            cases.append(fit)
        if self.peer_python and variant == "released":
            peer = dataclasses.replace(
                single, name=f"{model} {workers.PEER} {self.shape.batch}x1", kind=workers.PEER
            )
            cases.append(self._with_batches(peer))
        return cases

    def score(self, model: str, variant: str) -> list[Case]:
        """One user's candidates, with the user's state at hand and without."""
        count = _REQUEST.value
        name = f"{model} {variant} score 1x{count}"
        cold = Case(f"{name}, no state", SCORE, model, variant, users=1, candidates=count)
        cached = dataclasses.replace(cold, name=f"{name}, state cached", has_state=True)
        return [self._with_batches(cold), self._with_batches(cached)]

    def request(self, model: str, variant: str) -> list[Case]:
        """Candidates of people whose histories are in a behaviour index, short ones and long ones."""
        cases = []
        for history in _REQUEST_HISTORIES.value:
            shape = dataclasses.replace(self.shape, history=int(history))
            name = f"{model} {variant} request 1x{_REQUEST.value}, {history} events"
            case = Case(name, REQUEST, model, variant, users=1, candidates=_REQUEST.value)
            data = self._records(_REQUEST_USERS, 2, shape)
            cases.append(dataclasses.replace(case, data=data, seconds=_SECONDS.value))
        return cases

    def batch(self, model: str, variant: str) -> list[Case]:
        """Whole batches to score, shared and not, no state at hand."""
        return self._whole_batches(f"{model} {variant} score", SCORE, model, variant)

    def blocks(
        self, title: str, cases: Callable[[str, str], list[Case]], together: bool
    ) -> dict[str, list[dict[str, Any]]]:
        """Measures the cases of all models, those of one model by turns or all of them."""
        chosen = {f"{m} {v}": cases(m, v) for m in _MODELS.value for v in _VARIANTS.value}
        if together:
            chosen = {", ".join(chosen): [case for part in chosen.values() for case in part]}
        return {f"{title}, {name}": self._measure(part) for name, part in chosen.items()}

    def read(self) -> list[dict[str, Any]]:
        """Long histories from records, without a model."""
        shape = dataclasses.replace(self.shape, history=_READ_HISTORY.value)
        users = self.shape.batch
        cases = [
            Case(
                f"read history {shape.history}, {users}x{candidates}",
                READ,
                users=users,
                candidates=candidates,
                data=self._records(_READ_RECORDS.value, candidates, shape),
            )
            for candidates in READ_CANDIDATES
        ]
        return self._measure(cases, shape)

    def prepare(self) -> list[dict[str, Any]]:
        """A synthetic log to records."""
        rows = _PREPARE_ROWS.value
        log = self.data_dir / f"log-{rows}-{self.shape.seed}.csv"
        entry: dict[str, Any] = {"case": {"name": f"prepare {rows:,} rows (rows/s)"}}
        try:
            preparation.write_log(log, rows, self.shape.seed)
            entry |= preparation.measure_preparation(
                log, rows, self.data_dir / "prepared", _PREPARE_RUNS.value
            )
        except workers.WorkerFailedError as error:
            entry["error"] = str(error)
        return [entry]

    def _whole_batches(self, name: str, kind: str, model: str, variant: str) -> list[Case]:
        """A batch whose users have two candidates each, and one whose users have one."""
        sizes = ((self.shape.batch // 2, 2), (self.shape.batch, 1))
        return [
            self._with_batches(
                Case(f"{name} {users}x{n}", kind, model, variant, users=users, candidates=n)
            )
            for users, n in sizes
        ]

    def _measure(self, cases, shape=None):
        return workers.measure(
            cases, shape or self.shape, _ROUNDS.value, self.output_dir / "logs", self.peer_python
        )

    def _with_batches(self, case: Case) -> Case:
        """The case with its file of random batches, drawn once and shared by all who want them."""
        negatives = case.kind != SCORE and case.samples_negatives
        suffix = "-negatives" if negatives else ""
        sizes = f"{case.users}x{case.candidates}-history-{self.shape.history}"
        path = self.data_dir / f"batches-{sizes}{suffix}.npz"
        if not path.is_file():
            count = 8 if case.kind == SCORE else 32
            count = max(2, min(count, _DRAWN_EVENTS // (case.users * self.shape.history)))
            save_batches(
                path, draw_batches(self.shape, count, case.users, case.candidates, negatives)
            )
        return dataclasses.replace(case, data=str(path), seconds=_SECONDS.value)

    def _records(self, users: int, candidates: int, shape: Shape) -> str:
        folder = self.data_dir / f"records-{users}x{candidates}-history-{shape.history}"
        if not (folder / "manifest.json").is_file():
            write_data_set(shape, folder, users, candidates)
        return str(folder)


def ratios(parts: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """What is to be compared: ours over the peer, and training from records over the step alone."""
    rates = {e["case"]["name"]: e["rate"] for part in parts.values() for e in part if "rate" in e}
    found: dict[str, float] = {}
    for entries in parts.values():
        names = [entry["case"]["name"] for entry in entries if "rate" in entry]
        steps = [name for name in names if " step " in name]
        for name in names:
            if workers.PEER in name:
                found |= {f"{step} / {name}": rates[step] / rates[name] for step in steps}
            elif " fit " in name and steps:
                found[f"{name} / {steps[0]}"] = rates[name] / rates[steps[0]]
            elif "state cached" in name:
                cold = name.replace("state cached", "no state")
                if cold in rates:
                    found[f"{name} / {cold}"] = rates[name] / rates[cold]
        found |= _rivals([entry for entry in entries if "rate" in entry])
    return found


def _rivals(entries: list[dict[str, Any]]) -> dict[str, float]:
    """The first model over every other one of the block, in the cases that both have."""

    def what(entry):
        case = entry["case"]
        names = ("kind", "variant", "users", "candidates", "has_state")
        return [case["name"].removeprefix(str(case.get("model"))), *map(case.get, names)]

    own = [e for e in entries if e["case"].get("model") == entries[0]["case"].get("model")]
    return {
        f"{mine['case']['name']} / {other['case']['name']}": mine["rate"] / other["rate"]
        for other in entries
        for mine in own
        if other not in own and what(mine) == what(other)
    }


def main(_) -> None:
    """Runs the chosen parts and writes the report."""
    unknown = sorted(set(_PARTS.value) - set(PARTS))
    if unknown:
        raise ValueError(f"--parts takes {', '.join(PARTS)}; got {', '.join(unknown)}.")
    given = {name: flag.value for name, flag in _SIZES.items() if flag.value is not None}
    shape = dataclasses.replace(SHAPES[_SHAPE.value], **given)
    output_dir = pathlib.Path(_OUTPUT_DIR.value).resolve()
    output_dir.mkdir(parents=True, exist_ok=True)
    peer_python = ""
    if _PEER.value:
        folder = pathlib.Path(_PEER_DIR.value or output_dir / "peer").resolve()
        peer_python = peer_environment.ensure(_PEER.value, folder)
    machine = report.machine()
    run = Benchmark(shape, output_dir, peer_python)
    parts: dict[str, list[dict[str, Any]]] = {}
    for part, title, cases in (
        ("train", "Training", run.train),
        ("score", "Scoring", run.score),
        ("request", "Requests", run.request),
        ("batch", "Scoring batches", run.batch),
    ):
        if part in _PARTS.value:
            parts |= run.blocks(title, cases, _TOGETHER.value)
    if "read" in _PARTS.value:
        parts["Reading"] = run.read()
    if "prepare" in _PARTS.value:
        parts["Preparing"] = run.prepare()
    result = {
        "machine": machine,
        "shape": dataclasses.asdict(shape),
        "rounds": _ROUNDS.value,
        "parts": parts,
        "ratios": ratios(parts),
    }
    write_text(output_dir / "benchmark.json", json.dumps(result, indent=2) + "\n")
    text = report.markdown(result)
    write_text(output_dir / "benchmark.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    command_line.run(main)
