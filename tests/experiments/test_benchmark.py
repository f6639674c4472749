"""The benchmark on a tiny workload: what it writes, not how fast anything is."""

import dataclasses
import json
import math
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from experiments.benchmarking import interleaving, preparation, report, workers
from experiments.benchmarking.cases import (
    REQUEST,
    SERVICE,
    Case,
    make_model,
    prepare_extract,
    prepare_read,
    prepare_request,
)
from experiments.benchmarking.workload import Workload, draw_batches, write_data_set

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = Workload(items=53, categories=7, users=31, width=5, history=11, batch=6, seed=3)


def run_benchmark(output_dir, *flags):
    sizes = ["--items=53", "--categories=7", "--users=31", "--history=11", "--batch=6"]
    command = [sys.executable, "-m", "experiments.benchmark", f"--output_dir={output_dir}"]
    return subprocess.run(
        [*command, *sizes, "--rounds=2", "--seconds=0.01", *flags],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("benchmark")
    flags = ["--models=din", "--variants=paper", "--parts=train,score", "--request=13"]
    done = run_benchmark(output_dir, *flags, "--records=19", "--steps_per_execution=2")
    assert done.returncode == 0, done.stderr
    content = json.loads((output_dir / "benchmark.json").read_text())
    return content, done.stdout, (output_dir / "benchmark.md").read_text()


def test_every_case_reports_rate_spread_and_peak_memory_of_its_own(result):
    entries = [entry for part in result[0]["parts"].values() for entry in part]
    assert len(entries) == 3 + 2
    for entry in entries:
        assert entry["rate_min"] <= entry["rate"] <= entry["rate_max"]
        assert entry["turns"] == 2
        assert entry["peak_mib"] > 50


def test_steps_take_the_same_number_of_examples_shared_or_not(result):
    shared, single, fit = (entry["case"] for entry in result[0]["parts"]["Training, din paper"])
    assert shared["users"] * shared["candidates"] == single["users"] * single["candidates"] == 6
    assert (fit["users"], fit["candidates"]) == (3, 2)


def test_requests_report_their_latencies(result):
    for entry in result[0]["parts"]["Scoring, din paper"]:
        assert 0 < entry["p50_ms"] <= entry["p99_ms"]
        assert entry["case"]["users"] * entry["case"]["candidates"] == 13


def test_the_report_names_machine_workload_seed_and_versions(result):
    content, printed, written = result
    assert content["workload"]["seed"] == 1
    assert content["machine"]["cores"] == os.cpu_count()
    assert set(content["machine"]["versions"]) == {"dgin_tf", *report.PACKAGES}
    assert printed == written
    assert "| din paper step 3x2 |" in written


def test_training_from_records_is_compared_with_the_step_alone(result):
    (name,) = [name for name in result[0]["ratios"] if " fit " in name]
    assert name == "din paper fit 3x2 from records / din paper step 3x2"


@pytest.mark.slow
def test_long_histories_are_trained_on_and_scored_in_batches_without_records(tmp_path):
    flags = ["--workload=long", "--parts=train,batch", "--records=0", "--models=twin"]
    done = run_benchmark(tmp_path, *flags, "--variants=paper")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert (content["workload"]["width"], content["workload"]["history"]) == (16, 11)
    for part, kind in (("Training", "step"), ("Scoring batches", "score")):
        entries = content["parts"][f"{part}, twin paper"]
        names = [entry["case"]["name"] for entry in entries]
        assert names == [f"twin paper {kind} 3x2", f"twin paper {kind} 6x1"]
        assert all(entry["rate"] > 0 for entry in entries)


@pytest.mark.parametrize(("name", "parts"), [("mimn_plain", False), ("mimn_full", True)])
def test_mimn_is_measured_without_its_parts_and_with_them(name, parts):
    memory = make_model(Case("", "step", name, "paper"), TINY).encoders["interest"].memory
    assert memory.slots == 4
    assert (memory.utilization is not None, memory.induction is not None) == (parts, parts)


def test_an_unknown_part_is_refused_with_one_sentence(tmp_path):
    done = run_benchmark(tmp_path, "--parts=flying")
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith("error: --parts takes train, score")


def test_extraction_from_no_records_is_refused_with_one_sentence(tmp_path):
    done = run_benchmark(tmp_path, "--parts=extract", "--records=0")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: the part extract expects --records above 0")


def test_a_failing_process_leaves_its_error_in_its_row(tmp_path):
    cases = [Case("no such model", "step", "nothing", data=str(tmp_path / "missing.npz"))]
    (entry,) = workers.measure(cases, TINY, 2, tmp_path)
    assert "missing.npz" in entry["error"]
    assert "rate" not in entry


def test_a_worker_that_was_killed_between_turns_is_named(tmp_path):
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    worker = workers.Worker(Case("large", "step", "din"), command, tmp_path / "log")
    worker._process.kill()
    worker._process.wait()
    with pytest.raises(workers.WorkerFailedError, match="large: it was killed"):
        worker.turn()
    worker.stop()


def test_batches_are_full_and_balanced_and_depend_on_the_seed_alone():
    batches, again = (draw_batches(TINY, 2, 4, 3, negatives=True) for _ in range(2))
    assert batches["hist_mask"].all()
    np.testing.assert_array_equal(batches["label"].sum(axis=-1), 1)
    assert batches["hist_item_id"].min() >= 2
    assert batches["hist_negative_item_id"].max() < TINY.items
    for name, values in batches.items():
        np.testing.assert_array_equal(values, again[name])


def test_small_ranks_are_drawn_most():
    drawn = TINY.draw_items(np.random.default_rng(5), (2_003,))
    counts = np.bincount(drawn, minlength=TINY.items)
    assert counts[2] == counts.max()
    assert counts[:2].sum() == 0


def test_written_records_are_read_back_in_full_batches(tmp_path):
    write_data_set(TINY, tmp_path, users=9, candidates=2)
    batches = list(PreparedData(tmp_path).training(BatchOptions(3, TINY.history), 1, 0))
    assert len(batches) == 9 // 3
    assert all(batch["hist_mask"].numpy().all() for batch in batches)


def test_a_turn_of_reading_is_one_epoch_of_the_records(tmp_path):
    write_data_set(TINY, tmp_path, users=17, candidates=2)
    case = Case("read", "read", users=4, data=str(tmp_path))
    facts, turn = prepare_read(case, TINY)
    assert turn()["steps"] == math.ceil(17 / 4)
    assert facts["seconds_to_first_batch"] > 0


@pytest.mark.parametrize(
    ("model", "source", "histories"),
    [("sim_hard", "index", (11, 29)), ("sdim", "stored state", (29,))],
)
def test_requests_are_answered_from_an_index_or_from_stored_states(
    tmp_path, model, source, histories
):
    for events in histories:
        folder = tmp_path / str(events)
        case = Case("", REQUEST, model, "paper", 1, 5, str(folder), seconds=0.01, history=events)
        facts, turn = prepare_request(case, TINY)
        assert facts["source"] == source
        measured = turn()
        assert 0 < measured["p50_ms"] <= measured["p99_ms"]


@pytest.mark.parametrize("by_user", [True, False])
def test_clients_of_a_service_are_all_answered(tmp_path, by_user):
    case = Case("", SERVICE, "sim_hard", "paper", 3, 5, str(tmp_path), by_user, 1, 0.3, 29)
    _, turn = prepare_request(case, TINY)
    measured = turn()
    assert set(measured["statuses"]) == {"200"}
    assert measured["rate"] > 0
    assert 0 < measured["p50_ms"] <= measured["p99_ms"] <= measured["p999_ms"]


@pytest.mark.parametrize("kind", ["extract", "export"])
def test_a_turn_of_extraction_encodes_everybody(tmp_path, kind):
    write_data_set(TINY, tmp_path / "data", users=9, candidates=2)
    people = {
        int(user)
        for batch in PreparedData(tmp_path / "data").training(BatchOptions(3, 11), 1, 0)
        for user in batch["user_id"]
    }
    _, turn = prepare_extract(
        Case("", kind, "encode", "paper", 4, data=str(tmp_path / "data")), TINY
    )
    for measured in (turn(), turn()):
        assert measured["users"] == len(people)
        assert measured["rate"] > 0
        assert 0 < measured["first_seconds"] < measured["seconds"]


def test_requests_with_long_histories_are_compared_with_short_ones():
    entries = [
        {"case": {"name": name, "kind": REQUEST}, "rate": 1.0, "p99_ms": p99}
        for name, p99 in (("short", 4.0), ("long", 5.0))
    ]
    assert report.ratios({"Requests": entries}) == {"p99 of long / short": 1.25}


def test_a_rate_counts_examples_over_the_time_they_took():
    calls = []
    measured = interleaving.rate(calls.append, examples=7, seconds=0.0)
    assert calls == [0]
    assert measured["steps"] == 1
    assert measured["rate"] > 0


def test_the_summary_takes_medians():
    turns = [{"rate": rate, "p50_ms": 10 * rate} for rate in (3.0, 1.0, 2.0)]
    assert workers.summarize(turns) == {
        "rate": 2.0,
        "p50_ms": 20.0,
        "rate_min": 1.0,
        "rate_max": 3.0,
        "turns": 3,
    }


def test_resident_memory_counts_a_process_and_its_children():
    alone = preparation.resident_mib(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=-1)
    try:
        together = preparation.resident_mib(os.getpid())
        assert alone > 10
        assert together >= preparation.resident_mib(child.pid)
    finally:
        child.communicate()


def test_preparing_reports_rows_and_the_peak_of_the_process_tree(tmp_path):
    log = tmp_path / "log.csv"
    preparation.write_log(log, 6_007, seed=1)
    (found,) = preparation.measure_preparations(
        log, 6_007, tmp_path / "prepared", ["last_event"], runs=1
    ).values()
    assert found["rows"] == len(log.read_text().splitlines()) == 6_007
    assert found["peak_mib"] > 30
    assert found["records_mib"] > 0


@pytest.mark.slow  # a process for each of ten cases
def test_lifelong_histories_are_condensed_where_they_are_read(tmp_path):
    flags = ["--workload=groups", "--parts=train,request", "--records=7", "--models=dgin,sim_hard"]
    sizes = ["--variants=paper", "--together", "--request=5", "--request_histories=17"]
    sizes.append("--live_tensors")
    done = run_benchmark(tmp_path, *flags, *sizes)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "benchmark.json").read_text())
    training, requests = content["parts"].values()
    entries = {entry["case"]["name"]: entry for entry in training}
    assert entries["dgin paper condense 3x2"]["events_per_second"] > 0
    assert entries["dgin paper step 3x2"]["step_mib"] >= 0
    assert 0 < entries["dgin paper step 3x2"]["tensors_mib"] < 5
    assert "dgin paper step 3x2 / sim_hard paper step 3x2" in content["ratios"]
    (own,) = (entry for entry in requests if entry["case"]["model"] == "dgin")
    assert (own["case"]["history"], own["source"]) == (17, "cached groups and index")


def test_histories_of_interests_come_back_to_few_items_in_the_order_of_time():
    workload = dataclasses.replace(TINY, history=300, interests=5, behavior_types=2, items=1000)
    drawn = workload.draw_histories(np.random.default_rng(1), (4,))
    assert all(len(np.unique(row)) <= 5 for row in drawn["hist_item_id"])
    assert np.all(np.diff(drawn["hist_timestamp"], axis=-1) >= 0)
    assert set(np.unique(drawn["hist_behavior_type"])) == {2, 3}
    assert workload.schema().behavior_types == ("type_0", "type_1")
