"""Measures training, scoring, reading and preparing: `python -m experiments.benchmark --output_dir=D`.

Writes `benchmark.json` and `benchmark.md` and prints the latter. Every case runs in a process of its
own (so that its peak memory is its own), the cases of one block take turns, round after round, and
a row gives the median over the rounds with the smallest and the largest. Absolute figures depend on
the other load of the machine; ratios within a block hardly do.

"Same work" is: 128 examples a step, each with a full history; item and category embedded, the
user's id in the head; float32; attention, recurrences and tower of the sizes that the authors
released; forward, backward and an Adam update. `released` is the authors' code's model and `paper`
the papers' equations. In `64x2` two candidates share one encoded user; in `128x1`, as in the authors'
code and the peers, every candidate has its own. `fit` is the training step's `64x2` through `model.fit`
from records on disk, the shuffling and parsing, DIEN's sampling of negatives, the start of the epoch and
Keras's loop included.

`--workload=long` has other sizes: 1,024 examples a step, histories of 500, a million items. The part
`batch` scores such batches, histories included. For the models of long histories:

    python -m experiments.benchmark --output_dir=D --workload=long --parts=train,batch --records=0 \\
        --variants=paper --models=din_long,sim_hard,sim_soft,eta,sdim,twin

`--workload=memory` is that of MIMN, of which `mimn_plain` is the memory alone and `mimn_full` all parts:

    python -m experiments.benchmark --output_dir=D --workload=memory --parts=train,score,batch --records=0 \\
        --models=mimn_plain,mimn_full

The part `request` answers requests end to end, with histories of `--request_histories` events in a
behavior index where the model searches by an attribute, and in stored states elsewhere:

    python -m experiments.benchmark --output_dir=D --workload=long --parts=request --variants=paper \\
        --models=sim_hard,sdim,mimn

The part `service` asks for the same over HTTP, `--service_clients` in a closed loop, by user and with histories
in the requests; the rate is in requests/s:

    python -m experiments.benchmark --output_dir=D --workload=long --parts=service --variants=paper \\
        --models=din_long,sim_hard,mimn --request=500 --request_histories=10000 --together

The part `center` sends events through the User Interest Center into LMDB, in micro-batches and, for
the latencies, one by one; `rate_a_core` is the throughput of one core:

    python -m experiments.benchmark --output_dir=D --workload=long --parts=center --variants=paper \\
        --models=mimn_full

The part `extract` encodes all of `--records` users into LMDB, by a model's weights and by an export of it,
whose batch size is open, so that nothing is compiled; the rate is in users/s after the first batch, most
of whose time is compiling:

    python -m experiments.benchmark --output_dir=D --workload=clusters --parts=extract --variants=paper \\
        --models=encode

`--workload=groups` is that of DGIN: 256 examples a step, histories of 10,000 events of about 300 items.
Grouping is measured apart (`condense`, in events/s), since it is part of reading; `step MiB` is the memory
of a step beside tables, slots, batches and graphs, with freed memory that its allocator keeps.
`--live_tensors` measures, in a process of its own, the peak size of live tensors, whatever the allocator.
With `--together` the models take turns with each other, and ratios compare the first with the others:

    python -m experiments.benchmark --output_dir=D --workload=groups --parts=train,request --records=0 \\
        --variants=paper --models=dgin,din_long,sim_hard --request=500 --together --live_tensors

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

from dgin_tf.commands import command_line
from dgin_tf.ownership import claim, make_folder
from dgin_tf.schema import write_text
from experiments.benchmarking import peer_environment, preparation, report, workers
from experiments.benchmarking.cases import (
    CENTER,
    CONDENSE,
    EXPORT,
    EXTRACT,
    FIT,
    READ,
    REQUEST,
    SCORE,
    SERVICE,
    STEP,
    Case,
)
from experiments.benchmarking.workload import (
    WORKLOADS,
    Workload,
    draw_batches,
    save_batches,
    write_data_set,
)

PARTS = ("train", "score", "batch", "request", "service", "center", "extract", "read", "prepare")
DEFAULT_PARTS = ("train", "score", "read", "prepare")
READ_CANDIDATES = (10, 2)
_DRAWN_EVENTS = 33_000_000  # of all batches of a file

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of the results.", required=True)
_PARTS = flags.DEFINE_list(
    "parts", list(DEFAULT_PARTS), f"Parts to measure, of {', '.join(PARTS)}."
)
_MODELS = flags.DEFINE_list("models", ["din", "dien"], "Models to train and to score with.")
_VARIANTS = flags.DEFINE_list("variants", ["released", "paper"], "Variants of them.")
_LIVE_TENSORS = flags.DEFINE_boolean(
    "live_tensors", False, "Measure the peak size of the live tensors of a training step."
)
_TOGETHER = flags.DEFINE_boolean(
    "together", False, "Let the cases of all models take turns, to compare models with each other."
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of every case.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 2.0, "Length of a turn.", lower_bound=0.0)
_PEER = flags.DEFINE_enum("peer", "", ["", workers.PEER], "Measure another library by turns.")
_PEER_DIR = flags.DEFINE_string(
    "peer_dir", "", "Its virtual environment, created when missing; by default in --output_dir."
)
_WORKLOAD = flags.DEFINE_enum(
    "workload", "amazon", list(WORKLOADS), "Sizes, where no flag says otherwise."
)
flags.DEFINE_alias("shape", "workload")  # as older checkouts call it, see compare_versions
_SIZES = {  # None: those of the workload
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
    "request_histories", ["1000", "54000"], "Events of a history, requests end to end."
)
_SERVICE_CLIENTS = flags.DEFINE_list(
    "service_clients", ["1", "8", "64"], "Clients of a service at a time."
)
_READ_HISTORY = flags.DEFINE_integer("read_history", 1_000, "Events of a history, reading.")
_READ_RECORDS = flags.DEFINE_integer("read_records", 16_384, "User records, reading.")
_STEPS_PER_EXECUTION = flags.DEFINE_integer("steps_per_execution", 16, "Of model.fit.")
_CENTER_EVENTS = flags.DEFINE_integer("center_events", 1_024, "Events of a micro-batch.", 1)
_EXTRACT_USERS = flags.DEFINE_integer("extract_users", 256, "Users extracted at a time.", 1)
_CENTER_USERS = flags.DEFINE_integer("center_users", 20_000, "Users of the center's events.", 1)
_PREPARE_ROWS = flags.DEFINE_integer("prepare_rows", 2_000_000, "Rows of the log to prepare.")
_PREPARE_RUNS = flags.DEFINE_integer("prepare_runs", 1, "How often it is prepared.")
_PREPARE_PROTOCOLS = flags.DEFINE_list(
    "prepare_protocols", ["last_event"], "Protocols by which it is prepared, by turns."
)


class Benchmark:
    """One run of the benchmark.

    Args:
      workload: sizes of the data.
      output_dir: for results, logs and data.
      peer_python: the peer's interpreter; empty for no peer.
    """

    def __init__(self, workload: Workload, output_dir: pathlib.Path, peer_python: str):
        self.workload = workload
        self.output_dir = output_dir
        self.peer_python = peer_python
        self.data_dir = output_dir / "data"
        self.data_dir.mkdir(parents=True, exist_ok=True)

    def train(self, model: str, variant: str) -> list[Case]:
        """The training step with shared users and without, training from records, and the peer."""
        pairs, single = self._whole_batches(f"{model} {variant} step", STEP, model, variant)
        if _LIVE_TENSORS.value:
            pairs, single = (dataclasses.replace(c, counts_tensors=True) for c in (pairs, single))
        cases = [pairs, single]
        if pairs.condenses:
            name = pairs.name.replace(STEP, CONDENSE)
            cases.append(dataclasses.replace(pairs, name=name, kind=CONDENSE))
        if _RECORDS.value:
            fit = dataclasses.replace(
                pairs,
                name=f"{model} {variant} fit {pairs.users}x2 from records",
                kind=FIT,
                data=self._records(_RECORDS.value, 2, self.workload),
                steps_per_execution=_STEPS_PER_EXECUTION.value,
            )
            cases.append(fit)
        if self.peer_python and variant == "released":  # the peer follows the authors' code
            peer = dataclasses.replace(
                single, name=f"{model} {workers.PEER} {self.workload.batch}x1", kind=workers.PEER
            )
            cases.append(self._with_batches(peer))
        return cases

    def score(self, model: str, variant: str) -> list[Case]:
        """One user's candidates, with the user's state cached and without."""
        count = _REQUEST.value
        name = f"{model} {variant} score 1x{count}"
        cold = Case(f"{name}, no state", SCORE, model, variant, users=1, candidates=count)
        warm = dataclasses.replace(cold, name=f"{name}, state cached", has_state=True)
        return [self._with_batches(cold), self._with_batches(warm)]

    def batch(self, model: str, variant: str) -> list[Case]:
        """Whole batches to score without states, with shared users and without."""
        return self._whole_batches(f"{model} {variant} score", SCORE, model, variant)

    def request(self, model: str, variant: str) -> list[Case]:
        """Requests end to end, short histories and long ones by turns."""
        count = _REQUEST.value
        cases = []
        for events in map(int, _REQUEST_HISTORIES.value):
            name = f"{model} {variant} request 1x{count}, {events:,} events"
            case = Case(name, REQUEST, model, variant, users=1, candidates=count, history=events)
            # Models share the data set and the index; a folder holds an export of each.
            folder = self.data_dir / f"requests-{self.workload.items}-{variant}-history-{events}"
            cases.append(dataclasses.replace(case, data=str(folder), seconds=_SECONDS.value))
        return cases

    def service(self, model: str, variant: str) -> list[Case]:
        """Requests over HTTP from several clients, by user and with histories."""
        cases = []
        for case in self.request(model, variant):
            for clients in map(int, _SERVICE_CLIENTS.value):
                sizes = f"{case.candidates} candidates, {case.history:,} events, {clients} clients"
                for has_state in (True, False):
                    by = "by user" if has_state else "with histories"
                    name = f"{model} {variant} service, {sizes}, {by} (requests/s)"
                    case = dataclasses.replace(case, name=name, kind=SERVICE, users=clients)
                    cases.append(dataclasses.replace(case, has_state=has_state))
        return cases

    def center(self, model: str, variant: str) -> list[Case]:
        """Events through the User Interest Center: parsing, update, commit of LMDB."""
        case = Case(
            f"{model} {variant} center, batches of {_CENTER_EVENTS.value} (events/s)",
            CENTER,
            model,
            variant,
            users=min(_CENTER_USERS.value, self.workload.users - 2),  # without the reserved ids
            candidates=_CENTER_EVENTS.value,
            data=self._records(self.workload.batch, 2, self.workload),
            seconds=_SECONDS.value,
        )
        return [case]

    def extract(self, model: str, variant: str) -> list[Case]:
        """States of all users into LMDB, by the model and by an export."""
        users, data = _EXTRACT_USERS.value, self._records(_RECORDS.value, 2, self.workload)
        return [
            Case(
                f"{model} {variant} {kind}, {users} (users/s)",
                kind,
                model,
                variant,
                users,
                data=data,
            )
            for kind in (EXTRACT, EXPORT)
        ]

    def blocks(
        self, title: str, cases: Callable[[str, str], list[Case]], together: bool
    ) -> dict[str, list[dict[str, Any]]]:
        """Measures the cases of all models, those of one model by turns or all of them."""
        groups = {f"{m} {v}": cases(m, v) for m in _MODELS.value for v in _VARIANTS.value}
        if together:  # one block for all, whose cases take turns
            groups = {", ".join(groups): [case for part in groups.values() for case in part]}
        return {f"{title}, {name}": self._measure(part) for name, part in groups.items()}

    def read(self) -> list[dict[str, Any]]:
        """Long histories from records, without a model."""
        workload = dataclasses.replace(self.workload, history=_READ_HISTORY.value)
        users = self.workload.batch
        cases = [
            Case(
                f"read history {workload.history}, {users}x{candidates}",
                READ,
                users=users,
                candidates=candidates,
                data=self._records(_READ_RECORDS.value, candidates, workload),
            )
            for candidates in READ_CANDIDATES
        ]
        return self._measure(cases, workload)

    def prepare(self) -> list[dict[str, Any]]:
        """A synthetic log to records, by one protocol or by several in turns."""
        rows, protocols = _PREPARE_ROWS.value, _PREPARE_PROTOCOLS.value
        log = self.data_dir / f"log-{rows}-{self.workload.seed}.csv"
        name = f"prepare {rows:,} rows (rows/s)"
        names = [name, *(f"{name} {protocol}" for protocol in protocols[1:])]
        try:
            preparation.write_log(log, rows, self.workload.seed)
            figures = preparation.measure_preparations(
                log, rows, self.data_dir / "prepared", protocols, _PREPARE_RUNS.value
            )
        except workers.WorkerFailedError as error:
            return [{"case": {"name": name}, "error": str(error)}]
        return [
            {"case": {"name": name}} | figures[protocol]
            for name, protocol in zip(names, protocols, strict=True)
        ]

    def _whole_batches(self, name: str, kind: str, model: str, variant: str) -> list[Case]:
        """A batch whose users have two candidates each, and one whose users have one."""
        # Both have as many examples; only in the first do two candidates share an encoded user.
        sizes = ((self.workload.batch // 2, 2), (self.workload.batch, 1))
        return [
            self._with_batches(
                Case(f"{name} {users}x{n}", kind, model, variant, users=users, candidates=n)
            )
            for users, n in sizes
        ]

    def _measure(self, cases, workload=None):
        return workers.measure(
            cases,
            workload or self.workload,
            _ROUNDS.value,
            self.output_dir / "logs",
            self.peer_python,
        )

    def _with_batches(self, case: Case) -> Case:
        """The case with its file of random batches, which cases of the same sizes share."""
        negatives = case.kind != SCORE and case.samples_negatives
        suffix = "-negatives" if negatives else ""
        sizes = f"{case.users}x{case.candidates}-history-{self.workload.history}"
        path = self.data_dir / f"batches-{sizes}{suffix}.npz"
        if not path.is_file():
            # Several batches, so that lookups do not find the same rows in the caches every time.
            count = 8 if case.kind == SCORE else 32
            count = max(2, min(count, _DRAWN_EVENTS // (case.users * self.workload.history)))
            save_batches(
                path, draw_batches(self.workload, count, case.users, case.candidates, negatives)
            )
        return dataclasses.replace(case, data=str(path), seconds=_SECONDS.value)

    def _records(self, users: int, candidates: int, workload: Workload) -> str:
        folder = self.data_dir / f"records-{users}x{candidates}-history-{workload.history}"
        if not (folder / "manifest.json").is_file():
            write_data_set(workload, folder, users, candidates)
        return str(folder)


def main(_) -> None:
    """Runs the parts of `--parts` and writes the report."""
    unknown = sorted(set(_PARTS.value) - set(PARTS))
    if unknown:
        raise ValueError(f"--parts takes {', '.join(PARTS)}; got {', '.join(unknown)}.")
    if "extract" in _PARTS.value and not _RECORDS.value:
        raise ValueError("the part extract expects --records above 0, users to extract; got 0.")
    sizes = {name: flag.value for name, flag in _SIZES.items() if flag.value is not None}
    workload = dataclasses.replace(WORKLOADS[_WORKLOAD.value], **sizes)
    output_dir = make_folder(_OUTPUT_DIR.value).resolve()
    claim(output_dir, "results of a benchmark", ["benchmark.json", "benchmark.md", "data", "logs"])
    peer_python = ""
    if _PEER.value:
        folder = pathlib.Path(_PEER_DIR.value or output_dir / "peer").resolve()
        peer_python = peer_environment.ensure(_PEER.value, folder)
    machine = report.machine()  # first: the load average is that without the benchmark
    run = Benchmark(workload, output_dir, peer_python)
    parts: dict[str, list[dict[str, Any]]] = {}
    for part, title, cases in (
        ("train", "Training", run.train),
        ("score", "Scoring", run.score),
        ("batch", "Scoring batches", run.batch),
        ("request", "Requests", run.request),
        ("service", "Service", run.service),
        ("center", "Interest center", run.center),
        ("extract", "Extraction", run.extract),
    ):
        if part in _PARTS.value:
            parts |= run.blocks(title, cases, _TOGETHER.value)
    if "read" in _PARTS.value:
        parts["Reading"] = run.read()
    if "prepare" in _PARTS.value:
        parts["Preparing"] = run.prepare()
    result = {
        "machine": machine,
        "workload": dataclasses.asdict(workload),
        "rounds": _ROUNDS.value,
        "parts": parts,
        "ratios": report.ratios(parts),
    }
    write_text(output_dir / "benchmark.json", json.dumps(result, indent=2) + "\n")
    text = report.markdown(result)
    write_text(output_dir / "benchmark.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    command_line.run(main)
