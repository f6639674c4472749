"""No command deletes or overwrites what it did not write.

`CASES` has a line for every flag that names an output. Each is run where somebody else's file has the name
of one of its outputs, and where the output's folder is a file or a link to nothing.
"""

import dataclasses
import os
import re

import pytest

from tests.forked_commands import ROOT

MINE = b"years of work"


@dataclasses.dataclass(frozen=True)
class Case:
    """A command, its flags, and what it writes.

    Attributes:
      module: of the command.
      flags: that name outputs, separated by blanks; `{out}` is the test's folder.
      names: of outputs in that folder, for which a file of somebody else's stands.
      inputs: other flags; `{world}` is the folder of `conftest.world`.
    """

    module: str
    flags: str
    names: tuple[str, ...]
    inputs: str = ""

    def arguments(self, out, world):
        text = f"{self.flags} {self.inputs}"
        return [flag.format(out=out, world=world, root=ROOT) for flag in text.split()]


DATA = "--data_dir={world}/data"
CONFIG = "--config=experiments/running/defaults.py:din"
LOG = "--dataset=taobao --input={world}/events.csv --workers=1 --noprogress"
RUN = ("config.json", "result.json", "checkpoints", "tensorboard")
CASES = (
    Case(
        "data_prep.synthetic",
        "--output={out}/log.csv",
        ("log.csv", "log.csv.truth.npz"),
        "--users=20 --events=400",
    ),
    Case(
        "data_prep.prepare",
        "--output_dir={out}",
        ("vocabulary/mine.txt", "report.html", "train/x.tfrecord", "manifest.json", "notes"),
        LOG,
    ),
    Case(
        "data_prep.infer",
        "--output={out}/columns.yaml",
        ("columns.yaml",),
        "--input={world}/table.csv --user_column=user --item_column=item",
    ),
    Case(
        "data_prep.make_events",
        "--output={out}/events.jsonl",
        ("events.jsonl", "events.jsonl.quarantine.csv.gz"),
        "--dataset=taobao --input={world}/events.csv --noprogress --overwrite",
    ),
    Case(
        "experiments.evaluate",
        "--predictions={out}/scores.csv",
        ("scores.csv",),
        DATA + " --model_dir={world}/run",
    ),
    Case(
        "experiments.predict",
        "--output={out}/scores.csv",
        ("scores.csv",),
        DATA + " --model_dir={world}/run",
    ),
    Case(
        "experiments.train",
        "--model_dir={out}",
        ("sweep.json", "sweep.md"),
        f"{CONFIG} {DATA} --sweep=optimizer.learning_rate=1e-3",
    ),
    Case(
        "experiments.train",
        "--model_dir={out}",
        ("result.json", *(f"seed-1/{name}" for name in RUN)),
        f"{CONFIG} {DATA}",
    ),
    Case(
        "experiments.tables",
        "--output_dir={out}",
        (
            "dien.json",
            "dien.md",
            "data/base_model/result.json",
            "data/base_model/seed-1/result.json",
        ),
        f"{DATA} --models=base_model --seeds=1",
    ),
    Case(
        "experiments.export",
        "--export_dir={out}",
        ("models.config", "monitoring.config", "batching_parameters.txt"),
        DATA + " --model_dir={world}/run",
    ),
    Case(
        "experiments.build_index",
        "--output_dir={out}",
        ("index.json", "blocks.bin", "notes"),
        f"{DATA} --noprogress",
    ),
    Case(
        "experiments.build_index",
        "--totals_store=lmdb:{out}",
        ("data.mdb", "lock.mdb"),
        DATA + " --output_dir={out}.index --noprogress",
    ),
    Case(
        "experiments.inspect_groups",
        "--output_dir={out}",
        ("groups_item_id.png", "groups_category_id.png"),
        f"{DATA} --keys=item_id,category_id",
    ),
    Case(
        "experiments.inspect_model",
        "--output_dir={out}",
        ("report.html", "lengths.png", "user-1-attention.png", "user-3-evolution.png"),
        DATA + " --model_dir={world}/run",
    ),
    Case(
        "experiments.inspect_search",
        "--output_dir={out}",
        ("report.html", "search.json"),
        DATA + " --model_dirs=a={world}/run --reference_dir={world}/run",
    ),
    Case(
        "experiments.benchmark",
        "--output_dir={out}",
        ("benchmark.json", "benchmark.md", "data/prepared/mine.txt", "logs"),
        "--parts=read",
    ),
    Case(
        "experiments.benchmark",
        "--peer_dir={out}/peer",
        ("peer/mine.txt",),
        "--output_dir={out}/results --parts=read --peer=deepctr",
    ),
    Case(
        "experiments.compare_versions",
        "--output_dir={out}",
        ("benchmark_versions.json", "benchmark_versions.md", "turns/before-0/benchmark.json"),
        "--before={root}",
    ),
    Case(
        "experiments.quickstart",
        "--output_dir={out}",
        ("log.csv", "log.csv.truth.npz", "report.html", "data/mine.txt", "din/result.json"),
        "--users=20",
    ),
    Case(
        "experiments.mimn.addressing",
        "--output_dir={out}",
        ("addressing.md", "addressing.json", "printed/seed-1/result.json"),
        f"{DATA} --rows=printed",
    ),
    Case("experiments.mimn.copy_task", "--output_dir={out}", ("copy_task.json", "copy_task.md")),
)
# Outputs with tests of their own: stores are opened by one function (above, and tests/stores), the others
# belong to tests/serving/center and tests/experiments/test_append_events.py.
ELSEWHERE = {
    "experiments.interest_center": {"store", "snapshot_dir", "offset_file", "dead_letters"},
    "experiments.append_events": {"state_store", "offset_file", "dead_letters"},
    "experiments.keep_groups": {"groups_store"},
    "experiments.extract_interests": {"store"},
}
# Flags that are read, of all commands but those for which they are in a case.
INPUTS = {
    *("data_dir", "model_dir", "model_dirs", "reference_dir", "index_dir", "export_dir"),
    *("state_store", "groups_store", "token_file", "model_config_file"),  # of serve
}
IDS = [f"{case.module} {case.flags.split('=')[0]}" for case in CASES]


def refused(commands, case, out, world):
    """Runs a command, which must refuse in one sentence; returns it."""
    ended = commands.run(case.module, *case.arguments(out, world))
    assert ended.returncode == 2, ended.text
    assert "Traceback" not in ended.text
    (sentence,) = ended.errors
    return sentence


@pytest.mark.parametrize(
    ("case", "name"),
    [(case, name) for case in CASES for name in case.names],
    ids=[f"{label} {name}" for label, case in zip(IDS, CASES, strict=True) for name in case.names],
)
def test_somebody_elses_file_is_left_alone(commands, world, tmp_path, case, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(MINE)
    assert str(tmp_path / "out") in refused(commands, case, tmp_path / "out", world)
    assert path.read_bytes() == MINE


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_an_output_folder_that_is_none_is_one_sentence(commands, world, tmp_path, case, kind):
    out = tmp_path / "out"
    out.write_bytes(MINE) if kind == "file" else out.symlink_to(tmp_path / "nothing")
    assert str(out) in refused(commands, case, out, world)
    assert out.read_bytes() == MINE if kind == "file" else out.is_symlink()


TWICE = (
    "data_prep.synthetic",
    "data_prep.prepare",
    "experiments.build_index",
    "experiments.inspect_groups",
)


@pytest.mark.parametrize("module", TWICE)
def test_a_command_writes_over_its_own_output(commands, world, tmp_path, module):
    case = next(case for case in CASES if case.module == module)
    arguments = case.arguments(tmp_path / "out", world)
    for _ in range(2):
        commands.succeed(module, *arguments)
    assert set(os.listdir(tmp_path)) == {"out"}


def commands_with_flags():
    """Module of every command -> names of its flags that sound like paths."""
    found = {}
    for folder in ("data_prep", "experiments"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if "command_line.run(" in text:
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(
                    ".__main__"
                )
                names = re.findall(r'DEFINE_\w+\(\s*"(\w+)"', text)
                found[module] = {n for n in names if PATHS.search(n)}
    return found


PATHS = re.compile(r"(^|_)(dirs?|file|store|output|letters|path|predictions)$")


def test_every_flag_that_names_an_output_has_a_case():
    covered = {module: set(names) for module, names in ELSEWHERE.items()}
    for case in CASES:
        covered.setdefault(case.module, set()).update(re.findall(r"--(\w+)=", case.flags))
    found = commands_with_flags()
    assert {"data_prep.synthetic", "experiments.train", "experiments.serve"} <= set(found)
    assert set(covered) <= set(found)
    missing = {m: names - covered.get(m, set()) - INPUTS for m, names in found.items()}
    assert {module: names for module, names in missing.items() if names} == {}


def test_the_writers_of_files_are_known():
    """A new way to write a file is a reason to look at whose file it may be."""
    calls = r"\.mkdir\(|rmtree\(|\.unlink\(|savefig\("
    found = set()
    for path in (ROOT / "experiments").rglob("*.py"):
        if re.search(calls, path.read_text(encoding="utf-8")):
            found.add(path.relative_to(ROOT / "experiments").as_posix())
    assert found == WRITERS


# All write below the folder of a benchmark, which it claims as a whole.
WRITERS = {"benchmark.py"} | {
    f"benchmarking/{name}.py" for name in ("workers", "workload", "ranking_requests")
}
