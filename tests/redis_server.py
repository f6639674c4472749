"""A real Redis server of a test's own, which can be killed and come back."""

import contextlib
import shutil
import socket
import subprocess
import time

import pytest


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
        client.sendall(b"PING\r\n")
        return client.recv(7) == b"+PONG\r\n"
    return False


class RedisServer:
    """A server on a port of its own; skips the test where none is installed.

    Args:
      folder: of its files.
      durable: whether it writes everything to disk before it answers; else it keeps nothing.
    """

    def __init__(self, folder, durable=False):
        pytest.importorskip("redis", reason="the Python package redis is not installed")
        self._binary = shutil.which("redis-server")
        if self._binary is None:
            pytest.skip("redis-server is not installed (apt-get install redis-server)")
        self.port, self._folder, self._durable = free_port(), folder, durable
        self.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        keeps = ["--appendonly", "yes", "--appendfsync", "always"] if self._durable else []
        command = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [*command, "--dir", self._folder, *keeps], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while not answers(self.port):
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.05)

    def kill(self):
        self._process.kill()
        self._process.wait(20)
