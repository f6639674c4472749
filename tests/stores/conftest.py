"""A Redis server of the tests' own, and the stores that every test of the interface runs against."""

import contextlib
import shutil
import socket
import subprocess
import time

import pytest

from dgin_tf.stores.addresses import open_store

KINDS = ("memory", "lmdb", "redis")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
        client.sendall(b"PING\r\n")
        return client.recv(7) == b"+PONG\r\n"
    return False


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory):
    """Port of a real Redis server that keeps nothing on disk."""
    pytest.importorskip("redis", reason="the Python package redis is not installed")
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while not answers(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(20)


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
    with open_store(address_of(request.param)) as opened:
        yield opened
