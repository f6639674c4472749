"""Every store does the same; and each says clearly why it cannot."""

import concurrent.futures
import os
import resource
import subprocess
import sys

import pytest

from dgin_tf.stores.addresses import open_store
from dgin_tf.stores.lmdb_store import LmdbStore
from dgin_tf.stores.redis_store import RedisStore
from dgin_tf.stores.state_store import StoreError
from tests.redis_server import RedisServer, make_certificates


def test_what_was_put_is_found_again(store):
    store.put_many({2: b"two", 3: b"", 2**40: bytes(range(256))})
    assert store.get(2) == b"two"
    assert store.get_many([2**40, 7, 3, 2]) == [bytes(range(256)), None, b"", b"two"]


def test_nothing_is_asked_and_nothing_put(store):
    store.put_many({})
    assert store.get_many([]) == []
    assert list(store.items()) == []


def test_a_later_value_replaces_an_earlier_one(store):
    store.put_many({5: b"old", 7: b"kept"})
    store.put_many({5: b"new"})
    assert store.get_many([5, 7]) == [b"new", b"kept"]


def test_a_deleted_user_is_gone_and_deleting_nobody_is_no_error(store):
    store.put_many({5: b"five", 7: b"seven"})
    store.delete(5)
    store.delete(11)
    assert dict(store.items()) == {7: b"seven"}


def test_iteration_yields_every_user_once(store):
    values = {user: b"%d" % user for user in range(0, 7001, 3)}
    store.put_many(values)
    assert sorted(store.users()) == list(values)
    assert dict(store.items()) == values


def test_users_may_be_deleted_while_they_are_iterated_over(store):
    store.put_many(dict.fromkeys(range(2503), b"x"))
    for user in store.users():
        if user % 250 == 0:
            store.delete(user)
    assert len(list(store.users())) == 2503 - 11


def test_namespaces_never_meet(store):
    states, others = store.scoped("states"), store.scoped("states2")
    store.put_many({2: b"plain"})
    states.put_many({2: b"state", 3: b"only here"})
    others.put_many({2: b"other"})
    states.delete(3)
    assert dict(store.items()) == {2: b"plain"}
    assert dict(states.items()) == {2: b"state"}
    assert dict(others.items()) == {2: b"other"}


def test_closing_a_view_leaves_the_store_open(store):
    store.scoped("view").close()
    store.put_many({2: b"still open"})
    assert store.get(2) == b"still open"


@pytest.mark.parametrize("user", [-1, 2**63, 1.5])
def test_what_is_no_user_id_is_refused_and_nothing_written(store, user):
    with pytest.raises(ValueError, match="expected a user id"):
        store.put_many({2: b"two", user: b"wrong"})
    assert store.get(2) is None


def test_a_namespace_with_a_separator_is_refused(store):
    with pytest.raises(ValueError, match="expected a namespace"):
        store.scoped("a:b")


def test_threads_may_share_a_store(store):
    def write(worker):
        for user in range(worker, 211, 4):
            store.put_many({user: b"%d" % user})
            assert store.get(user) == b"%d" % user

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(list(store.users())) == 211


@pytest.mark.parametrize("address", ["memory", "lmdb:", "file:x"])
def test_an_address_that_names_no_store_is_refused(address):
    with pytest.raises(ValueError, match="expected a store as memory:"):
        open_store(address)


@pytest.mark.parametrize(
    "address",
    [
        "redis:",
        "redis://me:sec@ret@h/0?user=x",
        "redis://me:sec@ret@h/0?ssl_ca_certs=x",
        "redis://:12/sec@ret@h/0",
        "redis:/me:sec@ret@h",
        "rdis://me:sec@ret@h/0",
        "redis://me:sec@ret@h:port/0",
        "rediss://me:sec@ret@h:1/0?ssl_ca_certs=nowhere",
    ],
)
def test_what_is_no_address_of_a_redis_server_is_refused_without_its_password(address):
    with pytest.raises(ValueError, match="expected") as error:
        open_store(address)
    assert "ret" not in str(error.value)
    assert "sec" not in str(error.value)


def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    monkeypatch.setitem(sys.modules, "redis", None)
    for address in (f"lmdb:{tmp_path}", "redis://127.0.0.1:1/0"):
        with pytest.raises(StoreError, match=r'pip install "dgin_tf\[serve\]"'):
            open_store(address)


@pytest.fixture
def path(tmp_path):
    pytest.importorskip("lmdb", reason="the Python package lmdb is not installed")
    return tmp_path / "store"


def test_lmdb_keeps_its_values_when_it_is_opened_again(path):
    with LmdbStore(path, "states") as store:
        store.put_many({2: b"two"})
    with LmdbStore(path) as store:
        assert store.get(2) is None
        assert store.scoped("states").get(2) == b"two"


def test_a_full_map_grows_by_itself(path):
    values = {user: bytes(5003) for user in range(101)}
    with LmdbStore(path, map_bytes=1 << 16) as store:
        store.put_many(values)
        assert dict(store.items()) == values
    with LmdbStore(path, map_bytes=1 << 16) as store:
        assert dict(store.items()) == values


def test_a_reader_follows_a_map_that_another_process_let_grow(path):
    program = (
        "import sys; from dgin_tf.stores.lmdb_store import LmdbStore\n"
        "LmdbStore(sys.argv[1], map_bytes=1 << 16).put_many({u: bytes(5003) for u in range(101)})"
    )
    with LmdbStore(path, map_bytes=1 << 16) as store:
        assert store.get(2) is None
        subprocess.run([sys.executable, "-c", program, path], check=True)
        assert store.get(2) == bytes(5003)


def test_put_many_in_lmdb_is_all_or_nothing(path, monkeypatch):
    with LmdbStore(path) as store:
        store.put_many({2: b"old", 3: b"old"})

        def keys(user, original=store._key):
            return b"" if user == 3 else original(user)  # LMDB refuses an empty key

        monkeypatch.setattr(store, "_key", keys)
        with pytest.raises(StoreError):
            store.put_many({2: b"new", 3: b"new"})
        monkeypatch.undo()
        assert store.get_many([2, 3]) == [b"old", b"old"]


def test_a_folder_that_is_a_file_is_one_sentence(path):
    path.write_text("not a folder")
    with pytest.raises(StoreError, match="could not open the LMDB store .*store"):
        LmdbStore(path)


def test_an_environment_that_is_open_already_is_one_sentence(path):
    with LmdbStore(path), pytest.raises(StoreError, match="no other store has it open here"):
        LmdbStore(path)


def test_a_full_disk_is_one_sentence_and_leaves_the_old_values(path):
    with LmdbStore(path) as store:
        store.put_many({2: b"old"})
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
        try:
            with pytest.raises(StoreError, match="could not write the LMDB store"):
                store.put_many({user: bytes(5003) for user in range(2, 53)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert dict(store.items()) == {2: b"old"}


def test_an_environment_is_not_used_across_a_fork(path, monkeypatch):
    with LmdbStore(path) as store:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(StoreError, match="forked"):
            store.get(2)


def test_a_server_that_is_not_there_is_one_sentence_without_the_password():
    pytest.importorskip("redis", reason="the Python package redis is not installed")
    with pytest.raises(StoreError, match=r"Redis server at redis://127.0.0.1:1/0") as error:
        open_store("redis://:secret@127.0.0.1:1/0")
    assert "secret" not in str(error.value)


def test_a_server_without_memory_is_one_sentence_and_writes_nothing(redis_port, tmp_path):
    with RedisStore(f"redis://127.0.0.1:{redis_port}/0?prefix={tmp_path.name}") as store:
        store._client.config_set("maxmemory", 1)
        try:
            with pytest.raises(StoreError, match="maxmemory"):
                store.put_many({2: b"two", 3: b"three"})
        finally:
            store._client.config_set("maxmemory", 0)
        assert list(store.users()) == []


def test_a_key_of_somebody_else_is_one_sentence(redis_port, tmp_path):
    import redis

    address = f"redis://127.0.0.1:{redis_port}/0?prefix={tmp_path.name}"
    with open_store(address, "states") as store:
        store.put_many({2: b"two"})
        redis.Redis(port=redis_port).set(f"{tmp_path.name}:states:1_0", b"theirs")
        with pytest.raises(StoreError, match=r"has a key '.*:states:1_0', which is none of ours"):
            list(store.users())
        assert store.get(2) == b"two"


@pytest.fixture
def tls_server(tmp_path):
    """A server that wants a client's certificate and a password with an @, and the certificates."""
    make_certificates(tmp_path)
    server = RedisServer(tmp_path, certificates=tmp_path, password="p@ss:w0rd")
    yield server, tmp_path
    server.kill()


def test_certificates_of_an_authority_of_ones_own_are_taken(tls_server):
    server, folder = tls_server
    base = f"rediss://:p@ss:w0rd@127.0.0.1:{server.port}/0"
    authority = f"{base}?ssl_ca_certs={folder / 'ca.crt'}"
    client = f"{authority}&ssl_certfile={folder / 'client.crt'}&ssl_keyfile={folder / 'client.key'}"
    with open_store(client, "states") as store:
        store.put_many({2: b"two"})
    with open_store(f"{client}&prefix=dgin_tf", "states") as store:
        assert store.get(2) == b"two"
    for address in (
        base,
        authority,
        base.replace("rediss", "redis"),
        client.replace("w0rd", "wrong"),
    ):
        with pytest.raises(StoreError, match="did not do what was asked") as error:
            open_store(address)
        assert "ss:w" not in str(error.value)
        assert ("ssl_ca_certs=FILE" in str(error.value)) == address.startswith("rediss")


def test_prefixes_keep_applications_apart_in_one_database(redis_port, tmp_path):
    address = f"redis://127.0.0.1:{redis_port}/0?prefix={tmp_path.name}"
    with open_store(f"{address}-a") as one, open_store(f"{address}-b") as other:
        one.put_many({2: b"two"})
        assert other.get(2) is None
        assert list(other.users()) == []


def test_values_are_swapped_where_they_are_what_was_read(store):
    store.put_many({2: b"two"})
    assert store.swap_many({2: b"two", 3: None}, {2: b"new", 3: b"three"})
    assert store.get_many([2, 3]) == [b"new", b"three"]


@pytest.mark.parametrize(
    "expected", [{2: b"two", 3: b"old"}, {2: None, 3: None}, {2: b"", 3: None}]
)
def test_nothing_is_swapped_where_somebody_wrote_meanwhile(store, expected):
    store.put_many({2: b"two"})
    assert not store.swap_many(expected, {3: b"three", 2: b"new"})
    assert dict(store.items()) == {2: b"two"}


def test_swapping_nothing_succeeds(store):
    assert store.swap_many({}, {})


def test_of_two_who_read_the_same_one_swaps(store):
    store.put_many({5: b"0"})

    def add(_):
        while True:
            stored_states = store.get(5)
            if store.swap_many({5: stored_states}, {5: b"%d" % (int(stored_states) + 1)}):
                return

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(40)))
    assert store.get(5) == b"40"


def test_a_copy_of_lmdb_holds_every_namespace(path, tmp_path):
    with LmdbStore(path, "states") as store:
        store.put_many({2: b"two"})
        store.scoped("others").put_many({2: b"other"})
        store.copy(tmp_path / "copy")
        store.put_many({2: b"later"})
    with LmdbStore(tmp_path / "copy", "states") as store_copy:
        assert store_copy.get(2) == b"two"
        assert store_copy.scoped("others").get(2) == b"other"
