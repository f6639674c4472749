"""One version of a model in memory: its signatures, checked inputs, and a ranker."""

import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from dgin_tf.schema import CANDIDATE, HISTORY, ITEM, feature_name
from dgin_tf.serving.export.signatures import Specs
from dgin_tf.serving.export.versions import open_bundle
from dgin_tf.serving.online.bundle_model import BundleModel
from dgin_tf.serving.online.functions import Functions, LocalFunctions
from dgin_tf.serving.online.limits import Limits
from dgin_tf.serving.online.ranker import Ranker

_NOISE = re.compile(r"Graph execution error|Detected at node|<stack traces|\s*$|\s*\[\[|\[Op:")


class LoadedVersion:
    """Signatures of an exported version, which was compared with its checksums.

    Args:
      path: its directory, named by its number.
      make_ranker: makes the ranker of the loaded model; it refuses sources that do not fit.
      load_functions: gives the signatures' functions for the directory.
      merge: gives the functions of the ranker, such as merged ones.

    Raises:
      ValueError: a file is missing or damaged, or a source does not fit.
    """

    def __init__(
        self,
        path: pathlib.Path,
        make_ranker: Callable[[BundleModel], Ranker] = Ranker,
        load_functions: Callable[[pathlib.Path], Functions] = LocalFunctions.load,
        merge: Callable[[Functions], Functions] = lambda functions: functions,
    ):
        if not (path / "saved_model.pb").is_file():
            raise ValueError(f"{path} has no saved_model.pb: it is not complete, or no export.")
        self.path, self.number = path, int(path.name)
        self.metadata = open_bundle(path)[1]
        self._functions = load_functions(path)
        self.definitions = _definitions(path)
        self.ranker = make_ranker(BundleModel(path, functions=merge(self._functions)))
        self.events: Any = None  # what takes events for this version, where a service does

    def specs(self, signature: str) -> Specs:
        """Name -> shape and type of a signature's inputs; raises ValueError where there is none."""
        inputs = self.ranker.model.inputs
        if signature not in inputs:
            raise ValueError(f"no signature {signature!r} in this model; it has {sorted(inputs)}.")
        return inputs[signature]

    def predict(
        self, signature: str, inputs: Mapping[str, np.ndarray], limits: Limits
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
          signature: its name.
          inputs: name -> array of the signature's type.
          limits: of the number of candidates and events.

        Raises:
          ValueError: there is no such signature, or the inputs are not what it takes.
        """
        specs = self.specs(signature)
        if set(inputs) != set(specs):
            raise ValueError(
                f"signature {signature!r} takes {sorted(specs)}; missing "
                f"{sorted(set(specs) - set(inputs))}, unknown {sorted(set(inputs) - set(specs))}."
            )
        arrays = {name: _checked(name, inputs[name], spec) for name, spec in specs.items()}
        self._check_size(inputs, limits)
        try:
            outputs = self._functions(signature, arrays)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            if isinstance(error, tf.errors.ResourceExhaustedError):
                raise
            raise ValueError(_cause(error)) from error
        return {
            name: value.numpy() if isinstance(value, tf.Tensor) else value
            for name, value in outputs.items()
        }

    def _check_size(self, inputs: Mapping[str, np.ndarray], limits: Limits) -> None:
        """Raises ValueError where the model would need more memory than a request is worth."""
        item = self.ranker.model.schema.field(ITEM)
        events, candidates = (
            inputs[name].shape if name in inputs and inputs[name].ndim > 1 else (1, 1)
            for name in (feature_name(HISTORY, item), feature_name(CANDIDATE, item))
        )
        if candidates[1] > limits.candidates:
            raise ValueError(
                f"expected at most {limits.candidates:,} candidates; got {candidates[1]:,}."
            )
        pairs = max(events[0], candidates[0]) * events[1] * candidates[1]
        if pairs > limits.pairs:
            raise ValueError(
                f"expected at most {limits.pairs:,} pairs of an event and a candidate; got {pairs:,}."
            )


def _definitions(path: pathlib.Path) -> dict[str, Any]:
    """Name -> `SignatureDef`, as TF Serving describes a model."""
    try:
        content = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
        definitions = content.meta_graphs[0].signature_def
    except (DecodeError, IndexError) as error:
        raise ValueError(f"the saved model in {os.fspath(path)} is damaged.") from error
    return {name: d for name, d in definitions.items() if not name.startswith("__")}


def _checked(name: str, value: np.ndarray, spec: tf.TensorSpec) -> np.ndarray:
    """The value, after checks of type and shape with clearer messages than the C++ server's."""
    dtype = np.dtype(spec.dtype.as_numpy_dtype)
    if value.dtype != dtype and value.size:
        raise ValueError(f"{name} must hold {spec.dtype.name} values; got {value.dtype.name} ones.")
    if not spec.shape.is_compatible_with(value.shape):
        shape = ["any" if size is None else size for size in spec.shape.as_list()]
        raise ValueError(f"{name} must have the shape {shape}; got {list(value.shape)}.")
    if dtype.hasobject and not all(isinstance(item, bytes | str) for item in value.reshape(-1)):
        raise ValueError(f"{name} must hold {spec.dtype.name} values of one shape.")
    return value.astype(dtype, copy=False)


def _cause(error: Exception) -> str:
    """The sentence of a failed check, without TensorFlow's report of its place in the graph."""
    text = str(getattr(error, "message", error))
    if isinstance(error, UnicodeDecodeError):  # TensorFlow's message quotes bytes of the request
        text = error.object.decode("utf-8", "backslashreplace")
    if match := re.search(r"assertion failed: \[([^\]]*)\]", text):
        return match[1]
    lines = (line for line in text.splitlines() if not _NOISE.match(line))
    sentence = next(lines, type(error).__name__)
    return re.sub(r"\s*\[Op:.*|\s*\[\[.*", "", sentence).removeprefix("{{function_node").strip()
