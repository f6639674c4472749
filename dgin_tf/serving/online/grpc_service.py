"""Serves an export bundle over gRPC as TF Serving does: PredictionService and ModelService.

Needs the package tensorflow-serving-api (`pip install dgin_tf[serve]`), which holds the protocol.
"""

from concurrent import futures

import grpc
import tensorflow as tf
from google.protobuf import wrappers_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from dgin_tf.serving.export.signatures import SERVING_DEFAULT
from dgin_tf.serving.online.service import LoadedVersion, Servable

_THREADS = 8


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata.

    Args:
      servable: the model.
    """

    def __init__(self, servable: Servable):
        self._servable = servable

    def Predict(self, request, context):  # noqa: N802  (the protocol's name)
        """Runs a signature; NOT_FOUND for another model, INVALID_ARGUMENT for wrong inputs."""
        signature = request.model_spec.signature_name or SERVING_DEFAULT
        version = _version(self._servable, request.model_spec, context)
        try:
            inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
            outputs = version.predict(signature, inputs)
        except (TypeError, ValueError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = predict_pb2.PredictResponse()
        _fill(response.model_spec, self._servable.name, version)
        response.model_spec.signature_name = signature
        names = set(request.output_filter) or set(outputs)
        if unknown := sorted(names - set(outputs)):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no outputs {unknown} to filter by.")
        for name in names:
            response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
        return response

    def GetModelMetadata(self, request, context):  # noqa: N802
        """The signatures of the model."""
        version = _version(self._servable, request.model_spec, context)
        if list(request.metadata_field) != ["signature_def"]:
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "metadata_field must be one: signature_def."
            )
        definitions = get_model_metadata_pb2.SignatureDefMap(signature_def=version.definitions)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _fill(response.model_spec, self._servable.name, version)
        response.metadata["signature_def"].Pack(definitions)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus.

    Args:
      servable: the model.
    """

    def __init__(self, servable: Servable):
        self._servable = servable

    def GetModelStatus(self, request, context):  # noqa: N802
        """The version in memory, which is available."""
        version = _version(self._servable, request.model_spec, context)
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        status = get_model_status_pb2.ModelVersionStatus(version=version.number, state=available)
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=[status])


def make_grpc_server(servable: Servable, host: str, port: int) -> tuple[grpc.Server, int]:
    """A gRPC server for a model, not started yet, and its port; port 0 takes a free one."""
    server = grpc.server(futures.ThreadPoolExecutor(_THREADS))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(servable), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(servable), server)
    return server, server.add_insecure_port(f"{host}:{port}")


def _version(servable: Servable, spec, context) -> LoadedVersion:
    number = spec.version.value if spec.HasField("version") else None
    try:
        return servable.version(spec.name, number)
    except LookupError as error:
        context.abort(grpc.StatusCode.NOT_FOUND, str(error.args[0]))
        raise


def _fill(spec, name: str, version: LoadedVersion) -> None:
    spec.name = name
    spec.version.CopyFrom(wrappers_pb2.Int64Value(value=version.number))
