"""The center on exported bundles: warm-up, streams, ranking from what is stored, the command."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.records import Manifest
from dgin_tf.serving import user_records
from dgin_tf.serving.center.dead_letters import DeadLetters
from dgin_tf.serving.center.events import EventParser
from dgin_tf.serving.center.interest_center import InterestCenter
from dgin_tf.serving.center.progress import Progress
from dgin_tf.serving.center.state_updates import StateUpdater
from dgin_tf.serving.center.state_versions import StateVersions
from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.serving.encode_users import UserStateSink, encode_users
from dgin_tf.serving.export.signatures import ENCODE_USER
from dgin_tf.serving.online.bundle_model import BundleModel
from dgin_tf.serving.online.ranker import Ranker, RawRanker
from dgin_tf.serving.rebuilt_states import RebuiltStates
from dgin_tf.serving.user_records import RecordUsers
from dgin_tf.stores.addresses import open_store
from dgin_tf.stores.state_store import InMemoryStore
from tests.prepared import make_schema
from tests.serving import exported

ROOT = pathlib.Path(__file__).resolve().parents[3]
ITEMS = [[5, 9, 9, 40, 7], [3], [], [11, 80, 2]]
CANDIDATES = [3, 5, 8]


@pytest.fixture(scope="module", params=["base_model", "din", "mimn"])
def updater(request):
    """States of a fixed size that add up, that grow, and of a memory."""
    return StateUpdater(request.getfixturevalue(request.param).version)


def columns(updater, items, since=1000):
    items = np.array(items, int)
    return {
        "item_id": items,
        "category_id": updater.catalogue["category_id"][items],
        "timestamp": since + np.arange(len(items)),
    }


def lines_of(person, items, first=1):
    return [
        json.dumps(
            {
                "user_id": f"u{person}",
                "sequence": number,
                "item_id": f"item {item}",
                "timestamp": 1000 + number,
            }
        ).encode()
        for number, item in enumerate(items, start=first)
    ]


def center_on(updater, store, folder):
    parser = EventParser(updater.schema, updater.catalogue, updater.vocabularies)
    states = UserStates(store, updater.metadata)
    return InterestCenter(updater, states, parser, DeadLetters(folder / "letters"))


def test_updates_of_many_people_are_those_of_one_history_each(updater):
    users = {"user_id": np.array([2, 7, 11, 13])}
    histories = [columns(updater, items) for items in ITEMS]
    states_of_histories = [
        updater.encode([h], {"user_id": users["user_id"][n : n + 1]})[0]
        for n, h in enumerate(histories)
    ]
    states = updater.empty(users["user_id"])
    for start, stop in ((0, 1), (1, 5)):
        parts = [{k: v[start:stop] for k, v in h.items()} for h in histories]
        moving = [n for n, part in enumerate(parts) if len(part["item_id"])]
        actual = updater.update([states[n] for n in moving], [parts[n] for n in moving])
        for n, state in zip(moving, actual, strict=True):
            states[n] = state
    for state, other in zip(states, states_of_histories, strict=True):
        for name in set(state) - {
            "interest__events",
            "interest__mask",
        }:  # those of DIN are compared by what they rank
            np.testing.assert_allclose(state[name], other[name], rtol=1e-5, atol=1e-5)


def test_the_ranker_scores_stored_states_as_it_scores_histories(updater, tmp_path):
    store = InMemoryStore()
    center = center_on(updater, store, tmp_path)
    lines = [
        line
        for person, items in zip((2, 7, 11, 13), ITEMS, strict=True)
        for line in lines_of(person, items)
    ]
    for start in range(0, len(lines), 4):
        center.apply(lines[start : start + 4])
    ranker = Ranker(updater.version_dir, states=store)
    for person, items in zip((2, 7, 11, 13), ITEMS, strict=True):
        reference = ranker.rank(columns(updater, items), CANDIDATES, {"user_id": person})
        raw_items = [f"item {item}" for item in CANDIDATES]
        for scores in (
            ranker.rank(person, CANDIDATES),
            RawRanker(ranker).rank(f"u{person}", raw_items),
        ):
            np.testing.assert_allclose(scores, reference, atol=1e-5)


def test_strangers_have_states_of_their_own(base_model, tmp_path):
    updater, store = StateUpdater(base_model.version), InMemoryStore()
    center_on(updater, store, tmp_path).apply(
        [
            line.replace(b'"u2"', name)
            for name, item in ((b'"anna"', 5), (b'"otto"', 40))
            for line in lines_of(2, [item])
        ]
    )
    ranker = Ranker(base_model.version, states=store)
    for name, item in (("anna", 5), ("otto", 40), ("nobody", None)):
        items = [] if item is None else [item]
        reference = ranker.rank(columns(updater, items), CANDIDATES, {"user_id": 1})
        scores = RawRanker(ranker).rank(name, [f"item {item}" for item in CANDIDATES])
        np.testing.assert_allclose(scores, reference, atol=1e-6)


def test_a_ranker_without_states_says_so(din):
    with pytest.raises(ValueError, match="needs an index or stored states"):
        Ranker(din.version).rank(3, CANDIDATES)


def test_stored_states_know_no_earlier_time(base_model):
    with pytest.raises(ValueError, match="leave `before` out"):
        Ranker(base_model.version, states=InMemoryStore()).rank(3, CANDIDATES, before=7)


def test_a_state_of_other_weights_is_refused_by_the_ranker(base_model, tmp_path):
    updater, store = StateUpdater(base_model.version), InMemoryStore()
    center_on(updater, store, tmp_path).apply(lines_of(2, [5]))
    ranker = Ranker(base_model.version, states=store)
    ranker.users._states = UserStates(store, {**updater.metadata, "weights_digest": "other"})
    with pytest.raises(ValueError, match="belongs to model version 'base_model.1."):
        ranker.rank(2, CANDIDATES)


def test_a_model_whose_state_cannot_follow_events_is_refused(wide_deep):
    with pytest.raises(
        ValueError, match="'wide_deep' has no update_user, so that its state cannot"
    ):
        StateUpdater(wide_deep.version)


def warm_up(updater, states, data, days=0):
    """Encodes all users; returns how many, and how many states lack their history."""
    model, sink = BundleModel(updater.version_dir), UserStateSink(states)
    users = RecordUsers(data, model.metadata, days=days)
    encode = functools.partial(model.run, ENCODE_USER)
    return encode_users(users, encode, sink, batch_users=8).users, len(sink.incomplete)


def test_everybody_of_a_data_set_is_warmed_up_once(updater, data):
    store = InMemoryStore()
    states = UserStates(store, updater.metadata)
    assert warm_up(updater, states, data) == (exported.USERS, 0)
    assert warm_up(updater, states, data) == (0, 0)
    batches = data.evaluation("test", exported.BatchOptions(exported.USERS * 2, 47))
    (batch,) = batches.take(1)
    mask = batch["hist_mask"].numpy()
    ranker = Ranker(updater.version_dir, states=store)
    ranker.model.metadata["max_history"] = 47
    row = int(np.argmax(mask.sum(1)))  # the last cut of the person with most events
    person = int(batch["user_id"][row])
    history = {
        field: batch[f"hist_{field}"].numpy()[row][mask[row]]
        for field in ("item_id", "category_id", "timestamp")
    }
    reference = ranker.rank(history, CANDIDATES, {"user_id": person})
    np.testing.assert_allclose(ranker.rank(person, CANDIDATES), reference, atol=1e-5)
    (state,) = states.read([person])
    newest = int(history["timestamp"][-1])
    assert state.progress == Progress(0, newest, newest)


def test_only_the_last_days_are_warmed_up(base_model, data, monkeypatch):
    monkeypatch.setattr(user_records, "_DAY", 5)  # the events of this data set are seconds apart
    updater = StateUpdater(base_model.version)
    counts, newest = [], []
    for days in (0, 1, 100):
        states = UserStates(InMemoryStore(), updater.metadata)
        warm_up(updater, states, data, days)
        people = [state for _, state in states.items()]
        counts.append(sum(state.arrays["pooled__count"][0] for state in people))
        newest.append({state.progress.included_until for state in people} - {-1})
    assert 0 < counts[1] < counts[0] == counts[2]
    assert max(newest[1]) - min(newest[1]) <= 5 < max(newest[0]) - min(newest[0])


def test_people_whose_events_came_before_their_history_are_counted(updater, data, tmp_path):
    store = InMemoryStore()
    center, states = center_on(updater, store, tmp_path), UserStates(store, updater.metadata)
    someone = next(
        int(batch["user_id"][row])
        for batch in data.evaluation("test", exported.BatchOptions(exported.USERS * 2, 47)).take(1)
        for row in np.flatnonzero(batch["hist_mask"].numpy().any(1))
    )
    center.apply(lines_of(someone, [5, 9]))
    assert warm_up(updater, states, data) == (exported.USERS - 1, 1)
    center.apply([line.replace(b'"timestamp": ', b'"timestamp": 9') for line in lines_of(3, [8])])
    assert warm_up(updater, states, data) == (0, 1)


def test_data_of_another_schema_warm_nothing_up(base_model, tmp_path):
    schema = make_schema(max_history=53)
    schema.save(tmp_path)
    Manifest(schema.fingerprint(), {}, whole_histories=()).save(tmp_path)
    updater = StateUpdater(base_model.version)
    with pytest.raises(ValueError, match="follow schema .*, but the model follows"):
        warm_up(updater, UserStates(InMemoryStore(), updater.metadata), PreparedData(tmp_path))


def test_states_that_lack_their_history_are_not_marked_as_warm(base_model):
    versions = StateVersions(InMemoryStore(), "base_model")
    with pytest.raises(ValueError, match="the states of 2 users began with their events"):
        versions.mark_warm(BundleModel(base_model.version).metadata, {5, 9})
    assert versions.warm == []


def test_a_bundle_says_what_a_state_takes(mimn, din):
    width = 2 * 7  # item and category
    memory = 3 * width + width + width + 3 + 3 * width  # slots, controller, read, usage, channels
    actual = json.loads((mimn.version / "assets.extra" / "model.json").read_text())["state_bytes"]
    assert actual == {"fixed": 4 * (memory + width + 1), "per_event": 0}  # and the history's sum
    actual = json.loads((din.version / "assets.extra" / "model.json").read_text())["state_bytes"]
    assert actual == {"fixed": 0, "per_event": 4 * width + 1}


def run(*flags, inputs=""):
    return subprocess.run(
        [sys.executable, "-m", "experiments.interest_center", *map(str, flags)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        input=inputs,
        capture_output=True,
        text=True,
    )


def test_the_command_reads_standard_input_and_says_what_happened(base_model, tmp_path):
    pytest.importorskip("lmdb", reason="the Python package lmdb is not installed")
    flags = [f"--export_dir={base_model.version}", f"--store=lmdb:{tmp_path / 'S'}"]
    text = b"\n".join([*lines_of(2, [5, 9, 7]), *lines_of(3, [8]), b"no event"]).decode()
    done = run(*flags, "--events=-", f"--dead_letters={tmp_path / 'letters'}", inputs=text)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "5 events in 1 batches: 4 applied, 0 repeated, 0 repeated or too late, 0 included before, "
        "1 refused; 2 newcomers, "
    )
    said = done.stderr.splitlines()[-1]
    assert said.startswith("1 lines were refused, the first because: no JSON")
    assert said.endswith(f"all are in {tmp_path / 'letters'}")
    status = run(*flags, "--action=status")
    assert status.stdout.startswith("2 states of base_model.1.")
    assert "live: none\nwarm: none\nsnapshots: none" in status.stdout
    done = run(*flags, "--action=switch")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: the states of base_model.1.")


def test_a_history_is_encoded_once_more_for_a_user_whose_state_is_damaged(updater, data):
    states, said = UserStates(InMemoryStore(), updater.metadata), []
    warm_up(updater, states, data)
    rebuild = RebuiltStates(data, updater, 0, said.append)
    users = list(states.store.users())[3:7]
    rebuilt = rebuild([*users, 10**6])
    assert sorted(rebuilt) == sorted(users)
    for user, state in zip(users, states.read(users), strict=True):
        assert rebuilt[user].progress == state.progress
        for name, array in state.arrays.items():
            np.testing.assert_allclose(rebuilt[user].arrays[name], array, rtol=1e-5, atol=1e-5)
    assert said == []


def test_a_data_set_that_cannot_be_read_rebuilds_nothing_and_says_so(base_model, tmp_path):
    data, said = exported.make_data(tmp_path / "data"), []
    rebuild = RebuiltStates(data, StateUpdater(base_model.version), 0, said.append)
    for path in (tmp_path / "data").rglob("*.tfrecord"):
        path.write_bytes(path.read_bytes()[:-5])
    assert rebuild([5]) == {}
    assert said[0].startswith("no history could be read: ")


@pytest.mark.slow
def test_lines_none_of_which_is_an_event_end_with_exit_code_2(base_model, tmp_path):
    pytest.importorskip("lmdb", reason="the Python package lmdb is not installed")
    flags = [f"--export_dir={base_model.version}", f"--store=lmdb:{tmp_path / 'S'}"]
    done = run(*flags, "--events=-", f"--dead_letters={tmp_path / 'letters'}", inputs="{}\nx\n")
    assert done.returncode == 2
    assert (
        "error: none of 2 lines is an event that can be applied, the first because" in done.stderr
    )
    assert str(tmp_path / "letters") in done.stderr


@pytest.mark.slow
def test_the_life_of_a_version_by_commands(base_model, data, tmp_path):
    pytest.importorskip("lmdb", reason="the Python package lmdb is not installed")
    flags = [f"--export_dir={base_model.version}", f"--store=lmdb:{tmp_path / 'S'}"]
    events, remaining = tmp_path / "log.jsonl", f"--snapshot_dir={tmp_path / 'P'}"
    late = [
        line.replace(b'"timestamp": ', b'"timestamp": 170000') for line in lines_of(3, [5, 9, 7, 8])
    ]

    def said(*more):
        done = run(*flags, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def state():
        with open_store(f"lmdb:{tmp_path / 'S'}") as store:
            return dict(UserStates(store, updater.metadata).store.items())

    updater = StateUpdater(base_model.version)
    assert "they are warm. Live is none" in said(
        "--action=warm_up", f"--data_dir={data.data_dir}", "--noprogress"
    )
    assert "requests read the states of base_model.1; before: None" in said("--action=switch")
    events.write_bytes(b"\n".join(late[:2]) + b"\n")
    assert "2 applied" in said(f"--events={events}", remaining)
    (day,) = os.listdir(tmp_path / "P" / "base_model.1")
    first = state()
    with open(events, "ab") as file:
        file.write(b"\n".join(late[2:]) + b"\n")
    assert "2 events in 1 batches: 2 applied" in said(f"--events={events}", remaining)
    second = state()
    assert second != first
    rollback_output = said("--action=rollback", f"--day={day}", f"--events={events}", remaining)
    assert "the events since then will be read again" in rollback_output
    assert state() == first
    assert "2 events in 1 batches: 2 applied" in said(f"--events={events}", remaining)
    assert state() == second
    assert "snapshot in " in said("--action=snapshot", f"--events={events}", remaining)
    assert f"warm: base_model.1.{updater.metadata['weights_digest']}\nsnapshots: {day}" in said(
        "--action=status", remaining
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--store=lmdb:S"], "--action=consume needs --events."),
        (["--store=lmdb:S", "--action=rollback"], "needs --snapshot_dir and --day."),
        (["--store=lmdb:S", "--events=redis://h/0"], "events from Redis need --streams"),
        (["--store=memory:", "--events=-"], "states in memory are gone with the process"),
    ],
)
def test_a_mistake_in_the_flags_is_one_sentence(flags, message):
    done = run("--export_dir=none", *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
