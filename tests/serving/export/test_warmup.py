"""Warm-up records are TF Serving's own messages, and a genuine PredictionService replays them."""

from concurrent import futures

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.records import read_records

grpc = pytest.importorskip("grpc", reason="needs grpcio")
pytest.importorskip("tensorflow_serving.apis", reason="needs tensorflow-serving-api")

from tensorflow_serving.apis import (  # noqa: E402
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """The smallest server of a SavedModel that the genuine stubs allow; none of our code."""

    def __init__(self, version):
        self.signatures = tf.saved_model.load(str(version)).signatures

    def Predict(self, request, context):
        inputs = {n: tf.constant(tf.make_ndarray(p)) for n, p in request.inputs.items()}
        outputs = self.signatures[request.model_spec.signature_name](**inputs)
        response = predict_pb2.PredictResponse()
        for name, tensor in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(tensor.numpy()))
        return response


@pytest.fixture(scope="module", params=["din", "base_model"])
def exported(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def stub(exported):
    server = grpc.server(futures.ThreadPoolExecutor(2))
    service = PredictionService(exported.version)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)
    server.stop(None)


def warmup_requests(exported):
    path = exported.version / "assets.extra" / "tf_serving_warmup_requests"
    logs = [prediction_log_pb2.PredictionLog.FromString(r) for r in read_records(path)]
    assert all(log.WhichOneof("log_type") == "predict_log" for log in logs)
    return [log.predict_log.request for log in logs]


def test_every_signature_is_warmed_up_at_short_and_at_full_length(exported):
    names = [request.model_spec.signature_name for request in warmup_requests(exported)]
    signatures = tf.saved_model.load(str(exported.version)).signatures
    assert sorted(names) == sorted([*signatures, *signatures])


def test_packed_by_hand_the_messages_equal_the_librarys(exported):
    for request in warmup_requests(exported):
        assert not request.ListFields()[0][1].HasField("version")
        again = predict_pb2.PredictRequest.FromString(request.SerializeToString())
        assert again == request
        assert {field.name for field, _ in request.ListFields()} == {"model_spec", "inputs"}


def test_a_prediction_service_replays_them(exported, stub):
    for request in warmup_requests(exported):
        response = stub.Predict(request, timeout=30)
        for proto in response.outputs.values():
            assert np.isfinite(tf.make_ndarray(proto)).all()


def test_scores_over_the_wire_are_the_models(exported, stub):
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "serving_default"
    for name, proto in warmup_requests(exported)[-1].inputs.items():
        del name, proto
    names_used = {
        name
        for warm in warmup_requests(exported)
        if warm.model_spec.signature_name == "serving_default"
        for name in warm.inputs
    }
    for name in names_used:
        request.inputs[name].CopyFrom(tf.make_tensor_proto(exported.batch[name]))
    actual = tf.make_ndarray(stub.Predict(request, timeout=30).outputs["probabilities"])
    np.testing.assert_allclose(actual, exported.expected, atol=1e-6)
