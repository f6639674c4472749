"""The service over gRPC as TF Serving has it: PredictionService, ModelService and gRPC's own health service.

Needs the package tensorflow-serving-api (`pip install dgin_tf[serve]`), which holds the protocol.
"""

import asyncio
import hmac
import math
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import wrappers_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from dgin_tf.serving.export.signatures import SERVING_DEFAULT
from dgin_tf.serving.online.limits import RequestError
from dgin_tf.serving.online.loaded_version import LoadedVersion
from dgin_tf.serving.online.service import ModelAddress, Service

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
_NO_TOKEN = "/grpc.health.v1.Health/"
_LARGEST_SIZE = 1 << 27  # numbers of a tensor, which a short message may stand for


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata.

    Args:
      service: computes the answers.
    """

    def __init__(self, service: Service):
        self._service = service

    async def Predict(self, request, context):  # noqa: N802  (the protocol's name)
        """Runs a signature; NOT_FOUND for another model, INVALID_ARGUMENT for wrong inputs."""
        version = await _version(self._service, request.model_spec, context)
        signature = request.model_spec.signature_name or SERVING_DEFAULT
        wait = context.time_remaining()
        outputs = await _answered(
            self._service.predict(
                version,
                signature,
                lambda specs: _inputs(request.inputs, specs),
                math.inf if wait is None else wait,
            ),
            context,
        )
        response = predict_pb2.PredictResponse()
        _fill(response.model_spec, self._service.model.name, version)
        response.model_spec.signature_name = signature
        names = set(request.output_filter) or set(outputs)
        if unknown := sorted(names - set(outputs)):
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"no outputs {unknown} to filter by."
            )
        for name in names:
            response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
        return response

    async def GetModelMetadata(self, request, context):  # noqa: N802
        """The signatures of the model."""
        version = await _version(self._service, request.model_spec, context)
        if list(request.metadata_field) != ["signature_def"]:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "metadata_field must be one: signature_def."
            )
        definitions = get_model_metadata_pb2.SignatureDefMap(signature_def=version.definitions)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _fill(response.model_spec, self._service.model.name, version)
        response.metadata["signature_def"].Pack(definitions)
        return response

    async def Classify(self, request, context):  # noqa: N802
        """Refused: all signatures are of Predict."""
        await _refuse_method(self._service, request.model_spec, context, "classify")

    async def Regress(self, request, context):  # noqa: N802
        """Refused: all signatures are of Predict."""
        await _refuse_method(self._service, request.model_spec, context, "regress")

    async def MultiInference(self, request, context):  # noqa: N802
        """Refused: all signatures are of Predict."""
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, "use Predict; there is no signature for it."
        )


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus.

    Args:
      service: computes the answers.
    """

    def __init__(self, service: Service):
        self._service = service

    async def GetModelStatus(self, request, context):  # noqa: N802
        """States of the versions."""
        address = _address(request.model_spec)
        if address.label is not None:
            version = await _version(self._service, request.model_spec, context)
            address = ModelAddress(address.name, version.number)
        try:
            states = self._service.model.states(address.name, address.version)
        except LookupError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error.args[0]))
            raise
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state, code, message in states:
            value = get_model_status_pb2.ModelVersionStatus.State.Value(state)
            status = response.model_version_status.add(version=number, state=value)
            status.status.error_code, status.status.error_message = code, message
        return response

    async def HandleReloadConfigRequest(self, request, context):  # noqa: N802
        """Refused: a request names no paths of this machine."""
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "versions and labels follow the file of --model_config_file; change that.",
        )


class GrpcServer:
    """A gRPC server of a service, not started yet.

    Args:
      service: computes the answers.
      address: host and port; port 0 takes a free one.
      token: bearer token that calls must carry in `authorization`; empty for none.
      tls: files of certificate and key; None for plain gRPC.
      say: takes tracebacks of faults.

    Attributes:
      port: that it listens on.

    Raises:
      OSError: the address cannot be listened on.
    """

    def __init__(
        self,
        service: Service,
        address: tuple[str, int],
        token: str = "",
        tls: tuple[str, str] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ):
        limits = service.limits
        self._server = grpc.aio.server(
            interceptors=[_Guard(token, say)],
            maximum_concurrent_rpcs=limits.threads + limits.queue + limits.connections,
            options=[
                ("grpc.max_receive_message_length", limits.body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # a second server on the port is a mistake
                ("grpc.max_connection_idle_ms", int(1e3 * limits.idle_seconds)),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(service), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(service), self._server
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        place = f"{address[0]}:{address[1]}"
        try:
            if tls is None:
                self.port = self._server.add_insecure_port(place)
            else:
                files = []
                for path in tls:
                    with open(path, "rb") as file:
                        files.append(file.read())
                pair = (files[1], files[0])
                self.port = self._server.add_secure_port(place, grpc.ssl_server_credentials([pair]))
        except RuntimeError as error:
            raise OSError(f"gRPC cannot listen on {place}: {error}") from error

    async def start(self) -> None:
        """Takes calls from now on."""
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    async def drain(self) -> None:
        """Tells health checks that no calls should come anymore."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace_seconds: float) -> None:
        """Ends; calls in progress have some seconds to finish."""
        await self._server.stop(grace_seconds)

    async def _set_health(self, status: Any) -> None:
        for name in _SERVICES:
            await self._health.set(name, status)


class _Guard(grpc.aio.ServerInterceptor):
    """Refuses calls without the bearer token and messages that do not parse, and answers for faults."""

    def __init__(self, token: str, say: Callable[[str], None]):
        self._expected, self._say = f"Bearer {token}".encode() if token else b"", say

        async def refuse(request: Any, context: Any) -> None:
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                "expected the metadata authorization: Bearer TOKEN.",
            )

        self._refusal = grpc.unary_unary_rpc_method_handler(refuse)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        if not self._is_allowed(handler_call_details):
            return self._refusal
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        parse, answer = handler.request_deserializer, handler.unary_unary

        async def guarded(data: bytes, context: Any) -> Any:
            try:
                request = parse(data)
            except Exception:  # here, since grpc logs a traceback for such a message
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, "the message is not of this method's type."
                )
            try:
                return await answer(request, context)
            except (grpc.aio.BaseError, asyncio.CancelledError):
                raise  # the end of the call, which the client may have gone from already
            except Exception as error:
                self._say("".join(traceback.format_exception(error)))
                await context.abort(
                    grpc.StatusCode.INTERNAL,
                    "this should not happen; the service's log has the cause.",
                )

        return handler._replace(request_deserializer=None, unary_unary=guarded)

    def _is_allowed(self, details: Any) -> bool:
        if not self._expected or details.method.startswith(_NO_TOKEN):
            return True
        token = dict(details.invocation_metadata or ()).get("authorization", "")
        token = token.encode("utf-8", "replace") if isinstance(token, str) else token
        return hmac.compare_digest(token, self._expected)


async def _answered(answer: Awaitable[Any], context: Any) -> Any:
    """The answer, or an end of the call with the status and sentence of what was raised."""
    try:
        return await answer
    except RequestError as error:
        await context.abort(_CODES[error.status], str(error))
        raise


async def _version(service: Service, spec: Any, context: Any) -> LoadedVersion:
    try:
        return _address(spec).find(service.model)
    except RequestError as error:
        await context.abort(_CODES[error.status], str(error))
        raise


async def _refuse_method(service: Service, spec: Any, context: Any, method: str) -> None:
    await _version(service, spec, context)
    await context.abort(
        grpc.StatusCode.INVALID_ARGUMENT,
        f"Expected a signature with method_name tensorflow/serving/{method}; those of this model are of "
        "tensorflow/serving/predict.",
    )


def _address(spec: Any) -> ModelAddress:
    choice = spec.WhichOneof("version_choice")
    number = spec.version.value if choice == "version" else None
    return ModelAddress(
        spec.name, number, spec.version_label if choice == "version_label" else None
    )


def _inputs(protos: Mapping[str, Any], specs: Mapping[str, tf.TensorSpec]) -> dict[str, np.ndarray]:
    """Arrays of tensor protos; raises ValueError where one is none, or of another type than its input."""
    return {name: _array(name, proto, specs.get(name)) for name, proto in protos.items()}


def _array(name: str, proto: Any, spec: tf.TensorSpec | None) -> np.ndarray:
    if spec is not None and proto.dtype != spec.dtype.as_datatype_enum:
        try:
            actual = tf.as_dtype(proto.dtype).name
        except TypeError:
            actual = f"type {proto.dtype}"
        raise ValueError(f"{name} must hold {spec.dtype.name} values; got {actual} ones.")
    sizes = [dimension.size for dimension in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise ValueError(f"{name} must have a shape without unknown sizes.")
    # One value may stand for a whole tensor, however large.
    if math.prod(sizes) > _LARGEST_SIZE:
        raise ValueError(f"{name} has more than {_LARGEST_SIZE:,} values.")
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError, OverflowError, MemoryError) as error:
        raise ValueError(
            f"{name} is no tensor: its values do not have the shape {sizes}."
        ) from error


def _fill(spec: Any, name: str, version: LoadedVersion) -> None:
    spec.name = name
    spec.version.CopyFrom(wrappers_pb2.Int64Value(value=version.number))
