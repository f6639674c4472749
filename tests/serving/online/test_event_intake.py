"""Events over HTTP: durable when acknowledged, into states, index or engine; stores that fail and come back."""

import http.client
import json
import signal
import threading
import time

import numpy as np
import pytest

from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.serving.online.event_intake import CenterSink, EventIntake, IndexSink
from dgin_tf.serving.online.limits import Limits
from dgin_tf.serving.online.ranker import Ranker, RawRanker
from dgin_tf.stores.addresses import open_store
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.index_building import build_index
from dgin_tf.stores.state_store import InMemoryStore
from tests.redis_server import RedisServer
from tests.serving.exported import export
from tests.serving.online.running import Command, running, served

LATER = 1_600_000_000


def event(user, sequence, item, **fields):
    ids = {"user_id": f"u{user}", "sequence": sequence, "item_id": f"item {item}"}
    return {**ids, "timestamp": LATER, **fields}


@pytest.fixture
def serve(base_model):
    """A context of a service whose events go into the states of a store."""

    def start(store, limits=Limits()):  # noqa: B008
        model = served("base_model", base_model.version.parent, states=store)
        sink = CenterSink(base_model.version, store)
        return running(model, limits, EventIntake(lambda: [sink]))

    return start


def rank(handle, user):
    request = {"user_id": f"u{user}", "candidates": ["item 5", "item 9"], "raw_ids": True}
    return handle.ask("POST", "/rank", request)


def test_an_acknowledged_event_is_in_the_next_answer(serve, base_model):
    with serve(InMemoryStore()) as handle:
        before = rank(handle, 7)[1]
        assert before["report"]["is_known"] is False
        events = {"events": [event(7, 1, 16), event(7, 2, 27)]}
        assert handle.ask("POST", "/events", events) == (200, {"applied": 2, "refused": []})
        after = rank(handle, 7)[1]
        assert after["report"]["source"] == "store"
        assert after["report"]["state_age_seconds"] == pytest.approx(time.time() - LATER, abs=99)
        ranker = RawRanker(handle.service.model.current.ranker)
        reference = ranker.rank(["item 16", "item 27"], ["item 5", "item 9"], {"user_id": "u7"})
        np.testing.assert_allclose(after["probabilities"], reference, atol=1e-6)
        # Once more, as after an answer that was lost.
        assert handle.ask("POST", "/events", events) == (200, {"applied": 2, "refused": []})
        assert rank(handle, 7)[1]["probabilities"] == after["probabilities"]


def test_events_may_come_as_lines_and_bad_ones_are_told(serve):
    with serve(InMemoryStore()) as handle:
        lines = [event(3, 1, 16), event(3, -1, 5), event(3, 2, 5, color="red")]
        body = "\n".join(map(json.dumps, lines))
        status, answer = handle.ask("POST", "/events", body)
        assert (status, answer["applied"]) == (200, 1)
        assert [refusal["event"] for refusal in answer["refused"]] == [1, 2]
        assert "unknown fields: color" in answer["refused"][1]["reason"]
        status, answer = handle.ask("POST", "/events", lines[1])
        assert status == 400
        assert "sequence must be a whole number" in answer["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "expected a JSON object"),
        ("[]", "expected an event"),
        ("7", "expected an event"),
        ({"events": []}, "expected an event"),
        ({"events": [event(3, 1, 5)] * 1_025}, "at most 1,024 events"),
        ({"events": [[[]]]}, "no event could be applied"),
    ],
)
def test_what_holds_no_events_is_refused(serve, body, message):
    with serve(InMemoryStore()) as handle:
        status, answer = handle.ask("POST", "/events", body)
        assert status == 400
        assert message in answer["error"]


def test_events_go_to_an_index(data, tmp_path, request):
    sim = export("sim_hard", data, tmp_path / "sim", short_events=3, k=4, time=True)
    build_index(data.data_dir, tmp_path / "index", "category_id", 7)
    index = BehaviorIndex(tmp_path / "index", data.schema, "category_id", InMemoryStore())
    model = served("sim_hard", sim.version.parent, index)
    sink = IndexSink(model.current.ranker.model, index)
    with running(model, intake=EventIntake(lambda: [sink])) as handle:
        asked = {"user_id": "u7", "candidates": ["item 5"], "raw_ids": True}
        asked["context"] = {"timestamp": LATER + 1}
        before = handle.ask("POST", "/rank", asked)[1]["probabilities"]
        answer = handle.ask("POST", "/events", event(7, 1, 16))
        assert answer == (200, {"applied": 1, "refused": []})
        after = handle.ask("POST", "/rank", asked)[1]
        assert after["probabilities"] != before
        assert after["report"]["source"] == "index"


def test_a_redis_that_stops_and_comes_back_loses_no_acknowledged_event(serve, tmp_path, base_model):
    server = RedisServer(tmp_path, durable=True)
    with (
        open_store(server.url) as store,
        serve(store, Limits(request_seconds=8.0)) as handle,
    ):
        assert handle.ask("POST", "/events", event(5, 1, 16))[0] == 200
        server.kill()
        status, answer = handle.ask("POST", "/events", event(5, 2, 27))
        assert status == 503
        assert "127.0.0.1" in answer["error"]
        status, answer = rank(handle, 5)
        assert status == 503
        server.start()
        deadline = time.monotonic() + 30
        while rank(handle, 5)[0] != 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert handle.ask("POST", "/events", event(5, 2, 27))[0] == 200
        (state,) = UserStates(store, handle.service.model.current.metadata).read([5])
        assert state.progress.sequence == 2
    server.kill()


def test_a_damaged_state_is_its_users_affair_alone(serve, base_model):
    store = InMemoryStore()
    with serve(store) as handle:
        for user in (5, 6):
            assert handle.ask("POST", "/events", event(user, 1, 16))[0] == 200
        states = UserStates(store, handle.service.model.current.metadata)
        states.store.put_many({5: states.store.get(5)[:-3]})
        status, answer = rank(handle, 5)
        assert status == 503
        assert "the state of user 5" in answer["error"]
        assert rank(handle, 6)[0] == 200
        # The next event of the user begins the state anew.
        assert handle.ask("POST", "/events", event(5, 2, 27))[0] == 200
        assert rank(handle, 5)[0] == 200


def test_two_services_on_one_store_count_every_event_once(serve, base_model):
    store = InMemoryStore()
    with serve(store) as one, serve(store) as other:
        answers = []

        def send(handle, numbers):
            for number in numbers:
                answers.append(handle.ask("POST", "/events", event(8, number, number))[0])

        # Both get every event, as from a producer that is not sure.
        threads = [
            threading.Thread(target=send, args=(handle, range(2, 12))) for handle in (one, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(answers) <= {200, 400}  # one that comes behind a later one is told
        scores = rank(one, 8)[1]
        assert scores["probabilities"] == rank(other, 8)[1]["probabilities"]
        (state,) = UserStates(store, one.service.model.current.metadata).read([8])
        assert state.progress.sequence == 11


@pytest.mark.slow
def test_a_killed_service_loses_no_acknowledged_event_and_counts_none_twice(base_model, tmp_path):
    users, acknowledged = range(2, 22), {}
    flags = (
        f"--export_dir={base_model.version.parent}",
        f"--user_states=lmdb:{tmp_path / 'states'}",
        "--take_events",
    )
    for round_number in range(3):
        command = Command(*flags)

        def send(user, handle=command.running):
            number = acknowledged.get(user, 0)
            while True:  # an event without an answer is sent again after the kill
                try:
                    status, _ = handle.ask("POST", "/events", event(user, number + 1, user))
                except (OSError, http.client.HTTPException):
                    return
                assert status == 200
                number += 1
                acknowledged[user] = number

        threads = [threading.Thread(target=send, args=(user,)) for user in users]
        for thread in threads:
            thread.start()
        time.sleep(1.0 + 0.3 * round_number)
        command.end(signal.SIGKILL)
        for thread in threads:
            thread.join()
    with open_store(f"lmdb:{tmp_path / 'states'}") as store:
        ranker = Ranker(base_model.version, states=store)
        states = UserStates(store, ranker.model.metadata)
        for user, state in zip(users, states.read(users), strict=True):
            # What was stored and not answered before the last kill is at most one more.
            assert state.progress.sequence - acknowledged[user] in (0, 1)
            history = [user] * state.progress.sequence
            reference = ranker.histories.encode(history, {"user_id": user}, newest=10**6)
            for name, array in state.arrays.items():
                np.testing.assert_allclose(array, reference[name][0], rtol=1e-4, atol=1e-5)
    assert min(acknowledged.values()) > 3
