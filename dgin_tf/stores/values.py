"""Format of stored values: named arrays of a model version and a schema.

    magic, format version, sequence number, length of the description     fixed size
    description: model version, schema fingerprint, names, dtypes, shapes  JSON
    the arrays, each from a multiple of eight bytes on                      raw, little-endian
    CRC-32C of all of that                                                  four bytes

A value that was cut short or damaged, or that belongs to another model version or schema, is refused.
"""

import dataclasses
import json
import math
import struct
from collections.abc import Mapping

import google_crc32c
import numpy as np

FORMAT_VERSION = 1

_MAGIC = b"dgtf"
_START = struct.Struct("<4sHxxqI")
_CRC = struct.Struct("<I")
_ALIGNMENT = 8
_KINDS = "biuf"  # booleans, integers, floating point


class DamagedValueError(ValueError):
    """The bytes are not a complete value."""


class StaleValueError(ValueError):
    """The value is complete but belongs to another format, model version or schema."""


@dataclasses.dataclass(frozen=True)
class Value:
    """A decoded value.

    Attributes:
      sequence: number of the last delivery that it includes; 0 before the first.
      arrays: name -> read-only array.
    """

    sequence: int
    arrays: Mapping[str, np.ndarray]


def encode_value(
    arrays: Mapping[str, np.ndarray], *, model_version: str, schema: str, sequence: int
) -> bytes:
    """Serializes named arrays.

    Args:
      arrays: name -> array of booleans, integers or floating-point numbers.
      model_version: of the model that the state belongs to.
      schema: `Schema.fingerprint()`.
      sequence: number of the last delivery that the state includes, int64.

    Raises:
      ValueError: an array has another type.
    """
    flat = {name: _plain(name, arrays[name]) for name in sorted(arrays)}
    description = json.dumps(
        {
            "model_version": model_version,
            "schema": schema,
            "arrays": [[name, array.dtype.str, array.shape] for name, array in flat.items()],
        },
        separators=(",", ":"),
    ).encode()
    # Arrays are aligned, so that they can be read without a copy.
    parts = [_START.pack(_MAGIC, FORMAT_VERSION, sequence, len(description)), description]
    size = _START.size + len(description)
    for array in flat.values():
        parts += [bytes(-size % _ALIGNMENT), array.tobytes()]
        size += -size % _ALIGNMENT + array.nbytes
    body = b"".join(parts)  # the checksum covers all of it
    return body + _CRC.pack(google_crc32c.value(body))


def decode_value(data: bytes, *, model_version: str, schema: str) -> Value:
    """Inverse of `encode_value`, for the model version and schema in use.

    Raises:
      DamagedValueError: the bytes were cut short or changed.
      StaleValueError: they were written in another format, by another model version or schema.
    """
    if len(data) < _START.size + _CRC.size or data[:4] != _MAGIC:
        raise DamagedValueError(
            f"these {len(data)} bytes are no stored value of dgin_tf; delete them and let the user's "
            "history be encoded again."
        )
    (crc,) = _CRC.unpack_from(data, len(data) - _CRC.size)
    if google_crc32c.value(data[: -_CRC.size]) != crc:
        raise DamagedValueError(
            f"a stored value of {len(data)} bytes is cut short or damaged: its checksum does not match; "
            "delete it and let the user's history be encoded again."
        )
    _, version, sequence, length = _START.unpack_from(data)
    if version != FORMAT_VERSION:
        raise StaleValueError(
            f"the stored value has format version {version}, but this version of dgin_tf reads "
            f"{FORMAT_VERSION}; let the user's history be encoded again."
        )
    description = json.loads(data[_START.size : _START.size + length])
    for name, current in (("model_version", model_version), ("schema", schema)):
        if description[name] != current:
            raise StaleValueError(
                f"the stored value belongs to {name.replace('_', ' ')} {description[name]!r}, but the "
                f"one in use is {current!r}; let the user's history be encoded again."
            )
    arrays, offset = {}, _START.size + length
    for name, dtype, shape in description["arrays"]:
        offset += -offset % _ALIGNMENT
        count = math.prod(shape)
        # Views of the bytes: nothing is copied.
        array = np.frombuffer(data, dtype, count, offset) if count else np.zeros(0, dtype)
        arrays[name] = array.reshape(shape)
        offset += array.nbytes
    return Value(sequence, arrays)


def _plain(name: str, array: np.ndarray) -> np.ndarray:
    """The array as contiguous little-endian numbers."""
    array = np.asarray(array)
    if array.dtype.kind not in _KINDS:
        raise ValueError(
            f"array {name!r} must hold booleans, integers or floating-point numbers; got "
            f"{array.dtype}."
        )
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
