"""Redis Streams against a real server: groups, consumers that die, a server that dies."""

import threading

import pytest

from dgin_tf.serving.center import event_streams
from dgin_tf.serving.center.event_streams import RedisStreams
from dgin_tf.serving.center.interest_center import Limits, consume
from dgin_tf.stores.addresses import open_store
from dgin_tf.stores.state_store import StoreError
from tests.redis_server import RedisServer
from tests.serving.center.following import event, halved, make_center, sums


@pytest.fixture
def server(tmp_path):
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis", durable=True)
    yield server
    server.kill()


def client(server):
    import redis

    return redis.Redis(port=server.port)


def add(server, *lines, stream="a"):
    for line in lines:
        client(server).xadd(stream, {"event": line})


def opened(server, consumer="one", streams=("a", "b"), **settings):
    return RedisStreams(server.url, streams, "center", consumer, **settings)


def test_entries_of_all_streams_are_read_and_acknowledged_once(server):
    add(server, b"1", b"2", b"3")
    add(server, b"4", stream="b")
    source = opened(server)
    assert sorted([*source.read(2), *source.read(9)]) == [b"1", b"2", b"3", b"4"]
    source.acknowledge()
    assert opened(server).read(9) == []


def test_what_was_not_acknowledged_comes_again_and_first(server):
    add(server, b"1", b"2", b"3")
    opened(server).read(2)
    again = opened(server)
    assert again.read(9) == [b"1", b"2"]
    assert again.read(9) == [b"3"]


def test_what_another_consumer_keeps_for_long_is_taken_over(server):
    add(server, b"1", b"2")
    opened(server, "dead").read(1)
    alive = opened(server, "alive", take_over=0.0)
    assert alive.read(9) == [b"1"]
    alive.acknowledge()
    assert alive.read(9) == [b"2"]


def test_a_consumer_stands_by_while_another_one_keeps_entries(server):
    add(server, b"1", b"2", b"3")
    add(server, b"4", stream="b")
    first = opened(server, "first", streams=["a"])
    assert first.read(2) == [b"1", b"2"]
    standing_by = opened(server, "second")
    assert standing_by.read(9) == [b"4"]
    assert standing_by.read(9) == []
    first.acknowledge()
    assert standing_by.read(9) == [b"3"]


def test_a_machine_that_takes_the_place_of_a_dead_one_refuses_nothing(server, tmp_path):
    items = list(range(2, 8))
    add(server, *(event(2, n, item) for n, item in enumerate(items, start=1)))
    opened(server, "dead", streams=["a"]).read(3)
    with open_store(f"{server.url}?prefix=states") as store:
        center = make_center(store, tmp_path)
        alive = opened(server, "alive", streams=["a"], take_over=0.3)
        consume(center, alive, lambda: center.counts.lines >= len(items))
        assert sums(store) == {2: halved(items)}
    assert (center.counts.updates, center.counts.dead_letters) == (len(items), 0)


def test_the_position_is_before_the_first_entry_that_anybody_keeps(server):
    add(server, b"1", b"2", b"3", b"4")
    source = opened(server)
    source.read(1)
    source.acknowledge()
    opened(server, "dead").read(1)
    position = source.position()
    assert opened(server, streams=["c"]).position() == {**position, "c": "0-0"}
    add(server, b"5")
    source.rewind(position)
    assert source.read(9) == [b"2", b"3", b"4", b"5"]


def test_rewinding_goes_back_in_all_streams_of_the_group(server):
    """States are everybody's, so that one machine's rollback concerns the streams of all."""
    one, other = opened(server, "one", streams=["a"]), opened(server, "other", streams=["b"])
    position = one.position()
    add(server, b"1")
    add(server, b"2", stream="b")
    add(server, b"3", stream="later")
    for source in (one, other, opened(server, "third", streams=["later"])):
        source.read(9)
        source.acknowledge()
    one.rewind(position)
    assert opened(server, streams=("a", "b", "later")).read(9) == [b"1", b"2", b"3"]


def test_a_position_in_a_file_is_none_in_streams(server):
    add(server, b"1")
    source = opened(server)
    source.read(1)
    source.acknowledge()
    with pytest.raises(
        ValueError, match="expected a position in streams; got byte 4,000 of a file"
    ):
        source.rewind({"offset": 4_000, "head": "ab"})
    assert not source.read(1)


def test_a_rewound_group_forgets_what_was_not_acknowledged(server):
    add(server, b"1", b"2", b"3")
    source = opened(server)
    position = source.position()
    source.read(1)
    source.acknowledge()
    source.read(1)
    opened(server).rewind(position)
    assert opened(server).read(9) == [b"1", b"2", b"3"]


def test_a_group_that_is_read_is_not_quiet(server, monkeypatch):
    add(server, b"1")
    source = opened(server)
    opened(server, "another").check_quiet()
    source.read(1)
    with pytest.raises(
        ValueError, match="consumer 'one' of group 'center' asked .* stop its center"
    ):
        opened(server, "another").check_quiet()
    monkeypatch.setattr(event_streams, "_QUIET", 0.0)
    opened(server, "another").check_quiet()


def test_a_group_that_the_server_lost_is_made_again(server):
    add(server, b"1")
    source = opened(server)
    source.read(9)
    client(server).flushall()
    add(server, b"2")
    with pytest.raises(StoreError):
        source.read(9)
    assert source.read(9) == [b"2"]


def test_an_entry_without_an_event_is_a_line_that_is_none(server):
    client(server).xadd("a", {"other": "x"})
    assert opened(server).read(9) == [b"a stream entry without the field 'event'"]


def test_a_server_that_is_not_there_is_one_sentence_without_the_password():
    pytest.importorskip("redis", reason="the Python package redis is not installed")
    with pytest.raises(StoreError, match=r"Redis server at redis://127.0.0.1:1/0 did") as error:
        RedisStreams("redis://:secret@127.0.0.1:1/0", ["a"], "g", "c")
    assert "secret" not in str(error.value)


def test_a_server_that_dies_and_comes_back_loses_nothing(server, tmp_path):
    items = list(range(2, 62))
    address = f"{server.url}?prefix=states"
    add(server, *(event(2, n, item) for n, item in enumerate(items[:20], start=1)))
    said = []
    with open_store(address) as store:
        center, source = make_center(store, tmp_path, said=said), opened(server, streams=["a"])
        stop = threading.Event()
        following = threading.Thread(
            target=consume, args=(center, source, stop.is_set, 3), kwargs={"acknowledge_seconds": 0}
        )
        following.start()
        for start in (20, 40):
            server.kill()
            server.start()
            add(server, *(event(2, n + 1, items[n]) for n in range(start, start + 20)))
        while center.counts.updates + center.counts.repeats < 60 and following.is_alive():
            stop.wait(0.02)
        stop.set()
        following.join(30)
        assert sums(store) == {2: halved(items)}
    assert client(server).xpending("a", "center")["pending"] == 0
    assert {line.split()[0] for line in said} == {"trying", "it"}


def test_a_server_that_stays_away_ends_the_center_in_one_sentence(server, tmp_path):
    add(server, event(2, 1, 5))
    with open_store(server.url) as store:
        center, source = make_center(store, tmp_path, limits=Limits(patience=0.2)), opened(server)
        server.kill()
        with pytest.raises(StoreError, match="gave up after .* seconds; .*Redis server"):
            consume(center, source)
    server.start()
    assert opened(server).read(9) == [event(2, 1, 5)]
