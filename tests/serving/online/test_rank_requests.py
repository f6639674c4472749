"""Ranking over HTTP by a user's id, from a behavior index, and by a history."""

import http.client
import json
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest

from dgin_tf.integrity import read_json, sealed
from dgin_tf.serving.online.ranker import Ranker
from dgin_tf.serving.online.service import Servable, make_server
from dgin_tf.stores.addresses import open_store
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.index_building import build_index
from dgin_tf.stores.state_store import InMemoryStore, StoreError
from tests.serving.exported import export

ROOT = pathlib.Path(__file__).resolve().parents[3]
NEWEST, FOUND = 3, 4
LATER = 2_000_000_000
USER = 7
CANDIDATES = {"item_id": [5, 16, 27, 100], "timestamp": [LATER] * 4}


@pytest.fixture(scope="module")
def sim(data, tmp_path_factory):
    base = tmp_path_factory.mktemp("sim")
    return export("sim_hard", data, base, short_events=NEWEST, k=FOUND, time=True)


@pytest.fixture(scope="module")
def index_dir(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "category"
    build_index(data.data_dir, folder, "category_id", NEWEST + FOUND)
    return folder


@pytest.fixture(scope="module")
def index(data, index_dir):
    return BehaviorIndex(index_dir, data.schema, "category_id", InMemoryStore())


@pytest.fixture(scope="module")
def servable(sim, index):
    return Servable("sim", sim.version.parent, index)


def send(port, content, path="/v1/models/sim:rank"):
    """Status and answer of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, content if isinstance(content, str) else json.dumps(content))
    response = connection.getresponse()
    return response.status, json.loads(response.read())


@pytest.fixture(scope="module")
def ask(servable):
    server = make_server(servable, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield lambda content: send(server.server_port, content)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def ranker(sim, index):
    return Ranker(sim.version, index=index)


def test_a_user_is_ranked_for_as_the_ranker_does(ask, ranker):
    status, answer = ask({"user_id": USER, "candidates": CANDIDATES})
    assert status == 200, answer
    reference = ranker.rank(USER, CANDIDATES)
    np.testing.assert_allclose(answer["probabilities"], reference, atol=1e-6)
    assert np.ptp(reference) > 0.01


def test_a_history_is_ranked_by_as_the_ranker_does(ask, ranker):
    history = {"item_id": [5, 16, 5], "timestamp": [1, 2, 3]}
    status, answer = ask({"history": history, "candidates": CANDIDATES})
    assert status == 200, answer
    reference = ranker.rank(history, CANDIDATES)
    np.testing.assert_allclose(answer["probabilities"], reference, atol=1e-6)


def test_ids_of_the_log_are_translated(ask, ranker):
    raw = {"item_id": [f"item {n}" for n in CANDIDATES["item_id"]]}
    raw["timestamp"] = CANDIDATES["timestamp"]
    history = {"item_id": ["item 5", "unheard of"], "timestamp": [1, 2]}
    status, answer = ask({"history": history, "candidates": raw, "raw_ids": True})
    assert status == 200, answer
    reference = ranker.rank({"item_id": [5, 1], "timestamp": [1, 2]}, CANDIDATES)
    np.testing.assert_allclose(answer["probabilities"], reference, atol=1e-6)


def test_only_events_before_a_second_count(ask, ranker):
    second = 1_500_000_009
    request = {"user_id": USER, "candidates": CANDIDATES, "before": second, "ties": 1}
    reference = ranker.rank(USER, CANDIDATES, before=second, ties=1)
    assert np.abs(reference - ranker.rank(USER, CANDIDATES)).max() > 1e-4
    np.testing.assert_allclose(ask(request)[1]["probabilities"], reference, atol=1e-6)


def test_somebody_unknown_is_ranked_for_as_a_newcomer(ask, ranker):
    status, answer = ask({"user_id": 10**9, "candidates": CANDIDATES})
    empty = {"item_id": [], "category_id": [], "timestamp": []}
    assert status == 200, answer
    reference = ranker.rank(empty, CANDIDATES)
    np.testing.assert_allclose(answer["probabilities"], reference, atol=1e-6)


@pytest.mark.parametrize(
    ("request_body", "message"),
    [
        ("not json", "expected a JSON object"),
        ([7], 'expected a JSON object with "candidates"'),
        ({"user_id": 7}, 'expected a JSON object with "candidates"'),
        ({"candidates": [5]}, 'either "user_id" or "history"'),
        ({"user_id": 7, "history": [5], "candidates": [5]}, 'either "user_id" or "history"'),
        ({"user_id": 7, "candidates": [5], "befor": 3}, "has no ['befor']"),
        ({"user_id": "u7", "candidates": [5]}, "user_id must hold whole numbers"),
        ({"user_id": 7.5, "candidates": [5]}, "user_id must hold whole numbers"),
        ({"user_id": -1, "candidates": [5]}, "user_id must hold whole numbers"),
        ({"user_id": 7, "candidates": 5}, "candidates must be a list of item ids"),
        ({"user_id": 7, "candidates": {"item_id": 5}}, "candidates must be a list of item ids"),
        ({"user_id": 7, "candidates": ["B0"]}, 'ids of the log need "raw_ids": true'),
        ({"user_id": 7, "candidates": {"category_id": [5]}}, "expected item_id among the fields"),
        ({"user_id": 7, "candidates": [5]}, "reads timestamp of the candidate"),
        ({"user_id": 7, "candidates": CANDIDATES, "user": [5]}, "user must be single values"),
        ({"user_id": 7, "candidates": CANDIDATES, "before": "noon"}, "before must hold whole"),
        ({"history": {"itm": ["a"]}, "candidates": [5], "raw_ids": True}, "no field 'itm'"),
    ],
)
def test_requests_that_cannot_be_answered_get_one_sentence(ask, request_body, message):
    status, answer = ask(request_body)
    assert status == 400
    assert message in answer["error"]


def test_without_an_index_users_cannot_be_named_but_histories_rank(din):
    with make_server(Servable("sim", din.version.parent), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        status, answer = send(server.server_port, {"user_id": 7, "candidates": [5]})
        assert status == 400
        assert "by a user's id needs an index or stored states" in answer["error"]
        status, answer = send(server.server_port, {"history": [5, 6], "candidates": [5, 9]})
        assert status == 200
        reference = Ranker(din.version).rank([5, 6], [5, 9])
        np.testing.assert_allclose(answer["probabilities"], reference, atol=1e-6)
        server.shutdown()


def test_a_store_that_fails_is_an_error_of_the_server(ask, index, monkeypatch):
    def fail(*_):
        raise StoreError("the store is gone.")

    monkeypatch.setattr(index, "history_slice", fail)
    status, answer = ask({"user_id": USER, "candidates": CANDIDATES})
    assert (status, answer["error"]) == (503, "the store is gone.")


@pytest.mark.parametrize(
    ("key", "longest", "message"),
    [
        ("category_id", NEWEST, "--max_events_per_key=7"),
        ("item_id", 200, "index of key 'category_id'; this one has 'item_id'"),
    ],
)
def test_an_index_that_does_not_fit_the_model_is_refused_at_the_start(
    sim, data, tmp_path, key, longest, message
):
    build_index(data.data_dir, tmp_path / "index", key, longest)
    index = BehaviorIndex(tmp_path / "index", data.schema, key)
    with pytest.raises(ValueError, match=message):
        Servable("sim", sim.version.parent, index)


def serve(*arguments):
    command = [sys.executable, "-m", "experiments.serve", "--rest_port=0", *arguments]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_the_command_serves_users_with_what_came_since(sim, data, index_dir, tmp_path):
    store = f"lmdb:{tmp_path / 'late'}"
    with open_store(store, "behaviors") as late:
        index = BehaviorIndex(index_dir, data.schema, "category_id", late)
        event = {"item_id": [5], "category_id": [7], "timestamp": [LATER - 1]}
        assert index.append(USER, event, sequence=1)
        reference = Ranker(sim.version, index=index).rank(USER, CANDIDATES)
    export_dir = f"--export_dir={sim.version.parent}"
    process = serve(export_dir, f"--index_dir={index_dir}", f"--state_store={store}")
    try:
        address = process.stdout.readline().split()[-1]
        port = int(address.split("/")[2].split(":")[1])
        request = {"user_id": USER, "candidates": CANDIDATES}
        status, answer = send(port, request, "/v1/models/sim_hard:rank")
    finally:
        process.terminate()
        process.communicate()
    assert status == 200, answer
    np.testing.assert_allclose(answer["probabilities"], reference, atol=1e-6)


def test_the_command_refuses_an_index_of_another_schema(sim, data, tmp_path):
    build_index(data.data_dir, tmp_path / "index", "category_id")
    path = tmp_path / "index" / "index.json"
    content = read_json(path, "", "")
    path.write_text(sealed({**content, "schema": f"0{content['schema']}"}))
    process = serve(f"--export_dir={sim.version.parent}", f"--index_dir={path.parent}")
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2
    assert "error: the behavior index in" in errors
    assert "was built for schema '0" in errors
