"""Predict requests as TF Serving takes them, in JSON rows or columns, and its descriptions of a model.

Types are as strict as in TF Serving's C++: a `true` is no number, and an int64 tensor no int32 one.
"""

import base64
import binascii
import functools
import json
import re
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format

from dgin_tf.integrity import first_line
from dgin_tf.serving.export.bundle import REQUESTS
from dgin_tf.serving.export.signatures import SERVING_DEFAULT, Specs
from dgin_tf.serving.export.versions import ASSETS
from dgin_tf.serving.online.limits import Limits
from dgin_tf.serving.online.loaded_version import LoadedVersion

Status = tuple[int, str, int, str]  # version, state, error code, error message

# One that does not end goes to the end of the body: what has been read is never read again.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_MOST_PARTS = 100_000  # lists and objects of a body, which take longer to make than to send
_BINARY = "_bytes"  # ending of outputs whose strings are no text
_ERROR_CODES = {0: "OK", 3: "INVALID_ARGUMENT", 5: "NOT_FOUND", 13: "INTERNAL"}


def parse_json(body: bytes, depth: int = Limits.json_depth) -> Any:
    """Content of a request's body.

    Args:
      body: JSON text.
      depth: deepest nesting that is read.

    Raises:
      ValueError: it is no JSON, nested too deeply, or of too many parts.
    """
    if body.count(b"[") + body.count(b"{") > depth:
        parts, deepest = _nesting(body)
        if deepest > depth:
            raise ValueError(
                f"expected JSON of at most {depth} nested lists and objects; got more."
            )
        if parts > _MOST_PARTS:
            raise ValueError(
                f"expected JSON of at most {_MOST_PARTS:,} lists and objects; got {parts:,}."
            )
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"expected a JSON object; got text that does not parse: {first_line(error)}."
        ) from None


def respond(version: LoadedVersion, body: bytes, limits: Limits = Limits()) -> dict[str, Any]:  # noqa: B008
    """Answers the JSON body of a predict request.

    Raises:
      ValueError: the body is no request that the model can answer.
    """
    request = parse_json(body, limits.json_depth)
    forms = {"instances", "inputs"} & set(request) if isinstance(request, dict) else set()
    if len(forms) != 1:
        raise ValueError(
            'expected a JSON object with either "instances" (rows) or "inputs" (columns).'
        )
    signature = request.get("signature_name", SERVING_DEFAULT)
    if not isinstance(signature, str):
        raise ValueError(f"signature_name must be a text; got {json.dumps(signature)[:50]}.")
    specs = version.specs(signature or SERVING_DEFAULT)
    by_column = "inputs" in forms
    content = request["inputs"] if by_column else _from_rows(request["instances"], specs)
    arrays = version.predict(signature or SERVING_DEFAULT, _columns(content, specs), limits)
    outputs = {name: _plain(name, array) for name, array in arrays.items()}
    if len(outputs) == 1:
        return {"outputs" if by_column else "predictions": next(iter(outputs.values()))}
    if by_column:
        return {"outputs": outputs}
    if len({len(rows) for rows in outputs.values()}) > 1:
        raise ValueError('the outputs differ in their first axis; ask by columns ("inputs").')
    rows = zip(*outputs.values(), strict=True)
    return {"predictions": [dict(zip(outputs, row, strict=True)) for row in rows]}


def warm_up(version: LoadedVersion) -> None:
    """Answers a bundle's example requests: the first request to a function is its slowest.

    Raises:
      ValueError: one cannot be answered.
    """
    for path in sorted((version.path / ASSETS / REQUESTS).glob("*.json")):
        respond(version, path.read_bytes())


def metadata(name: str, version: LoadedVersion) -> dict[str, Any]:
    """A model's signatures as TF Serving's metadata request gives them."""
    options = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
    to_dict = functools.partial(json_format.MessageToDict, **options)
    definitions = {key: to_dict(definition) for key, definition in version.definitions.items()}
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version.number)},
        "metadata": {
            "signature_def": {
                "@type": "type.googleapis.com/tensorflow.serving.SignatureDefMap",
                "signature_def": definitions,
            }
        },
    }


def status_json(states: list[Status]) -> dict[str, Any]:
    """Versions' states as TF Serving's status request gives them."""
    return {
        "model_version_status": [
            {
                "version": str(number),
                "state": state,
                "status": {"error_code": _ERROR_CODES[code], "error_message": message},
            }
            for number, state, code, message in states
        ]
    }


def _nesting(body: bytes) -> tuple[int, int]:
    """Number of lists and objects outside of strings, and how deeply they are nested."""
    codes = np.frombuffer(_STRING.sub(b"", body), np.uint8)
    opens = (codes == ord("[")) | (codes == ord("{"))
    closes = (codes == ord("]")) | (codes == ord("}"))
    depths = np.cumsum(opens.astype(np.int32) - closes)
    return int(np.count_nonzero(opens)), int(np.max(depths, initial=0))


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
        array = np.asarray(value)
    except (ValueError, OverflowError, RecursionError):
        raise ValueError(
            f"{name} is ragged: every row needs the same length; pad the shorter ones with 0."
        ) from None
    if spec is None:
        return array
    _check_kind(name, value, array, spec.dtype)
    if (
        spec.dtype.is_integer
        and array.size
        and (array.min() < spec.dtype.min or array.max() > spec.dtype.max)
    ):
        raise ValueError(f"{name} holds numbers beyond {spec.dtype.name}.")
    return array.astype(spec.dtype.as_numpy_dtype)


def _check_kind(name: str, value: Any, array: np.ndarray, dtype: tf.DType) -> None:
    """Raises ValueError where a value has other numbers than a type holds; a `true` is none."""
    kinds = "iu" if dtype.is_integer else "iuf" if dtype.is_floating else "b"
    if array.size and (array.dtype.kind not in kinds or (kinds != "b" and _has_bool(value))):
        kind = "bool" if _has_bool(value) else array.dtype.name
        raise ValueError(f"{name} must hold {dtype.name} values; got {kind} ones.")


def _has_bool(value: Any) -> bool:
    """True for a `true` or `false` anywhere, which numpy takes for a number among numbers."""
    if isinstance(value, list):
        return any(isinstance(v, bool) or (isinstance(v, list) and _has_bool(v)) for v in value)
    return isinstance(value, bool)


def _decoded(value: Any) -> Any:
    """Strings as bytes, with {"b64": ...} decoded."""
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    try:
        if isinstance(value, str):
            return value.encode()
        return base64.b64decode(value["b64"], validate=True)
    except (TypeError, KeyError, binascii.Error, UnicodeError):
        raise ValueError('expected texts, or bytes as {"b64": "<base64>"}.') from None


def _plain(name: str, array: np.ndarray) -> Any:
    """Lists of an output; strings as texts, or as {"b64": ...} where its name says that they are bytes."""
    if array.dtype != object:
        return array.tolist()

    def text(item: Any) -> Any:
        if isinstance(item, list):
            return [text(part) for part in item]
        if name.endswith(_BINARY):
            return {"b64": base64.b64encode(item).decode()}
        return item.decode("utf-8", "replace")

    return text(array.tolist())
