"""A Redis server of the tests' own, and the stores that every test of the interface runs against."""

import pytest

from dgin_tf.stores.addresses import open_store
from tests.redis_server import RedisServer

KINDS = ("memory", "lmdb", "redis")


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory):
    """Port of a real Redis server that keeps nothing on disk."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.port
    server.kill()


@pytest.fixture
def address_of(tmp_path, request):
    """Kind -> address of an empty store."""

    def address(kind):
        if kind == "memory":
            return "memory:"
        if kind == "lmdb":
            pytest.importorskip("lmdb", reason="the Python package lmdb is not installed")
            return f"lmdb:{tmp_path / 'store'}"
        port = request.getfixturevalue("redis_port")
        return f"redis://127.0.0.1:{port}/0?prefix={tmp_path.name}"

    return address


@pytest.fixture(params=KINDS)
def store(request, address_of):
    """An open, empty store of each kind."""
    with open_store(address_of(request.param)) as a_store:
        yield a_store
