"""A service in a thread of the test, and the command in a process of its own."""

import asyncio
import contextlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import grpc

from dgin_tf.serving.online.http_server import HttpServer
from dgin_tf.serving.online.limits import Limits
from dgin_tf.serving.online.loaded_version import LoadedVersion
from dgin_tf.serving.online.ranker import Ranker
from dgin_tf.serving.online.rest import make_app
from dgin_tf.serving.online.served_model import ServedModel
from dgin_tf.serving.online.server_configs import METRICS_PATH
from dgin_tf.serving.online.service import Service

ROOT = pathlib.Path(__file__).resolve().parents[3]


def served(name, export_dir, index=None, states=None, **options):
    """A model's versions, ranked with an index or stored states."""
    return ServedModel(
        name,
        export_dir,
        lambda path: LoadedVersion(path, lambda model: Ranker(model, index, states)),
        **options,
    )


class Running:
    """Ports of a service that runs, and requests to it."""

    def __init__(self, http_port, grpc_port=None):
        self.port, self.grpc_port = http_port, grpc_port

    def send(self, method, path, content=None, headers=()):
        """Status, parsed answer and headers of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            return exchange(connection, method, path, content, headers)

    def ask(self, method, path, content=None):
        """Status and parsed answer of one request."""
        return self.send(method, path, content)[:2]

    def channel(self):
        return grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}")


def exchange(connection, method, path, content=None, headers=()):
    """Status, parsed answer and headers of one request on a connection."""
    body = content if isinstance(content, str | bytes | None) else json.dumps(content)
    connection.request(method, path, body, dict(headers))
    response = connection.getresponse()
    data = response.read()
    is_json = response.headers.get("content-type") == "application/json"
    return response.status, json.loads(data) if is_json else data, response.headers


@contextlib.contextmanager
def running(model, limits=Limits(), intake=None, token="", with_grpc=False):  # noqa: B008
    """Serves a model's versions until the end of the block."""
    started, ended, ports, faults = threading.Event(), asyncio.Event(), [], []
    service = Service(model, limits, intake)

    async def serve():
        loops.append(asyncio.get_running_loop())
        server = HttpServer(
            make_app(service, METRICS_PATH, token, faults.append), ("127.0.0.1", 0), limits
        )
        server.grace_seconds = 1.0
        grpc_server = None
        if with_grpc:
            from dgin_tf.serving.online.grpc_service import GrpcServer

            grpc_server = GrpcServer(service, ("127.0.0.1", 0), token, say=faults.append)
            await grpc_server.start()
            ports.append(grpc_server.port)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        ports.append(server.port)
        started.set()
        await ended.wait()
        server.should_exit = True
        await task
        if grpc_server is not None:
            await grpc_server.stop(0)

    loops: list = []
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(60)
    try:
        handle = Running(ports[-1], ports[0] if with_grpc else None)
        handle.service, handle.faults = service, faults
        yield handle
    finally:
        loops[0].call_soon_threadsafe(ended.set)
        thread.join()
        service.close()
    assert faults == []


class Command:
    """`experiments.serve` in a process of its own; its announcements were read."""

    def __init__(self, *arguments, lines=1):
        command = [sys.executable, "-m", "experiments.serve", "--rest_port=0", *arguments]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.announcements = [self.process.stdout.readline() for _ in range(lines)]

    @property
    def running(self):
        address = self.announcements[-1].split()[-1]
        grpc_port = None
        if len(self.announcements) > 1:
            grpc_port = int(self.announcements[0].split(":")[-1])
        return Running(int(address.split("/")[2].split(":")[1]), grpc_port)

    def end(self, number=signal.SIGTERM):
        """Sends a signal; gives the exit code and what was written to standard error."""
        if self.announcements[-1] and self.process.poll() is None:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors
