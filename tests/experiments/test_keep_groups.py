"""The commands of DGIN's engine, one after the other: index and totals, groups, late events, requests."""

import http.client
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.serving.exported import export, make_data
from tests.serving.whole_histories import histories, one_split, some_candidates, whole

ROOT = pathlib.Path(__file__).resolve().parents[2]
SETTINGS = {"key": "category_id", "groups": 6, "events": 2, "target_events": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("all") / "data")


@pytest.fixture(scope="module")
def dgin(data, tmp_path_factory):
    return export("dgin", data, tmp_path_factory.mktemp("dgin"), **SETTINGS)


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("engine")
    one_split(data, path / "data")
    return path


def start(command, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{command}", *arguments],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(command, *arguments):
    process = start(command, *arguments)
    out, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return out, errors


def ask(port, content):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v1/models/dgin:rank", json.dumps(content))
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_a_dgin_is_served_from_its_engine_by_commands_alone(dgin, data, folder):
    index_dir, store = folder / "index", f"lmdb:{folder / 'stores'}"
    build = (
        f"--data_dir={folder / 'data'}",
        f"--output_dir={index_dir}",
        "--max_events_per_key=4",
        f"--totals_store={store}",
    )
    out, _ = run("build_index", *build)
    people = dict(histories(data))
    known = f"{len(people)} users with count, distinct_item_id of every group; "
    assert f"{known}0 late events count beside what was loaded\n" in out
    stores = (f"--totals_store={store}", f"--groups_store={store}")
    engine = (f"--export_dir={dgin.version.parent}", f"--index_dir={index_dir}", *stores)
    out, errors = run("keep_groups", *engine, "--batch_users=16")
    assert f"{len(people)} states of dgin version 1 made, 0 were kept; " in out
    assert "users/s" in out
    assert "groups: 100%" in errors
    # An event comes, and the index is built once more, from a batch that does not have it yet.
    person, events = next(iter(people.items()))
    new = {name: values[:1] for name, values in events.items()}
    new["timestamp"] = events["timestamp"][-1:] + 1000
    event = {name: int(values[0]) for name, values in new.items()}
    line = json.dumps({"user_id": person, "sequence": 1, **event})
    (folder / "log.jsonl").write_text(f"{line}\nno event\n{line}\n")
    log = ("--ids=dense", f"--events={folder / 'log.jsonl'}", f"--totals_store={store}")
    out, _ = run("append_events", *build[:1], f"--index_dir={index_dir}", *log)
    assert out.startswith("1 events appended, 1 were known, 1 bad lines; ")
    assert "no event" in (folder / "log.jsonl.append_events.dead_letters.jsonl").read_text()
    people[person] = {name: np.append(values, new[name]) for name, values in events.items()}
    assert "1 late events count beside" in run("build_index", *build)[0]
    out, _ = run("keep_groups", *engine, "--noprogress")
    assert f"{len(people)} states of dgin version 1 made, 0 were kept" in out  # all are loaded anew
    out, _ = run("keep_groups", *engine)
    assert out == f"0 states of dgin version 1 made, {len(people)} were kept\n"
    server = start("serve", "--rest_port=0", *engine)
    try:
        port = int(server.stdout.readline().split()[-1].split("/")[2].split(":")[1])
        for person, events in list(people.items())[:5]:
            candidates = some_candidates(events)
            request = {name: values.tolist() for name, values in candidates.items()}
            status, answer = ask(port, {"user_id": person, "candidates": request})
            assert status == 200, answer
            expected = whole(dgin.model, person, events, candidates)
            np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)
    finally:
        server.terminate()
        server.communicate()


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("serve", ["--totals_store=T"], "give --index_dir too"),
        ("serve", ["--index_dir=I", "--groups_store=G"], "give --totals_store too"),
        ("build_index", ["--output_dir=I", "--distinct=item_id"], "give --totals_store too"),
    ],
)
def test_flags_that_need_others_say_so(folder, command, arguments, message):
    place = "--export_dir=E" if command == "serve" else f"--data_dir={folder / 'data'}"
    process = start(command, place, *arguments)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2
    assert message in errors
    assert errors.count("\n") == 1
