"""Warm-up requests in TF Serving's own format, so that the first user does not wait for tracing.

TF Serving replays `assets.extra/tf_serving_warmup_requests`, a TFRecord file of `PredictionLog`
protocol buffers, before a version takes traffic. The four messages around TensorFlow's own
`TensorProto` are length-prefixed fields and nothing else, so they are packed by hand and exporting
needs no tensorflow-serving-api.
"""

import os
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from dgin_tf.records import length_prefixed, write_records

WARMUP_FILE = "tf_serving_warmup_requests"

# Field numbers of tensorflow_serving/apis: prediction_log.proto, predict.proto, model.proto.
_LOG_PREDICT = 6
_PREDICT_REQUEST = 1
_REQUEST_MODEL_SPEC = 1
_REQUEST_INPUTS = 2
_MODEL_NAME = 1
_MODEL_SIGNATURE = 3
_ENTRY_KEY = 1
_ENTRY_VALUE = 2


def predict_request(model: str, signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """A serialized `tensorflow.serving.PredictRequest`.

    Args:
      model: name under which the server knows the model.
      signature: name of the signature.
      inputs: input name -> value.
    """
    spec = length_prefixed(_MODEL_NAME, model.encode())
    spec += length_prefixed(_MODEL_SIGNATURE, signature.encode())
    # A map field is a repeated message of key and value; sorted, so that the bytes are reproducible.
    entries = [
        length_prefixed(_ENTRY_KEY, name.encode())
        + length_prefixed(_ENTRY_VALUE, tf.make_tensor_proto(value).SerializeToString())
        for name, value in sorted(inputs.items())
    ]
    return length_prefixed(_REQUEST_MODEL_SPEC, spec) + b"".join(
        length_prefixed(_REQUEST_INPUTS, entry) for entry in entries
    )


def write_warmup(folder: str | os.PathLike, requests: Iterable[bytes]) -> None:
    """Writes `PredictRequest`s as the warm-up file of a version.

    Args:
      folder: the version's `assets.extra`.
      requests: as `predict_request` makes them; TF Serving replays at most 1,000.
    """
    logs = (length_prefixed(_LOG_PREDICT, length_prefixed(_PREDICT_REQUEST, r)) for r in requests)
    write_records(os.path.join(folder, WARMUP_FILE), logs)
