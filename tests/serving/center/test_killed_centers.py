"""A center that is killed again and again ends with the states of one that was never disturbed."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.serving.export.versions import open_bundle
from dgin_tf.stores.addresses import open_store
from tests.prepared import USERS
from tests.serving.center.following import METADATA

ROOT = pathlib.Path(__file__).resolve().parents[3]
KILLED = -signal.SIGKILL


class Centers:
    """Centers forked by one process, see `forked_centers`."""

    def __init__(self, kind, folder, flags):
        self._log = folder / "center.log"
        self._flags = flags
        self._child = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.serving.center.forked_centers", kind],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *flags):
        self._log.unlink(missing_ok=True)
        self._process.stdin.write(json.dumps([*self._flags, *flags, str(self._log)]) + "\n")
        self._process.stdin.flush()
        self._child = int(self._process.stdout.readline())
        return self._child

    def wait_for_reading(self):
        def is_reading():
            os.kill(self._child, 0)  # raises where it has ended
            return self._log.is_file() and " follows " in self._log.read_text()

        wait_until(is_reading)

    def result(self):
        self._child = None
        return int(self._process.stdout.readline())

    def log(self):
        return self._log.read_text()

    def close(self):
        if self._child is not None:
            os.kill(self._child, signal.SIGKILL)
        self._process.stdin.close()
        self._process.wait(60)


def wait_until(is_so, seconds=600):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def acknowledged(folder):
    """Bytes of the events that the killed center need not read again."""
    paths = list(folder.glob("*.offset"))
    return json.loads(paths[0].read_text())["offset"] if paths else 0


def make_stream(kind, count, rng):
    """Lines of `count` events, some of them twice, and a few that are none; events by person."""
    user, item = (int, int) if kind == "halving" else ("u{}".format, "item {}".format)
    lines, numbers = [], {}
    for second in range(count):
        person = int(rng.integers(2, USERS))
        numbers[person] = numbers.get(person, 0) + 1
        event = {
            "user_id": user(person),
            "sequence": numbers[person],
            "item_id": item(rng.integers(2, 100)),
            "timestamp": 1_600_000_000 + second,
        }
        lines.append(json.dumps(event))
        if rng.random() < 0.03:  # the producer was not sure
            lines.append(lines[int(rng.integers(len(lines)))])
        if rng.random() < 0.003:
            lines.append('{"user_id": 7, "sequence": ')
    return lines, numbers


def read_states(address, metadata):
    with open_store(address) as store:
        return dict(UserStates(store, metadata).items())


def check_kills(kind, folder, events, kills, version=""):
    """Kills a center `kills` times while `events` events come in, and compares.

    Args:
      kind: of `forked_centers`.
      folder: an empty one.
      events: how many different ones.
      kills: how many.
      version: an exported model, for the kind `bundle`.

    Returns:
      How many centers were killed with events before them that they had not acknowledged.
    """
    pytest.importorskip("lmdb", reason="the Python package lmdb is not installed")
    rng = np.random.default_rng(kills)
    lines, numbers = make_stream(kind, events, rng)
    stream, letters = folder / "events.jsonl", folder / "letters"
    store, quiet_address = f"lmdb:{folder / 'killed'}", f"lmdb:{folder / 'undisturbed'}"
    flags = [f"--export_dir={version}", f"--events={stream}", "--batch_events=64"]
    flags.append("--acknowledge_seconds=0.1")
    mine = [f"--store={store}", f"--dead_letters={letters}"]
    centers = Centers(kind, folder, flags)
    loading = busy = 0
    window = 0.0
    with contextlib.closing(centers):
        for part in np.array_split(np.array(lines, dtype=object), kills):
            with open(stream, "a") as file:
                file.write("".join(f"{line}\n" for line in part))
            child = centers.start(*mine, "--follow")
            if window and rng.random() < 0.1:
                time.sleep(rng.uniform(0.0, window))
                loading += 1
            else:
                centers.wait_for_reading()
                began = time.monotonic()
                if not window:  # how long a part takes, on this machine today
                    wait_until(lambda: stream.stat().st_size == acknowledged(folder))
                    window = time.monotonic() - began
                else:
                    time.sleep(rng.uniform(0.0, window))
            os.kill(child, signal.SIGKILL)
            assert centers.result() == KILLED
            was_busy = acknowledged(folder) < stream.stat().st_size
            busy += was_busy
            window *= (
                1.2 if was_busy else 0.8
            )  # so that most are, and yet the stream is kept up with
        offset = acknowledged(folder)
        centers.start(*mine)
        assert centers.result() == 0, centers.log()
        last = centers.log().splitlines()[-1]
        centers.start(
            f"--store={quiet_address}",
            f"--dead_letters={folder / 'others'}",
            f"--offset_file={folder / 'other'}",
        )
        assert centers.result() == 0, centers.log()
    metadata = METADATA if kind == "halving" else open_bundle(version)[1]
    actual, reference = (read_states(address, metadata) for address in (store, quiet_address))
    assert {person: state.progress.sequence for person, state in actual.items()} == numbers
    assert set(actual) == set(reference)
    difference, close, exact = 0.0, [], kind == "halving"
    for person, state in actual.items():
        assert state.progress == reference[person].progress
        if kind == "bundle":  # one is added for every event: none is lost, none applied twice
            assert state.arrays["history_sum__count"][0] == numbers[person]
        for name, array in state.arrays.items():
            reference_array = reference[person].arrays[name]
            close.append(
                np.isclose(array, reference_array, rtol=0, atol=0 if exact else 1e-3).ravel()
            )
            difference = max(difference, float(np.abs(array - reference_array).max()))
    # Batches end elsewhere, and a row of a matrix product depends a little on how many there are. Among
    # a thousand events that may once decide which channel is updated; a lost event moves whole states.
    same = np.mean(np.concatenate(close))
    assert same == 1 if exact else same > 0.999, same
    reasons_given = [json.loads(line)["reason"] for line in letters.read_text().splitlines()]
    assert len(reasons_given) >= sum(line.endswith(": ") for line in lines)
    assert all(reason.startswith("no JSON") for reason in reasons_given)
    sys.stdout.write(
        f"\n{kills} centers ({kind}) were killed, {loading} of them as they started and {busy} with events "
        f"before them that they had not acknowledged; {events:,} events of {len(numbers)} people and "
        f"{len(lines) - events:,} other lines: {same:.2%} of the states' numbers are those of an "
        f"undisturbed run (largest difference {difference:.1g}). Acknowledged at the last kill: {offset:,} of "
        f"{stream.stat().st_size:,} bytes. The last run: {last}\n"
    )
    return busy


def test_five_kills_lose_nothing_and_apply_nothing_twice(tmp_path):
    assert check_kills("halving", tmp_path, events=2_000, kills=5) > 0


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing_and_apply_nothing_twice(tmp_path):
    assert check_kills("halving", tmp_path, events=100_000, kills=100) > 30


@pytest.mark.slow
@pytest.mark.parametrize(("events", "kills"), [(2_000, 5), (100_000, 100)])
def test_centers_of_an_exported_model_may_be_killed_too(mimn, tmp_path, events, kills):
    assert check_kills("bundle", tmp_path, events, kills, mimn.version) > kills // 4
