"""Versions side by side: labels, switch and rollback under load, damaged and half-copied versions."""

import http.client
import shutil
import threading
import time

import pytest

from dgin_tf.integrity import read_json, sealed
from dgin_tf.serving.center.state_versions import StateVersions
from dgin_tf.serving.export.versions import ASSETS, METADATA_FILE
from dgin_tf.serving.online.served_model import Rollout, live_states, watch
from dgin_tf.serving.online.server_configs import METRICS_PATH, read_metrics_path, read_rollout
from dgin_tf.stores.state_store import InMemoryStore
from tests.serving.online.running import exchange, running, served

RANK = {"history": [5, 16], "candidates": [5, 27]}


def copy_version(exported, base, number):
    """Copies a version under another number."""
    target = base / str(number)
    shutil.copytree(exported.version, target)
    path = target / ASSETS / METADATA_FILE
    path.write_text(sealed({**read_json(path, "", ""), "version": number}, sort_keys=True))


@pytest.fixture
def base(din, tmp_path):
    copy_version(din, tmp_path, 1)
    return tmp_path


@pytest.fixture
def lines():
    return []


def test_a_newer_version_takes_over_and_the_older_one_goes(base, din):
    model = served("din", base)
    assert not model.refresh()
    copy_version(din, base, 2)
    assert model.refresh()
    assert model.current.number == 2
    with pytest.raises(LookupError, match=r"Specific\(din, 1\)"):
        model.find("din", 1)


def damage(base, kind):
    """Damages version 2."""
    folder = base / "2"
    if kind == "garbage":
        (folder / "saved_model.pb").write_bytes(b"\x07" * 1_000)
    elif kind == "half copied":
        shutil.rmtree(folder / "variables")
    elif kind == "flipped":
        (path,) = (folder / "variables").glob("*.data*")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif kind == "no model.json":
        (folder / ASSETS / METADATA_FILE).write_text("{}")
    elif kind == "empty":
        shutil.rmtree(folder)
        folder.mkdir()


@pytest.mark.parametrize("kind", ["garbage", "half copied", "flipped", "no model.json", "empty"])
def test_a_damaged_version_is_reported_once_and_a_later_one_loads(base, din, lines, kind):
    model = served("din", base, say=lines.append)
    copy_version(din, base, 2)
    damage(base, kind)
    for _ in range(3):
        model.refresh()
    assert model.current.number == 1
    assert sum("version 2 of din is passed over" in line for line in lines) == 1
    (states,) = [state for state in model.states("din") if state[0] == 2]
    assert states[1] == "END"
    assert states[3]
    copy_version(din, base, 3)
    assert model.refresh()
    assert model.current.number == 3


def test_a_version_that_is_copied_to_its_end_loads(base, din):
    model = served("din", base)
    copy_version(din, base, 2)
    parts = base / "parts"
    (base / "2" / "variables").rename(parts)
    assert not model.refresh()
    parts.rename(base / "2" / "variables")
    assert model.refresh()
    assert model.current.number == 2


def test_a_version_whose_files_are_replaced_is_loaded_again(base, din):
    model = served("din", base)
    before = model.current
    shutil.rmtree(base / "1")
    copy_version(din, base, 1)
    assert model.refresh()
    assert model.current is not before


def test_versions_with_labels_stay_beside_each_other(base, din, lines):
    rollout = [Rollout(latest=2, labels={"stable": 1})]
    model = served("din", base, rollout=lambda: rollout[0], say=lines.append)
    copy_version(din, base, 2)
    rollout[0] = Rollout(latest=1, labels={"stable": 1, "canary": 2})
    model.refresh()
    assert [version.number for version in model.versions] == [1, 2]  # a label needs the first
    assert model.find("din", label="stable").number == 1
    assert model.find("din", label="canary").number == 2
    rollout[0] = Rollout(labels={"stable": 3, "canary": 2})
    model.refresh()
    assert model.find("din", label="stable").number == 1  # until version 3 is there
    assert "label stable waits for version 3, which is not loaded" in lines
    with pytest.raises(LookupError, match="label: nope"):
        model.find("din", label="nope")


def test_a_switch_and_a_rollback_fail_no_request(base, din):
    rollout = [Rollout(latest=2, labels={"stable": 1})]
    model = served("din", base, rollout=lambda: rollout[0])
    stop, answers = threading.Event(), []

    def ask(port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not stop.is_set():
            body = {**RANK, "label": "stable"}
            answers.append(exchange(connection, "POST", "/rank", body)[:2])

    with running(model) as handle:
        threads = [threading.Thread(target=ask, args=(handle.port,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        copy_version(din, base, 2)
        for labels in ({"stable": 1}, {"stable": 2}, {"stable": 1}):  # load, switch, roll back
            rollout[0] = Rollout(latest=2, labels=labels)
            model.refresh()
            count = len(answers)
            while len(answers) < count + 20:
                time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
    assert {status for status, _ in answers} == {200}
    versions = [answer["version"] for _, answer in answers]
    assert sorted(set(versions)) == [1, 2]
    assert versions[0] == 1
    assert 1 in versions[-4:]  # three requests may have begun before the rollback


def test_the_thread_that_watches_survives_whatever_fails(base, din, lines):
    model = served("din", base)
    failures = [RuntimeError("surprise"), OSError("gone")]
    refresh = model.refresh

    def fail():
        if failures:
            raise failures.pop()
        return refresh()

    model.refresh = fail
    stop = threading.Event()
    thread = watch(model, 0.01, stop, lines.append)
    copy_version(din, base, 2)
    deadline = time.monotonic() + 60
    while model.current.number != 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(60)
    assert model.current.number == 2
    assert lines == ["looking for versions failed: gone", "looking for versions failed: surprise"]


def test_requests_stay_with_the_version_whose_states_are_live(base_model, tmp_path):
    copy_version(base_model, tmp_path, 1)
    store = InMemoryStore()
    versions = StateVersions(store, "base_model")
    choose = live_states(store, "base_model")
    model = served("base_model", tmp_path, rollout=lambda: Rollout(latest=2), choose=choose)
    versions.mark_warm(model.current.metadata)
    copy_version(base_model, tmp_path, 2)
    model.refresh()
    assert model.current.number == 1  # the states of version 2 are not warm
    versions.mark_warm(model.find("base_model", 2).metadata)
    model.refresh()
    assert model.current.number == 2
    versions.switch(model.find("base_model", 1).metadata)  # a rollback
    model.refresh()
    assert model.current.number == 1


CONFIG = """
model_config_list {
  config {
    name: "din" base_path: "/models/din" model_platform: "tensorflow"
    model_version_policy { specific { versions: 3 versions: 5 } }
    version_labels { key: "stable" value: 3 }
    version_labels { key: "canary" value: 5 }
  }
}
"""


def test_the_config_of_tf_serving_names_versions_and_labels(tmp_path, din):
    path = tmp_path / "models.config"
    path.write_text(CONFIG)
    rollout = read_rollout(path, "din")
    assert rollout == Rollout(1, (3, 5), {"stable": 3, "canary": 5})
    with pytest.raises(ValueError, match="expected a model 'other' in"):
        read_rollout(path, "other")
    path.write_text("model_config_list { nonsense }")
    with pytest.raises(ValueError, match="ModelServerConfig"):
        read_rollout(path, "din")
    exported = din.version.parent
    assert read_rollout(exported / "models.config", "din") == Rollout(1)
    assert read_metrics_path(exported / "monitoring.config") == METRICS_PATH
    path.write_text('prometheus_config {\n  enable: true\n  path: "/own/metrics"\n}\n')
    assert read_metrics_path(path) == "/own/metrics"
    assert read_metrics_path(tmp_path / "none") == METRICS_PATH
