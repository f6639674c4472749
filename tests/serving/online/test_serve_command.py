"""The command: its announcements, signals under load, tokens, TLS, and flags that do not fit."""

import asyncio
import http.client
import json
import shlex
import shutil
import signal
import ssl
import subprocess
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dgin_tf.serving.export.bundle import usage
from dgin_tf.serving.online.http_server import HttpServer
from dgin_tf.serving.online.limits import Limits
from tests.redis_server import make_certificates
from tests.serving.online.running import Command, exchange

RANK = {"history": [5, 16], "candidates": [5, 27]}


@pytest.fixture
def command(din_base):
    command = Command(f"--export_dir={din_base}", "--grpc_port=0", "--grace_seconds=10", lines=2)
    yield command
    command.end(signal.SIGKILL)


class Load:
    """Clients with open connections that ask without a pause until they are told to end."""

    def __init__(self, port, clients=8):
        self.statuses, self.failures = [], []
        self._threads = [threading.Thread(target=self._ask, args=(port,)) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            is_new = connection.sock is None
            try:
                status, _, headers = exchange(connection, "POST", "/rank", RANK)
            except ConnectionRefusedError:  # it no longer listens
                return
            except ConnectionResetError as error:
                if not is_new:  # a new one may not have been taken before the end
                    self.failures.append(error)
                return
            except OSError as error:
                self.failures.append(error)
                return
            except http.client.HTTPException as error:
                self.failures.append(error)
                return
            self.statuses.append(status)
            if headers.get("connection") == "close":
                connection.close()

    def wait(self):
        for thread in self._threads:
            thread.join(60)


def test_the_printed_curl_line_works_and_sigterm_under_load_cuts_no_request(command, din):
    if shutil.which("curl") is not None:
        address = command.announcements[1].split()[-1]
        line = usage(din.version).splitlines()[-1].split("score:")[1]
        line = line.replace("http://127.0.0.1:8501/v1/models/din", address)
        arguments = ["curl", "-s", *shlex.split(line)[1:]]
        answer = subprocess.run(arguments, capture_output=True, check=True)
        assert len(json.loads(answer.stdout)["outputs"]["probabilities"][0]) == 3
    load = Load(command.running.port)
    while len(load.statuses) < 100:
        time.sleep(0.05)
    start = time.monotonic()
    code, errors = command.end()
    load.wait()
    assert load.failures == []
    assert set(load.statuses) == {200}
    assert code == 0, errors
    assert time.monotonic() - start < 20
    assert "Traceback" not in errors


@pytest.mark.slow
def test_ctrl_c_ends_with_its_own_code(command):
    assert command.running.ask("POST", "/rank", RANK)[0] == 200
    code, errors = command.end(signal.SIGINT)
    assert code == 130
    assert errors.endswith("interrupted.\n")


@pytest.mark.slow
def test_tls_and_tokens_by_files(din_base, tmp_path):
    make_certificates(tmp_path)
    (tmp_path / "token").write_text("s3cret\n")
    command = Command(
        f"--export_dir={din_base}",
        "--grpc_port=0",
        f"--tls_certificate={tmp_path / 'server.crt'}",
        f"--tls_key={tmp_path / 'server.key'}",
        f"--token_file={tmp_path / 'token'}",
        lines=2,
    )
    ports, context = command.running, ssl.create_default_context(cafile=tmp_path / "ca.crt")
    connection = http.client.HTTPSConnection("127.0.0.1", ports.port, timeout=60, context=context)
    codes = [
        exchange(connection, "POST", "/rank", RANK, headers)[0]
        for headers in ({}, {"Authorization": "Bearer s3cret"})
    ]
    credentials = grpc.ssl_channel_credentials((tmp_path / "ca.crt").read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{ports.grpc_port}", credentials) as channel:
        request = health_pb2.HealthCheckRequest()
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)
    code, errors = command.end()
    assert codes == [401, 200]
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert code == 0, errors


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--state_store=lmdb:x"], "--state_store holds what came after an index"),
        (["--take_events"], "--take_events needs a place for events"),
        (["--user_states=lmdb:x", "--index_dir=I"], "two sources of the same"),
        (["--tls_key=x"], "TLS needs both --tls_certificate and --tls_key"),
        (["--model_config_file=x"], "--model_config_file=x is no file"),
        (["--token_file=/dev/null"], "expected one token of printable ASCII characters"),
        (["--max_batch_rows=0"], "max_batch_rows=0"),
        (["--tf_serving=ftp://x"], "--tf_serving needs grpc://host:port"),
        (["--export_dir=nowhere"], "expected exported versions"),
    ],
)
def test_flags_that_do_not_fit_are_one_sentence(din_base, flags, sentence):
    code, errors = Command(f"--export_dir={din_base}", *flags, lines=1).end()
    assert code == 2
    assert sentence in errors.splitlines()[-1]


def test_a_port_in_use_is_an_error_with_its_address(din_service):
    async def app(scope, receive, send):
        raise AssertionError("nothing is served")

    server = HttpServer(app, ("127.0.0.1", din_service.port), Limits())
    with pytest.raises(OSError, match="address already in use"):
        asyncio.run(server.serve())
