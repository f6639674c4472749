"""A model behind an address scores as one in this process; dead and slow addresses are clear errors."""

import threading
import time

import numpy as np
import pytest

from dgin_tf.serving.export.versions import open_bundle
from dgin_tf.serving.online.bundle_model import BundleModel
from dgin_tf.serving.online.functions import RemoteError
from dgin_tf.serving.online.loaded_version import LoadedVersion
from dgin_tf.serving.online.ranker import Ranker
from dgin_tf.serving.online.remote_functions import connect
from tests.redis_server import free_port
from tests.serving.online.running import running, served

HISTORY, CANDIDATES = [5, 16, 27], [5, 9, 100]


@pytest.fixture(scope="module")
def metadata(din_base):
    return open_bundle(din_base)[1]


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_scores_through_an_address_are_those_of_the_process(
    din_service, din_base, metadata, scheme
):
    port = din_service.grpc_port if scheme == "grpc" else din_service.port
    functions = connect(f"{scheme}://127.0.0.1:{port}", "din", metadata, 30.0)
    remote = Ranker(BundleModel(din_base, functions=functions))
    actual = remote.rank(HISTORY, CANDIDATES)
    np.testing.assert_allclose(actual, Ranker(din_base).rank(HISTORY, CANDIDATES), atol=1e-6)
    with pytest.raises(ValueError, match="takes"):
        functions("encode_user", {"surprise": np.zeros(1, np.int32)})


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_dead_address_is_an_error_of_the_server(din_base, metadata, scheme):
    functions = connect(f"{scheme}://127.0.0.1:{free_port()}", "din", metadata, 1.0)
    start = time.monotonic()
    with pytest.raises(RemoteError, match="TF Serving at .* does not answer"):
        Ranker(BundleModel(din_base, functions=functions)).rank(HISTORY, CANDIDATES)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_slow_address_is_given_up_at_the_deadline(din_base, metadata, scheme):
    model = served("din", din_base)
    functions, release = model.current._functions, threading.Event()

    def wait(signature, inputs):
        release.wait(30)
        return functions(signature, inputs)

    model.current._functions = wait
    with running(model, with_grpc=True) as handle:
        port = handle.grpc_port if scheme == "grpc" else handle.port
        remote = connect(f"{scheme}://127.0.0.1:{port}", "din", metadata, 0.3)
        start = time.monotonic()
        with pytest.raises(RemoteError):
            Ranker(BundleModel(din_base, functions=remote)).rank(HISTORY, CANDIDATES)
        assert time.monotonic() - start < 5
        release.set()


def test_a_service_before_a_dead_address_says_503(din_base, metadata):
    model = served("din", din_base)
    functions = connect(f"grpc://127.0.0.1:{free_port()}", "din", metadata, 0.5)
    model.current.ranker.model._functions = functions
    with running(model) as handle:
        body = {"history": HISTORY, "candidates": CANDIDATES}
        status, answer, headers = handle.send("POST", "/rank", body)
        assert (status, headers["retry-after"]) == (503, "1")
        assert "does not answer" in answer["error"]


def test_a_version_is_served_through_an_address(din_service, din_base, din):
    address = f"grpc://127.0.0.1:{din_service.grpc_port}"

    def load(path):
        return LoadedVersion(
            path, load_functions=lambda p: connect(address, "din", open_bundle(p)[1], 30.0)
        )

    version = load(din_base / "1")
    scores = version.ranker.rank(HISTORY, CANDIDATES)
    np.testing.assert_allclose(scores, Ranker(din_base).rank(HISTORY, CANDIDATES), atol=1e-6)


@pytest.mark.parametrize("address", ["ftp://x", "host:8500", "grpc://"])
def test_other_addresses_are_refused(metadata, address):
    with pytest.raises(ValueError, match="expected grpc://host:port"):
        connect(address, "din", metadata)
