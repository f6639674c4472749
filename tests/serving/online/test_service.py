"""Our service answers as TF Serving does: the curl line, rows and columns, versions, errors."""

import http.client
import json
import pathlib
import shlex
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.serving.export.bundle import usage
from dgin_tf.serving.online.service import Servable, make_server

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def servable(din, tmp_path_factory):
    base = tmp_path_factory.mktemp("servable")
    shutil.copytree(din.version, base / "1")
    return Servable("din", base)


@pytest.fixture(scope="module")
def ask(servable):
    """Sends a request; returns status and parsed answer."""
    server = make_server(servable, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def send(method, path, content=None):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        body = content if isinstance(content, str | None) else json.dumps(content)
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    yield send
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def inputs(din):
    names = ("hist_item_id", "hist_category_id", "cand_item_id", "cand_category_id")
    return {name: din.batch[name][:4].tolist() for name in names}


def test_columns_give_columns(ask, inputs, din):
    status, answer = ask("POST", "/v1/models/din:predict", {"inputs": inputs})
    assert status == 200
    np.testing.assert_allclose(answer["outputs"]["probabilities"], din.expected[:4], atol=1e-6)


def test_rows_give_rows(ask, inputs, din):
    rows = [dict(zip(inputs, values, strict=True)) for values in zip(*inputs.values(), strict=True)]
    status, answer = ask("POST", "/v1/models/din/versions/1:predict", {"instances": rows})
    assert status == 200
    actual = [row["probabilities"] for row in answer["predictions"]]
    np.testing.assert_allclose(actual, din.expected[:4], atol=1e-6)


def test_every_example_request_of_the_bundle_is_answered(ask, din):
    for path in (din.version / "assets.extra/requests").iterdir():
        status, answer = ask("POST", "/v1/models/din:predict", path.read_text())
        assert status == 200, answer
        assert set(answer) == {"outputs"}


def test_status_and_metadata_are_told(ask):
    status, answer = ask("GET", "/v1/models/din")
    assert status == 200
    assert answer["model_version_status"][0]["version"] == "1"
    assert answer["model_version_status"][0]["state"] == "AVAILABLE"
    status, answer = ask("GET", "/v1/models/din/versions/1/metadata")
    definitions = answer["metadata"]["signature_def"]["signature_def"]
    assert definitions["encode_user"]["inputs"]["hist_item_id"]["dtype"] == "DT_INT32"


@pytest.mark.parametrize(
    ("path", "content", "status", "message"),
    [
        ("/v1/models/other:predict", {"inputs": {}}, 404, "Servable not found"),
        ("/v1/models/din/versions/9:predict", {"inputs": {}}, 404, "Servable not found"),
        ("/v1/models/din:classify", {"inputs": {}}, 404, "Malformed request"),
        ("/v2/models/din", {}, 404, "Malformed request"),
        ("/v1/models/din:predict", "not json", 400, "expected a JSON object"),
        ("/v1/models/din:predict", {}, 400, 'either "instances"'),
        ("/v1/models/din:predict", {"instances": []}, 400, "at least one row"),
        ("/v1/models/din:predict", {"inputs": {"hist_item_id": [[2]]}}, 400, "missing"),
        ("/v1/models/din:predict", {"inputs": {}, "signature_name": "x"}, 400, "no signature 'x'"),
    ],
)
def test_requests_that_cannot_be_answered_get_one_sentence(ask, path, content, status, message):
    actual, answer = ask("POST", path, content)
    assert actual == status
    assert message in answer["error"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hist_item_id", [[2.5, 3.0]], "must hold int32 values; got float64"),
        ("hist_item_id", [["a", "b"]], "must hold int32 values"),
        ("hist_item_id", [2, 3], "must have the shape"),
        ("hist_item_id", [[2, 3], [4]], "is ragged"),
        ("hist_item_id", [[2, 2**40]], "beyond int32"),
        ("hist_category_id", [[2]], "hist_category_id must have the shape of hist_item_id"),
        ("surprise", [[2]], "unknown ['surprise']"),
    ],
)
def test_wrong_types_and_shapes_are_refused_by_name(ask, name, value, message):
    inputs = {"hist_item_id": [[2, 3]], "hist_category_id": [[2, 3]]}
    content = {"signature_name": "encode_user", "inputs": {**inputs, name: value}}
    status, answer = ask("POST", "/v1/models/din:predict", content)
    assert status == 400
    assert message in answer["error"]


def test_a_newer_version_takes_over(servable, din, tmp_path):
    shutil.copytree(din.version, tmp_path / "1")
    renewed = Servable("din", tmp_path)
    assert not renewed.refresh()
    shutil.copytree(din.version, tmp_path / "2")
    assert renewed.refresh()
    assert renewed.current.number == 2


@pytest.fixture(scope="module")
def served_by_command(din):
    """The command line's server in a process of its own; gives its announcements."""
    pytest.importorskip("tensorflow_serving.apis", reason="needs tensorflow-serving-api")
    command = [sys.executable, "-m", "experiments.serve", f"--export_dir={din.version.parent}"]
    process = subprocess.Popen(
        [*command, "--rest_port=0", "--grpc_port=0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    yield [process.stdout.readline() for _ in range(2)]
    process.terminate()
    process.wait(10)


def test_the_printed_curl_line_works(served_by_command, din):
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    address = served_by_command[1].split()[-1]
    line = usage(din.version).splitlines()[-1].split("score:")[1]
    line = line.replace("http://127.0.0.1:8501/v1/models/din", address)
    answer = subprocess.run(["curl", "-s", *shlex.split(line)[1:]], capture_output=True, check=True)
    assert len(json.loads(answer.stdout)["outputs"]["probabilities"][0]) == 3


def test_the_genuine_grpc_client_gets_scores_status_and_errors(served_by_command, din, inputs):
    import grpc
    from tensorflow_serving.apis import (
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "din"
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(np.array(value, np.int32)))
    with grpc.insecure_channel(served_by_command[0].split()[-1]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.Predict(request, timeout=30)
        actual = tf.make_ndarray(answer.outputs["probabilities"])
        np.testing.assert_allclose(actual, din.expected[:4], atol=1e-6)
        assert answer.model_spec.version.value == 1
        status = get_model_status_pb2.GetModelStatusRequest(model_spec=request.model_spec)
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        assert models.GetModelStatus(status).model_version_status[0].version == 1
        request.model_spec.signature_name = "nope"
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(request, timeout=30)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
