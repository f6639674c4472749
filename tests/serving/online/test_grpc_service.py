"""Our service answers as TF Serving does over gRPC: the genuine stubs, types, labels, errors, health."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from dgin_tf.serving.online.served_model import Rollout
from tests.serving.online.running import running, served


@pytest.fixture(scope="module")
def stub(din_service):
    with din_service.channel() as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(din_service):
    with din_service.channel() as channel:
        yield model_service_pb2_grpc.ModelServiceStub(channel)


@pytest.fixture
def request_of(inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "din"
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(np.array(value, np.int32)))
    return request


def refusal(call, request, **options):
    """Status and sentence of a call that is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30, **options)
    return caught.value.code(), caught.value.details()


def test_predict_gives_scores_and_the_version(stub, request_of, din):
    answer = stub.Predict(request_of, timeout=30)
    actual = tf.make_ndarray(answer.outputs["probabilities"])
    np.testing.assert_allclose(actual, din.expected[:4], atol=1e-6)
    assert answer.model_spec.version.value == 1
    assert answer.model_spec.signature_name == "serving_default"


def test_only_the_outputs_of_the_filter_are_sent(stub, request_of):
    request_of.output_filter.append("mask")
    assert list(stub.Predict(request_of, timeout=30).outputs) == ["mask"]
    request_of.output_filter.append("nope")
    code, sentence = refusal(stub.Predict, request_of)
    assert (code, sentence) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "no outputs ['nope'] to filter by.",
    )


def test_metadata_and_status_are_those_of_the_protos(stub, models):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "din"
    answer = stub.GetModelMetadata(request, timeout=30)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(definitions)
    assert "encode_user" in definitions.signature_def
    request.metadata_field.append("other")
    assert refusal(stub.GetModelMetadata, request)[0] == grpc.StatusCode.INVALID_ARGUMENT
    status = get_model_status_pb2.GetModelStatusRequest(model_spec=request.model_spec)
    (version,) = models.GetModelStatus(status, timeout=30).model_version_status
    assert version.version == 1
    assert version.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"name": "other"}, grpc.StatusCode.NOT_FOUND, "Servable not found"),
        ({"version": 9}, grpc.StatusCode.NOT_FOUND, "Servable not found"),
        ({"version_label": "canary"}, grpc.StatusCode.NOT_FOUND, "label: canary"),
        ({"signature_name": "nope"}, grpc.StatusCode.INVALID_ARGUMENT, "no signature 'nope'"),
    ],
)
def test_another_model_is_not_found(stub, models, request_of, change, code, message):
    for name, value in change.items():
        if name == "version":
            request_of.model_spec.version.value = value
        else:
            setattr(request_of.model_spec, name, value)
    actual, sentence = refusal(stub.Predict, request_of)
    assert actual == code
    assert message in sentence
    if code == grpc.StatusCode.NOT_FOUND:
        status = get_model_status_pb2.GetModelStatusRequest(model_spec=request_of.model_spec)
        assert refusal(models.GetModelStatus, status)[0] == code


def tensor(**fields):
    proto = tf.make_tensor_proto(np.zeros((4, 7), np.int32))
    for name, value in fields.items():
        if name == "sizes":
            del proto.tensor_shape.dim[:]
            for size in value:
                proto.tensor_shape.dim.add(size=size)
        else:
            setattr(proto, name, value)
    return proto


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (tf.make_tensor_proto(np.zeros((4, 7), np.int64)), "must hold int32 values; got int64"),
        (tf.make_tensor_proto(np.zeros((4, 7), np.float32)), "must hold int32 values; got float"),
        (tf.make_tensor_proto([["a"] * 7] * 4), "must hold int32 values; got string"),
        (tensor(dtype=20), "must hold int32 values; got resource"),
        (tensor(dtype=77), "must hold int32 values; got type 77"),
        (tensor(sizes=[4, -1]), "must have a shape without unknown sizes"),
        (tensor(sizes=[10**9, 10**9]), "has more than 134,217,728 values"),
        (tensor(sizes=[4, 8]), "its values do not have the shape"),
        (tensor(sizes=[28]), "must have the shape ['any', 'any']"),
    ],
)
def test_tensors_of_other_types_and_shapes_are_refused(stub, request_of, proto, message):
    request_of.inputs["hist_item_id"].CopyFrom(proto)
    code, sentence = refusal(stub.Predict, request_of)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert message in sentence


def test_other_methods_are_refused_in_a_sentence(stub, models):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "din"
    code, sentence = refusal(stub.Classify, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "tensorflow/serving/classify" in sentence
    request = inference_pb2.MultiInferenceRequest()
    assert refusal(stub.MultiInference, request)[0] == grpc.StatusCode.UNIMPLEMENTED
    request = model_management_pb2.ReloadConfigRequest()
    assert refusal(models.HandleReloadConfigRequest, request)[0] == grpc.StatusCode.UNIMPLEMENTED


def test_a_deadline_that_passes_ends_the_call(stub, request_of):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request_of, timeout=1e-6)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_labels_and_tokens_are_honored(din_base, request_of):
    model = served("din", din_base, rollout=lambda: Rollout(labels={"stable": 1}))
    request_of.model_spec.version_label = "stable"
    with (
        running(model, token="s3cret", with_grpc=True) as handle,
        handle.channel() as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert refusal(stub.Predict, request_of)[0] == grpc.StatusCode.UNAUTHENTICATED
        wrong = [("authorization", "Bearer other")]
        code, _ = refusal(stub.Predict, request_of, metadata=wrong)
        assert code == grpc.StatusCode.UNAUTHENTICATED
        right = [("authorization", "Bearer s3cret")]
        answer = stub.Predict(request_of, metadata=right, timeout=30)
        assert answer.model_spec.version.value == 1
        health = health_pb2_grpc.HealthStub(channel)
        status = health.Check(health_pb2.HealthCheckRequest(), timeout=30).status
        assert status == health_pb2.HealthCheckResponse.SERVING
