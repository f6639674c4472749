"""Every online command on every family of data, with the ids of its log.

A model is exported with random weights. Whatever road a user's events take, it has to score as for the
history that a request brings.
"""

import contextlib
import dataclasses
import http.client
import json
import time

import numpy as np
import pytest

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.schema import Schema
from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.serving.export.versions import open_bundle
from dgin_tf.serving.online.ranker import Ranker, RawRanker
from dgin_tf.stores.addresses import open_store
from tests.experiments.families import MAKERS, write_family
from tests.forked_commands import ForkedCommands
from tests.serving import exported

FAST = ("taobao",)
MODELS = {
    "base_model": {},
    "sim_hard": {"short_events": 3, "k": 4},
    "dgin": {"key": "category_id", "groups": 6, "events": 2, "target_events": 4},
}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A family's log, prepared and converted to events, and a runner of commands."""

    commands: ForkedCommands
    folder: object
    events: list

    @property
    def data(self):
        return self.folder / "data"

    @property
    def log(self):
        return self.folder / "events.jsonl"

    def said(self, module, *flags):
        """Standard output of a command that succeeds."""
        done = self.commands.run(module, *flags)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def export(self, name):
        """Exports a model, once; returns the path of its versions."""
        path = self.folder / name
        if not path.exists():
            exported.export(name, PreparedData(self.data), path, embedding_dim=3, **MODELS[name])
        return path

    @property
    def history(self):
        """The events of the user with most of them, as columns of raw values."""
        users = [event["user_id"] for event in self.events]
        user = max(set(users), key=users.count)
        own = [event for event in self.events if event["user_id"] == user]
        names = [field.name for field in Schema.load(self.data).with_role("history")]
        return user, {name: [event.get(name, "") for event in own] for name in names}


def families(fast=FAST):
    return [pytest.param(n, marks=() if n in fast else pytest.mark.slow, id=n) for n in MAKERS]


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    runner = ForkedCommands(tmp_path_factory.mktemp("output"))
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def prepared(request, commands, tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    family = write_family(request.param, folder / "log")
    flags = (f"--dataset={family.dataset}", *family.flags, "--noprogress")
    split = ("--fractions=0.5,0.2,0.3", "--workers=1")  # so few users need large shares
    done = commands.run("data_prep.prepare", *flags, *split, f"--output_dir={folder / 'data'}")
    assert done.returncode == 0, done.stderr
    done = commands.run("data_prep.make_events", *flags, f"--output={folder / 'events.jsonl'}")
    assert done.returncode == 0, done.stderr
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return Prepared(commands, folder, [json.loads(line) for line in lines])


every_family = pytest.mark.parametrize("prepared", families(), indirect=True)


def candidates_of(prepared, name=""):
    """Some items, one of which nobody has seen; with the time of the request for DGIN, which reads it."""
    items = [*sorted({str(event["item_id"]) for event in prepared.events})[:4], "never seen"]
    if name != "dgin":
        return items
    time = 60 + max(event["timestamp"] for event in prepared.events)
    return {"item_id": items, "timestamp": [time] * len(items)}


def scores_of_history(prepared, name):
    """A user and what a request with the whole history is answered."""
    user, history = prepared.history
    known = {n: [np.nan if v == "" else v for v in c] for n, c in history.items() if n == "dwell"}
    ranker = RawRanker(Ranker(prepared.export(name)))
    return user, ranker.rank({**history, **known}, candidates_of(prepared, name))


def scores_of_state(prepared, name, store):
    with open_store(store) as states:
        ranker = RawRanker(Ranker(prepared.export(name), states=states))
        return ranker.rank(prepared.history[0], candidates_of(prepared))


@contextlib.contextmanager
def served(prepared, *flags):
    """A function that asks `experiments.serve` to rank."""
    with prepared.commands.running("experiments.serve", "--rest_port=0", *flags) as output:
        deadline = time.monotonic() + 60
        while not output.exists() or "\n" not in output.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        host, _, path = output.read_text().split()[-1].removeprefix("http://").partition("/")

        def rank(content):
            connection = http.client.HTTPConnection(host, timeout=30)
            with contextlib.closing(connection):
                body = json.dumps(
                    {"raw_ids": True, "candidates": candidates_of(prepared)} | content
                )
                connection.request("POST", f"/{path}:rank", body)
                response = connection.getresponse()
                answer = json.loads(response.read())
                assert response.status == 200, answer
                return answer["probabilities"]

        yield rank


@every_family
def test_a_state_that_follows_events_scores_as_their_history(prepared, tmp_path):
    export_dir, store = prepared.export("base_model"), f"lmdb:{tmp_path / 'S'}"
    flags = (f"--export_dir={export_dir}", f"--store={store}")
    beside = (f"--offset_file={tmp_path}/offset", f"--dead_letters={tmp_path}/bad")
    output = prepared.said(
        "experiments.interest_center", *flags, f"--events={prepared.log}", *beside
    )
    count = len(prepared.events)
    assert f"{count} applied" in output
    assert "0 refused" in output
    _, expected = scores_of_history(prepared, "base_model")
    np.testing.assert_allclose(scores_of_state(prepared, "base_model", store), expected, atol=1e-6)


@pytest.mark.slow
@every_family
def test_the_life_of_a_version_through_every_action(prepared, tmp_path):
    export_dir, store = prepared.export("base_model"), f"lmdb:{tmp_path / 'S'}"
    flags = (f"--export_dir={export_dir}", f"--store={store}", f"--snapshot_dir={tmp_path / 'P'}")
    beside = (f"--offset_file={tmp_path}/offset", f"--dead_letters={tmp_path}/bad")
    center = ("experiments.interest_center", *flags)
    data, events = f"--data_dir={prepared.data}", f"--events={prepared.log}"
    assert "they are warm" in prepared.said(*center, "--action=warm_up", data, "--noprogress")
    assert "requests read the states" in prepared.said(*center, "--action=switch")
    output = prepared.said(*center, events, *beside)
    assert "0 refused" in output
    assert "included before" in output
    _, expected = scores_of_history(prepared, "base_model")
    np.testing.assert_allclose(scores_of_state(prepared, "base_model", store), expected, atol=1e-5)
    # A state is damaged; the next batch of events mends it from the prepared data.
    metadata = open_bundle(export_dir)[1]
    with open_store(store) as opened:
        states = UserStates(opened, metadata).store
        count, user = len(list(states.users())), next(states.users())
        whole = dict(states.items())
        states.put_many({user: whole[user][:-3]})
    assert f"user {user}: " in prepared.said(*center, "--action=damaged")
    (tmp_path / "offset").unlink()
    output = prepared.said(*center, events, *beside, data)
    assert "1 damaged states" in output
    with open_store(store) as opened:
        mended = dict(UserStates(opened, metadata).items())
        assert len(mended) == count
    assert "1 damaged states of base_model.1 were dropped" in prepared.said(
        *center, "--action=damaged", "--drop"
    )
    assert "0 damaged states" in prepared.said(*center, "--action=damaged")
    assert "snapshot in" in prepared.said(*center, "--action=snapshot", events, *beside)
    assert f"{count} states of base_model.1" in prepared.said(*center, "--action=status")


@every_family
def test_extracted_states_and_histories_in_requests_take_the_ids_of_the_log(prepared, tmp_path):
    export_dir, store = prepared.export("base_model"), f"lmdb:{tmp_path / 'S'}"
    flags = (f"--data_dir={prepared.data}", f"--export_dir={export_dir}", f"--store={store}")
    assert "users written" in prepared.said("experiments.extract_interests", *flags, "--noprogress")
    assert np.isfinite(scores_of_state(prepared, "base_model", store)).all()
    _, expected = scores_of_history(prepared, "base_model")
    _, history = prepared.history
    with served(prepared, f"--export_dir={export_dir}") as rank:
        plain = {name: history[name] for name in ("item_id", "timestamp")}
        np.testing.assert_allclose(rank({"history": plain}), expected, atol=1e-6)
        if "behavior_type" in history:
            typed = {**plain, "behavior_type": history["behavior_type"]}
            np.testing.assert_allclose(rank({"history": typed}), expected, atol=1e-6)


@pytest.mark.slow
@every_family
def test_an_index_with_the_events_of_a_log_ranks_users_as_their_histories(prepared, tmp_path):
    export_dir, index_dir = prepared.export("sim_hard"), tmp_path / "index"
    data, late = f"--data_dir={prepared.data}", f"--state_store=lmdb:{tmp_path / 'late'}"
    flags = (data, f"--output_dir={index_dir}", "--key=category_id", "--noprogress")
    assert "lists by category_id" in prepared.said("experiments.build_index", *flags)
    log = (
        f"--events={prepared.log}",
        f"--offset_file={tmp_path}/offset",
        f"--dead_letters={tmp_path}/b",
    )
    output = prepared.said(
        "experiments.append_events", data, f"--index_dir={index_dir}", late, *log
    )
    assert f"{len(prepared.events)} events appended, 0 were known, 0 bad lines" in output
    user, expected = scores_of_history(prepared, "sim_hard")
    with served(prepared, f"--export_dir={export_dir}", f"--index_dir={index_dir}", late) as rank:
        np.testing.assert_allclose(rank({"user_id": user}), expected, atol=1e-6)


@pytest.mark.slow
@every_family
def test_an_engine_with_the_events_of_a_log_ranks_users_as_their_histories(prepared, tmp_path):
    export_dir, index_dir = prepared.export("dgin"), tmp_path / "index"
    data, totals = f"--data_dir={prepared.data}", f"--totals_store=lmdb:{tmp_path / 'totals'}"
    flags = (data, f"--output_dir={index_dir}", "--key=category_id", totals, "--noprogress")
    assert "0 late events" in prepared.said("experiments.build_index", *flags)
    log = (
        f"--events={prepared.log}",
        f"--offset_file={tmp_path}/offset",
        f"--dead_letters={tmp_path}/b",
    )
    index = (f"--index_dir={index_dir}", totals)
    output = prepared.said("experiments.append_events", data, *index, *log)
    assert f"{len(prepared.events)} events appended, 0 were known, 0 bad lines" in output
    engine = (f"--export_dir={export_dir}", *index, f"--groups_store=lmdb:{tmp_path / 'groups'}")
    assert "0 were kept" in prepared.said("experiments.keep_groups", *engine, "--noprogress")
    user, expected = scores_of_history(prepared, "dgin")
    request = {"user_id": user, "candidates": candidates_of(prepared, "dgin")}
    with served(prepared, *engine) as rank:
        np.testing.assert_allclose(rank(request), expected, atol=1e-6)
