"""Signatures of a model behind TF Serving's address, over gRPC or REST, with pooled connections and a deadline.

Scoring changes nothing, so that a call which did not reach the server is repeated until the deadline.
"""

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from dgin_tf.serving.online.functions import Functions, RemoteError
from dgin_tf.stores.state_store import optional_package

_ATTEMPTS = 3
_PAUSE = 0.05  # seconds before the second attempt, twice as long before the third
_RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "tensorflow.serving.PredictionService"}],
            "retryPolicy": {
                "maxAttempts": _ATTEMPTS,
                "initialBackoff": f"{_PAUSE}s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


def connect(
    address: str, name: str, metadata: Mapping[str, Any], seconds: float = 2.0
) -> Functions:
    """Functions of one version of a model at an address.

    Args:
      address: grpc://host:port, http://host:port or https://host:port.
      name: of the model there.
      metadata: the version's `model.json`; it is asked for by number, so that scores and states belong to
        the same weights.
      seconds: deadline of a call, its repetitions included.

    Raises:
      ValueError: this is no such address.
    """
    scheme, separator, place = address.partition("://")
    if not separator or not place or scheme not in ("grpc", "http", "https"):
        raise ValueError(
            f"expected grpc://host:port or http://host:port of TF Serving; got {address!r}."
        )
    if scheme == "grpc":
        return GrpcFunctions(place, name, metadata["version"], seconds)
    return RestFunctions(address, name, metadata, seconds)


class GrpcFunctions:
    """A version's signatures over gRPC.

    Args:
      place: host:port.
      name: of the model.
      number: of the version.
      seconds: deadline of a call.
    """

    def __init__(self, place: str, name: str, number: int, seconds: float):
        self._grpc = optional_package("grpc", "connection to TF Serving")
        apis = "tensorflow_serving.apis"
        self._messages = optional_package(f"{apis}.predict_pb2", "connection to TF Serving")
        stubs = optional_package(f"{apis}.prediction_service_pb2_grpc", "connection to TF Serving")
        self._place, self._name, self._number, self._seconds = place, name, number, seconds
        options = [
            ("grpc.service_config", json.dumps(_RETRIES)),
            ("grpc.max_receive_message_length", -1),
        ]
        channel = self._grpc.insecure_channel(place, options)
        self._predict = stubs.PredictionServiceStub(channel).Predict

    def __call__(self, signature: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        request = self._messages.PredictRequest()
        request.model_spec.name = self._name
        request.model_spec.version.value = self._number
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(np.asarray(value)))
        try:
            response = self._predict(request, timeout=self._seconds)
        except self._grpc.RpcError as error:
            if error.code() == self._grpc.StatusCode.INVALID_ARGUMENT:
                raise ValueError(error.details()) from error
            raise RemoteError(
                f"TF Serving at {self._place} does not answer: {error.code().name}, "
                f"{error.details()}."
            ) from error
        return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}


class RestFunctions:
    """A version's signatures over REST.

    Args:
      address: http://host:port.
      name: of the model.
      metadata: the version's `model.json`.
      seconds: deadline of a call.
    """

    def __init__(self, address: str, name: str, metadata: Mapping[str, Any], seconds: float):
        self._httpx = optional_package("httpx", "connection to TF Serving")
        self._address, self._seconds = address, seconds
        self._path = f"/v1/models/{name}/versions/{metadata['version']}:predict"
        self._signatures = metadata["signatures"]
        self._client = self._httpx.Client(base_url=address)

    def __call__(self, signature: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        content = {
            "signature_name": signature,
            "inputs": {name: _plain(np.asarray(value)) for name, value in inputs.items()},
        }
        response = self._post(json.dumps(content).encode())
        if response.status_code == 400:
            raise ValueError(_error(response))
        if response.status_code != 200:
            raise RemoteError(
                f"TF Serving at {self._address} answers {response.status_code}: {_error(response)}"
            )
        specs = self._signatures[signature]["outputs"]
        outputs = response.json()["outputs"]
        if len(specs) == 1:  # the only one comes without its name
            outputs = {next(iter(specs)): outputs}
        return {name: np.asarray(outputs[name], spec["dtype"]) for name, spec in specs.items()}

    def _post(self, body: bytes) -> Any:
        until, pause = time.monotonic() + self._seconds, _PAUSE
        for attempt in range(_ATTEMPTS):
            rest = until - time.monotonic()
            try:
                response = self._client.post(self._path, content=body, timeout=max(rest, 0.001))
                if response.status_code not in (429, 503) or attempt == _ATTEMPTS - 1:
                    return response
            except self._httpx.TransportError as error:
                is_late = isinstance(error, self._httpx.TimeoutException)
                if is_late or attempt == _ATTEMPTS - 1 or time.monotonic() + pause > until:
                    raise RemoteError(
                        f"TF Serving at {self._address} does not answer within {self._seconds:g} seconds: "
                        f"{error or type(error).__name__}."
                    ) from error
            time.sleep(min(pause, max(until - time.monotonic(), 0.0)))
            pause *= 2
        raise AssertionError("the last attempt returns or raises")


def _plain(value: np.ndarray) -> Any:
    if value.dtype == object:
        return [{"b64": base64.b64encode(item).decode()} for item in value]
    return value.tolist()


def _error(response: Any) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
