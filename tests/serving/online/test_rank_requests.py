"""Ranking over HTTP by a user's id, from a behavior index, and by a history."""

import numpy as np
import pytest

from dgin_tf.integrity import read_json, sealed
from dgin_tf.serving.online.ranker import Ranker
from dgin_tf.stores.addresses import open_store
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.index_building import build_index
from dgin_tf.stores.state_store import InMemoryStore, StoreError
from tests.serving.exported import export
from tests.serving.online.running import Command, running, served

PATH = "/v1/models/sim:rank"
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
def ask(sim, index):
    """Status and answer of a request, on the path that says which model and on the one that does not."""
    with running(served("sim", sim.version.parent, index)) as handle:

        def both(content):
            status, answer = handle.ask("POST", PATH, content)
            other_status, other = handle.ask("POST", "/rank", content)
            assert other_status == status
            key = "error" if status != 200 else "probabilities"
            assert other[key] == answer[key]
            return status, answer

        yield both


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
        ({"user_id": 7, "candidates": CANDIDATES, "context": [5]}, "context must be single values"),
        ({"user_id": 7, "candidates": [5], "context": {"color": 5}}, "['color'] are no fields"),
        ({"user_id": 7, "candidates": [5], "raw_ids": 1}, "raw_ids must be true or false"),
        ({"user_id": 7, "candidates": [5], "top_n": -1}, "top_n must hold whole numbers"),
        ({"user_id": 7, "candidates": [5], "label": 7}, "label must be a text"),
        ({"user_id": 7, "candidates": [5], "label": "a", "version": 1}, "give one of"),
        ({"user_id": 7, "candidates": CANDIDATES, "before": "noon"}, "before must hold whole"),
        ({"history": {"itm": ["a"]}, "candidates": [5], "raw_ids": True}, "no field 'itm'"),
    ],
)
def test_requests_that_cannot_be_answered_get_one_sentence(ask, request_body, message):
    status, answer = ask(request_body)
    assert status == 400
    assert message in answer["error"]


def test_what_is_the_same_for_all_candidates_may_stand_in_the_context(ask, ranker):
    context = {"timestamp": LATER}
    request = {"user_id": USER, "candidates": CANDIDATES["item_id"], "context": context}
    status, answer = ask(request)
    assert status == 200, answer
    reference = ranker.rank(USER, CANDIDATES)
    np.testing.assert_allclose(answer["probabilities"], reference, atol=1e-6)
    scores = ranker.rank(USER, CANDIDATES["item_id"], context)
    np.testing.assert_array_equal(scores, reference)


def test_the_report_says_what_was_read(ranker):
    report = ranker.answer(USER, {**CANDIDATES, "item_id": [5, 1, 0, 100]}).report
    facts = report.to_json()
    assert facts["source"] == "index"
    assert facts["is_known"]
    assert 0 < facts["events"] <= NEWEST + 3 * FOUND
    assert facts["state_age_seconds"] > 0
    assert (facts["unknown_candidates"], facts["absent_candidates"]) == (1, 1)
    assert set(facts["milliseconds"]) == {"state", "score"}
    assert not ranker.answer(10**9, CANDIDATES).report.lookup.is_known
    history = {"item_id": [5] * 40, "timestamp": [*range(40)]}
    assert ranker.answer(history, CANDIDATES).report.lookup.cut == 40 - 23


def test_without_an_index_users_cannot_be_named_but_histories_rank(din_service, din):
    status, answer = din_service.ask("POST", "/rank", {"user_id": 7, "candidates": [5]})
    assert status == 400
    assert "by a user's id needs an index or stored states" in answer["error"]
    status, answer = din_service.ask("POST", "/rank", {"history": [5, 6], "candidates": [5, 9]})
    assert status == 200
    reference = Ranker(din.version).rank([5, 6], [5, 9])
    np.testing.assert_allclose(answer["probabilities"], reference, atol=1e-6)


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
        served("sim", sim.version.parent, index)


def test_the_command_serves_users_with_what_came_since(sim, data, index_dir, tmp_path):
    store = f"lmdb:{tmp_path / 'late'}"
    with open_store(store, "behaviors") as late:
        index = BehaviorIndex(index_dir, data.schema, "category_id", late)
        event = {"item_id": [5], "category_id": [7], "timestamp": [LATER - 1]}
        assert index.append(USER, event, sequence=1)
        reference = Ranker(sim.version, index=index).rank(USER, CANDIDATES)
    export_dir = f"--export_dir={sim.version.parent}"
    command = Command(
        export_dir, f"--index_dir={index_dir}", f"--state_store={store}", "--take_events"
    )
    request = {"user_id": USER, "candidates": CANDIDATES}
    status, answer = command.running.ask("POST", "/v1/models/sim_hard:rank", request)
    event = {"user_id": "u7", "sequence": 2, "item_id": "item 16", "timestamp": LATER // 2}
    taken = [command.running.ask("POST", "/events", event) for _ in range(2)]
    after = command.running.ask("POST", "/rank", request)[1]["probabilities"]
    assert command.end()[0] == 0
    assert status == 200, answer
    np.testing.assert_allclose(answer["probabilities"], reference, atol=1e-6)
    assert taken == [(200, {"applied": 1, "refused": []})] * 2  # a repeated one changes nothing
    assert np.abs(np.array(after) - reference).max() > 1e-5


def test_the_command_refuses_an_index_of_another_schema(sim, data, tmp_path):
    build_index(data.data_dir, tmp_path / "index", "category_id")
    path = tmp_path / "index" / "index.json"
    content = read_json(path, "", "")
    path.write_text(sealed({**content, "schema": f"0{content['schema']}"}))
    code, errors = Command(f"--export_dir={sim.version.parent}", f"--index_dir={path.parent}").end()
    assert code == 2
    assert "error: the behavior index in" in errors
    assert "was built for schema '0" in errors
