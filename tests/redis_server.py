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
    """True for a server that answers, be it that it wants TLS or a password first."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
        client.sendall(b"PING\r\n")
        return client.recv(7) in (b"+PONG\r\n", b"-NOAUTH")
    return False


def accepts(port):
    """True for a server that takes connections."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def make_certificates(folder):
    """Writes ca.crt, and a certificate and key signed by it for the server and for a client."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(*new, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=ca")
    for name in ("server", "client"):
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1")
        plain = ("-addext", "basicConstraints=critical,CA:FALSE", "-subj", f"/CN={name}")
        files = ("-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2")
        openssl(*new, *files, *signed, *plain)


class RedisServer:
    """A server on a port of its own; skips the test where none is installed.

    Args:
      folder: of its files.
      durable: whether it writes everything to disk before it answers; else it keeps nothing.
      certificates: folder of `make_certificates`, for a server that speaks TLS alone; None for none.
      password: that clients must give.
    """

    def __init__(self, folder, durable=False, certificates=None, password=""):
        pytest.importorskip("redis", reason="the Python package redis is not installed")
        self._binary = shutil.which("redis-server")
        if self._binary is None:
            pytest.skip("redis-server is not installed (apt-get install redis-server)")
        self.port, self._folder, self._durable = free_port(), folder, durable
        self._certificates, self._password = certificates, password
        self.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        keeps = ["--appendonly", "yes", "--appendfsync", "always"] if self._durable else []
        port = ["--port", str(self.port)]
        if self._certificates:
            names = (
                ("cert-file", "server.crt"),
                ("key-file", "server.key"),
                ("ca-cert-file", "ca.crt"),
            )
            port = ["--port", "0", "--tls-port", str(self.port)]
            for option, name in names:
                port += [f"--tls-{option}", self._certificates / name]
        command = [self._binary, *port, "--bind", "127.0.0.1", "--save", ""]
        if self._password:
            command += ["--requirepass", self._password]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [*command, "--dir", self._folder, *keeps], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while not (accepts if self._certificates else answers)(self.port):
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.05)

    def kill(self):
        self._process.kill()
        self._process.wait(20)
