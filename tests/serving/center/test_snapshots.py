"""Daily snapshots: what they hold, how long they are kept, and the way back."""

import datetime
import os

import pytest

from dgin_tf.serving.center.snapshots import RETENTION_DAYS, DailySnapshots, Snapshots
from dgin_tf.serving.center.state_versions import StateVersions
from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.stores.addresses import open_store
from dgin_tf.stores.state_store import StoreError
from tests.redis_server import RedisServer
from tests.serving.center.following import METADATA, event, halved, make_center, sums

DAY = datetime.date(2026, 11, 21)


@pytest.fixture(params=["lmdb", "redis", "memory"])
def store(request, tmp_path):
    """An open, empty store of each kind."""
    if request.param == "redis":
        (tmp_path / "redis").mkdir()
        server = RedisServer(tmp_path / "redis")
        request.addfinalizer(server.kill)  # noqa: PT021
        address = server.url
    elif request.param == "lmdb":
        pytest.importorskip("lmdb", reason="the Python package lmdb is not installed")
        address = f"lmdb:{tmp_path / 'S'}"
    else:
        address = "memory:"
    with open_store(address) as a_store:
        yield a_store


@pytest.fixture
def snapshots(store, tmp_path):
    return Snapshots(tmp_path / "P", UserStates(store, METADATA))


def test_states_come_back_as_they_were_and_others_stay(store, snapshots, tmp_path):
    center = make_center(store, tmp_path)
    center.apply([event(2, 1, 5), event(3, 1, 7)])
    before = dict(store.scoped("halving.3").items())
    snapshots.take({"offset": 60}, DAY)
    center.apply([event(2, 2, 9), event(5, 1, 11)])
    store.scoped("halving.4").put_many({2: b"another version's"})
    assert snapshots.roll_back(snapshots.find("2026-11-21")) == 2
    assert dict(store.scoped("halving.3").items()) == before
    assert dict(store.scoped("halving.4").items()) == {2: b"another version's"}


def test_a_damaged_snapshot_replaces_no_state(store, snapshots, tmp_path):
    make_center(store, tmp_path).apply([event(2, 1, 5), event(3, 1, 7)])
    snapshot = snapshots.take({}, DAY)
    before = dict(store.scoped("halving.3").items())
    for path in snapshot.folder.rglob("*"):
        if path.suffix in (".tfrecord", ".mdb"):
            path.write_bytes(b"")  # a file of records without any would be a snapshot of no states
    with pytest.raises(
        ValueError, match="0 bytes instead of .*; roll back to the snapshot of another"
    ):
        snapshots.roll_back(snapshots.find("2026-11-21"))
    assert dict(store.scoped("halving.3").items()) == before


def test_somebody_elses_files_beside_snapshots_stay(snapshots, tmp_path):
    (first,) = (snapshots.take({}, DAY).folder,)
    (first / "notes").write_text("mine")
    (first.parent / ".mine.tmp").write_text("mine")
    os.utime(first.parent / ".mine.tmp", (0, 0))
    with pytest.raises(ValueError, match="it holds notes, which is no part of one"):
        snapshots.take({}, DAY)
    snapshots.take({}, DAY + datetime.timedelta(RETENTION_DAYS))  # the first one has expired
    assert os.listdir(first) == ["notes"]
    assert (first.parent / ".mine.tmp").is_file()


def test_events_since_a_snapshot_bring_its_states_up_to_date(store, snapshots, tmp_path):
    stream = [event(2, n, n + 1) for n in range(1, 8)]
    make_center(store, tmp_path).apply(stream[:3])
    snapshots.take({}, DAY)
    make_center(store, tmp_path).apply(stream[3:])
    snapshots.roll_back(snapshots.find("2026-11-21"))
    make_center(store, tmp_path).apply(stream[1:])
    assert sums(store) == {2: halved(range(2, 9))}


def test_a_week_of_snapshots_is_kept(store, snapshots, tmp_path):
    days = [DAY + datetime.timedelta(n) for n in range(RETENTION_DAYS + 3)]
    for number, day in enumerate(days, start=1):
        make_center(store, tmp_path).apply([event(2, number, number + 1)])
        snapshots.take({"offset": number}, day)
    assert [s.day for s in snapshots.list()] == [day.isoformat() for day in days[-RETENTION_DAYS:]]
    oldest = snapshots.list()[0]
    assert oldest.position == {"offset": 4}
    snapshots.roll_back(oldest)
    assert sums(store) == {2: halved(range(2, 6))}


def test_a_second_snapshot_of_a_day_takes_the_place_of_the_first(store, snapshots):
    snapshots.take({"offset": 1}, DAY)
    snapshots.take({"offset": 2}, DAY)
    assert [s.position for s in snapshots.list()] == [{"offset": 2}]


def test_what_a_killed_snapshot_left_is_in_nobodys_way(snapshots, tmp_path):
    left = tmp_path / "P" / "halving.3" / f".2026-11-21.{os.getpid()}.tmp"
    left.mkdir(parents=True)
    snapshots.take({}, DAY)
    assert left.exists()  # another machine may be writing it
    os.utime(left, (0, 0))
    snapshots.take({}, DAY)
    assert [path.name for path in left.parent.iterdir()] == ["2026-11-21"]


@pytest.mark.parametrize("error", [StoreError("the store does not answer."), OSError("disk full")])
def test_a_daily_snapshot_that_fails_stops_nobody_and_is_tried_later(snapshots, monkeypatch, error):
    said, failing = [], [error]

    def position():
        if failing:
            raise failing.pop()
        return {"offset": 3}

    daily = DailySnapshots(snapshots, position, said.append)
    for _ in range(2):
        daily.take_if_due(DAY)
    assert said == [f"no snapshot of 2026-11-21, trying again in 10 minutes: {error}"]
    monkeypatch.setattr(daily, "_next_try", 0.0)
    for _ in range(2):
        daily.take_if_due(DAY)
    assert said[1:] == ["snapshot of 2026-11-21"]
    daily.take_if_due(DAY + datetime.timedelta(1))
    assert [s.day for s in snapshots.list()] == ["2026-11-21", "2026-11-22"]


def test_a_day_without_a_snapshot_is_named_with_those_there_are(store, snapshots):
    snapshots.take({}, DAY)
    with pytest.raises(
        ValueError, match="no snapshot of '2026-11-20' of .*; there are: 2026-11-21"
    ):
        snapshots.find("2026-11-20")


def test_requests_read_the_old_version_until_the_switch(store, tmp_path):
    versions, newer = StateVersions(store, "halving"), {**METADATA, "version": 4}
    assert versions.live is None
    versions.mark_warm(METADATA)
    versions.switch(METADATA)
    with pytest.raises(ValueError, match=r"states of halving.4.ab12 are not warm; warm are: halv"):
        versions.switch(newer)
    versions.mark_warm(newer)
    assert versions.live == "halving.3"
    versions.switch(newer)
    assert StateVersions(store, "halving").live == "halving.4"
    assert versions.warm == ["halving.3.ab12", "halving.4.ab12"]
    assert StateVersions(store, "other").live is None


def test_weights_that_were_exported_anew_under_an_old_number_are_not_warm(store):
    versions = StateVersions(store, "halving")
    versions.mark_warm(METADATA)
    with pytest.raises(ValueError, match="not warm"):
        versions.switch({**METADATA, "weights_digest": "cd34"})
