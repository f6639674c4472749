"""Serves an export bundle over HTTP as TF Serving's REST interface does, with TensorFlow alone.

    POST /v1/models/NAME[/versions/N]:predict      rows ("instances") or columns ("inputs")
    POST /v1/models/NAME[/versions/N]:rank         a user or a history, and candidates; ours alone
    GET  /v1/models/NAME[/versions/N]              state of the versions
    GET  /v1/models/NAME[/versions/N]/metadata     signatures

It is meant for trying a model out, for tests, and for hosts where tensorflow_model_server cannot be
had: it takes the same requests and gives the same answers, but does not merge requests to batches.
The body of `:rank` is described in `rank_requests`.
"""

import base64
import binascii
import dataclasses
import functools
import http.server
import json
import os
import pathlib
import re
import threading
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

from dgin_tf.serving.export.bundle import REQUESTS
from dgin_tf.serving.export.signatures import SERVING_DEFAULT, Specs, signature_specs
from dgin_tf.serving.export.versions import ASSETS, latest_version
from dgin_tf.serving.online.bundle_model import BundleModel
from dgin_tf.serving.online.rank_requests import parse_json, rank_request
from dgin_tf.serving.online.ranker import Ranker
from dgin_tf.stores.behavior_engine import BehaviorEngine
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.state_store import StateStore, StoreError

LARGEST_BODY = 64 << 20

_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d+))?(?P<verb>/metadata|:\w+)?"
)


@dataclasses.dataclass(frozen=True)
class LoadedVersion:
    """One version of a model in memory.

    Attributes:
      path: its directory, named by its number.
      signatures: name -> loaded concrete function.
      definitions: name -> `SignatureDef`, as TF Serving describes a model.
      index: histories of users; None for none.
      states: stored states, or with an engine the cache of groups; see `Ranker`.
    """

    path: pathlib.Path
    signatures: Mapping[str, Any]
    definitions: Mapping[str, Any]
    index: BehaviorIndex | BehaviorEngine | None = None
    states: StateStore | None = None

    @property
    def number(self) -> int:
        return int(self.path.name)

    @functools.cached_property
    def ranker(self) -> Ranker:
        """Ranks with this version; built on first use, since it reads the catalogue.

        Raises:
          ValueError: the index does not hold what the model searches.
        """
        model = BundleModel(self.path, signatures=self.signatures)
        return Ranker(model, self.index, self.states)

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature.

        Raises:
          ValueError: there is no such signature, or the inputs are not what it takes.
        """
        if signature not in self.signatures:
            raise ValueError(
                f"no signature {signature!r} in this model; it has {sorted(self.signatures)}."
            )
        function = self.signatures[signature]
        specs = signature_specs(function)[0]
        if set(inputs) != set(specs):
            raise ValueError(
                f"signature {signature!r} takes {sorted(specs)}; missing "
                f"{sorted(set(specs) - set(inputs))}, unknown {sorted(set(inputs) - set(specs))}."
            )
        tensors = {name: _tensor(name, inputs[name], spec) for name, spec in specs.items()}
        try:
            return {name: tensor.numpy() for name, tensor in function(**tensors).items()}
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(_cause(error)) from error


class Servable:
    """The newest version of a model on disk, replaced while requests go on.

    Args:
      name: the model's name in requests.
      export_dir: base path of its versions.
      index: histories for rank requests by user id, see `Ranker`.
      states: stored states, or with an engine the cache of groups, see `Ranker`.

    Raises:
      FileNotFoundError: there is no version yet.
      ValueError: the index does not hold what the model searches.
    """

    def __init__(
        self,
        name: str,
        export_dir: str | os.PathLike,
        index: BehaviorIndex | BehaviorEngine | None = None,
        states: StateStore | None = None,
    ):
        self.name = name
        self._base = pathlib.Path(export_dir)
        self._index = index
        self._states = states
        self.current = self._load(latest_version(self._base))

    def refresh(self) -> bool:
        """Loads the newest version if it is not the current one; returns True if it was loaded."""
        newest = latest_version(self._base)
        if int(newest.name) == self.current.number:
            return False
        self.current = self._load(newest)
        return True

    def version(self, name: str, number: int | None) -> LoadedVersion:
        """The version of a request; raises LookupError where it is not the one in memory."""
        current = self.current
        if name != self.name or number not in (None, current.number):
            missing = name if number is None else f"{name} version {number}"
            raise LookupError(
                f"Servable not found for request: {missing}; here is {self.name} version "
                f"{current.number}."
            )
        return current

    def _load(self, path: pathlib.Path) -> LoadedVersion:
        content = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
        definitions = dict(content.meta_graphs[0].signature_def)
        definitions = {n: d for n, d in definitions.items() if not n.startswith("__")}
        signatures = tf.saved_model.load(os.fspath(path)).signatures
        version = LoadedVersion(path, signatures, definitions, self._index, self._states)
        if self._index is not None:
            _ = version.ranker  # an index that does not fit is refused now, not at a request
        for request in sorted((path / ASSETS / REQUESTS).glob("*.json")):
            respond(version, request.read_bytes())  # the first request to a function is its slowest
        return version


def respond(version: LoadedVersion, body: bytes) -> dict[str, Any]:
    """Answers the JSON body of a predict request as TF Serving does.

    Raises:
      ValueError: the body is no request that the model can answer.
    """
    request = parse_json(body)
    forms = {"instances", "inputs"} & set(request) if isinstance(request, dict) else ()
    if len(forms) != 1:
        raise ValueError(
            'expected a JSON object with either "instances" (rows) or "inputs" (columns).'
        )
    signature = request.get("signature_name", SERVING_DEFAULT)
    if signature not in version.signatures:
        version.predict(signature, {})
    specs = signature_specs(version.signatures[signature])[0]
    by_column = "inputs" in forms
    content = request["inputs"] if by_column else _from_rows(request["instances"], specs)
    arrays = version.predict(signature, _columns(content, specs))
    outputs = {name: array.tolist() for name, array in arrays.items()}
    if len(outputs) == 1:
        return {"outputs" if by_column else "predictions": next(iter(outputs.values()))}
    if by_column:
        return {"outputs": outputs}
    rows = zip(*outputs.values(), strict=True)
    return {"predictions": [dict(zip(outputs, row, strict=True)) for row in rows]}


def make_server(servable: Servable, host: str, port: int) -> http.server.ThreadingHTTPServer:
    """An HTTP server for a model; port 0 takes a free one. The caller runs and closes it."""

    class Handler(_Handler):
        model = servable

    return http.server.ThreadingHTTPServer((host, port), Handler)


def watch(servable: Servable, seconds: float, stop: threading.Event) -> threading.Thread:
    """Starts a thread that looks for newer versions every `seconds`, until `stop` is set."""

    def look():
        while not stop.wait(seconds):
            try:
                servable.refresh()
            except (OSError, ValueError, tf.errors.OpError) as error:  # keep what is there
                tf.get_logger().error("could not load the newest version: %s", error)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    return thread


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: Servable

    def do_GET(self):
        self._answer(self._describe)

    def do_POST(self):
        self._answer(self._predict)

    def log_message(self, format, *args):  # noqa: A002  (the base class's name)
        tf.get_logger().debug(format, *args)

    def _predict(self, route, version):
        if route["verb"] == ":rank":
            return rank_request(version.ranker, self._body())
        if route["verb"] != ":predict":
            raise LookupError(
                f"Malformed request: POST {self.path}; the verbs served are :predict and :rank."
            )
        return respond(version, self._body())

    def _describe(self, route, version):
        if route["verb"] == "/metadata":
            return metadata(self.model.name, version)
        if route["verb"]:
            raise LookupError(f"Malformed request: GET {self.path}.")
        status = {"error_code": "OK", "error_message": ""}
        state = {"version": str(version.number), "state": "AVAILABLE", "status": status}
        return {"model_version_status": [state]}

    def _answer(self, respond_to):
        try:
            route = _PATH.fullmatch(self.path)
            if not route:
                raise LookupError(f"Malformed request: {self.command} {self.path}.")
            number = int(route["version"]) if route["version"] else None
            content = respond_to(route, self.model.version(route["name"], number))
            status = HTTPStatus.OK
        except LookupError as error:
            content, status = {"error": error.args[0]}, HTTPStatus.NOT_FOUND
        except ValueError as error:
            content, status = {"error": str(error)}, HTTPStatus.BAD_REQUEST
        except StoreError as error:
            content, status = {"error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE
        payload = json.dumps(content, indent=1).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _body(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            self.close_connection = True  # the unread body would be parsed as the next request
            raise ValueError(
                f"expected a Content-Length of at most {LARGEST_BODY} bytes; got {length!r}."
            )
        return self.rfile.read(int(length))


def metadata(name: str, version: LoadedVersion) -> dict[str, Any]:
    """A model's signatures as TF Serving's metadata request gives them."""
    options = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
    to_dict = functools.partial(json_format.MessageToDict, **options)
    definitions = {key: to_dict(definition) for key, definition in version.definitions.items()}
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version.number)},
        "metadata": {"signature_def": {"signature_def": definitions}},
    }


def _columns(content: Any, specs: Specs) -> dict[str, np.ndarray]:
    """Input name -> array; a signature of one input may come without its name."""
    if not isinstance(content, dict) or (set(content) == {"b64"} and len(specs) == 1):
        if len(specs) != 1:
            raise ValueError(f"expected inputs by name, {sorted(specs)}; got no names.")
        content = {next(iter(specs)): content}
    return {name: _array(name, value, specs.get(name)) for name, value in content.items()}


def _from_rows(rows: Any, specs: Specs) -> dict[str, Any]:
    if not isinstance(rows, list) or not rows:
        raise ValueError('"instances" must be a list of at least one row.')
    dict_rows = [row for row in rows if isinstance(row, dict) and set(row) != {"b64"}]
    if not dict_rows:
        if len(specs) != 1:
            raise ValueError(f"expected rows with the names {sorted(specs)}; got no names.")
        return {next(iter(specs)): rows}
    if len(dict_rows) < len(rows) or any(set(row) != set(rows[0]) for row in rows):
        raise ValueError('expected the same names in every row of "instances".')
    return {name: [row[name] for row in rows] for name in rows[0]}


def _array(name: str, value: Any, spec: tf.TensorSpec | None) -> np.ndarray:
    if spec is not None and spec.dtype == tf.string:
        return np.array(_decoded(value), dtype=object)
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(
            f"{name} is ragged: every row needs the same length; pad the shorter ones with 0."
        ) from None


def _decoded(value: Any) -> Any:
    """Strings as bytes, with {"b64": ...} decoded."""
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if isinstance(value, str):
        return value.encode()
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (TypeError, KeyError, binascii.Error):
        raise ValueError('expected bytes as {"b64": "<base64>"}.') from None


def _tensor(name: str, value: np.ndarray, spec: tf.TensorSpec) -> tf.Tensor:
    """A tensor, after checks of type and shape with clearer messages than the C++ server's."""
    value = np.asarray(value)
    dtype = spec.dtype.as_numpy_dtype
    kinds = {"i": "iu", "u": "iu", "f": "iuf", "b": "b"}.get(np.dtype(dtype).kind, "OSU")
    if value.dtype.kind not in kinds and value.size:
        raise ValueError(f"{name} must hold {spec.dtype.name} values; got {value.dtype.name} ones.")
    if not spec.shape.is_compatible_with(value.shape):
        shape = ["any" if size is None else size for size in spec.shape.as_list()]
        raise ValueError(f"{name} must have the shape {shape}; got {list(value.shape)}.")
    if value.dtype.kind in "iu" and value.size and np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        if value.min() < limits.min or value.max() > limits.max:
            raise ValueError(f"{name} holds numbers beyond {spec.dtype.name}.")
    return tf.constant(value.astype(dtype), spec.dtype)


def _cause(error: tf.errors.OpError) -> str:
    """The sentence of a failed check, without TensorFlow's report of its place in the graph."""
    match = re.search(r"assertion failed: \[([^\]]*)\]", error.message)
    return match[1] if match else error.message.split("\n")[0]
