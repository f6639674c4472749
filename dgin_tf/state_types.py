"""Number types that states are stored in: float32 as they are, bfloat16 or int8 in a half and a quarter of it.

Eight bits have one scale for each vector, the largest magnitude of an array's last axis: a slot of a memory,
an embedded event, a cluster. Integers and booleans, numbers without an axis, and vectors of fewer than
`SHORTEST` numbers are stored as they are.

    name              as it is
    name.bfloat16     uint16, the upper halves of float32
    name.int8         int8, with name.scale, float32, of one number a vector
"""

import math
from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np

FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
STATE_TYPES = (FLOAT32, BFLOAT16, INT8)
SHORTEST = 8  # of a shorter vector the scale is half of the bytes

_SCALE = "scale"
_LARGEST_CODE = 127


def narrow(arrays: Mapping[str, np.ndarray], state_type: str) -> dict[str, np.ndarray]:
    """Arrays of a state as they are stored.

    Args:
      arrays: name -> array; names have no dots.
      state_type: of `STATE_TYPES`.

    Returns:
      Name -> array, see above. Arrays that are not finite everywhere stay float32 in place of int8.

    Raises:
      ValueError: the type is not known.

    Example:

      >>> stored = narrow({"memory": np.ones([4, 16], np.float32)}, "int8")
      >>> {name: array.nbytes for name, array in stored.items()}
      {'memory.int8': 64, 'memory.scale': 16}
    """
    check_state_type(state_type)
    stored: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        array = np.asarray(array)
        stored_as = _stored_type(array.dtype, array.shape, state_type)
        if stored_as == INT8 and not np.isfinite(array).all():
            stored_as = FLOAT32
        if stored_as == BFLOAT16:
            stored[f"{name}.{BFLOAT16}"] = array.astype(ml_dtypes.bfloat16).view(np.uint16)
        elif stored_as == INT8:
            scale = np.abs(array).max(axis=-1, keepdims=True) / _LARGEST_CODE
            codes = np.rint(array / np.where(scale > 0, scale, 1))
            stored[f"{name}.{INT8}"] = codes.astype(np.int8)
            stored[f"{name}.{_SCALE}"] = scale.astype(np.float32)
        else:
            stored[name] = array
    return stored


def widen(stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Inverse of `narrow`, whatever type it was given: a value says how it is stored.

    Example:

      >>> widen(narrow({"memory": np.full([1, 8], 0.5, np.float32)}, "bfloat16"))["memory"].max()
      np.float32(0.5)
    """
    arrays: dict[str, np.ndarray] = {}
    for name, array in stored.items():
        base, _, kind = name.rpartition(".")
        if base and kind == BFLOAT16:
            arrays[base] = array.view(ml_dtypes.bfloat16).astype(np.float32)
        elif base and kind == INT8:
            arrays[base] = array.astype(np.float32) * stored[f"{base}.{_SCALE}"]
        elif not (base and kind == _SCALE and f"{base}.{INT8}" in stored):
            arrays[name] = array
    return arrays


def stored_bytes(dtype: np.dtype, shape: Sequence[int], state_type: str) -> int:
    """Bytes of an array of a dtype and shape as `narrow` stores it."""
    count = math.prod(shape)
    stored_as = _stored_type(np.dtype(dtype), shape, state_type)
    if stored_as == BFLOAT16:
        return 2 * count
    return (
        count + 4 * (count // shape[-1]) if stored_as == INT8 else count * np.dtype(dtype).itemsize
    )


def check_state_type(state_type: str) -> None:
    """Raises ValueError where a type is none of `STATE_TYPES`."""
    if state_type not in STATE_TYPES:
        raise ValueError(f"expected a state type of {', '.join(STATE_TYPES)}; got {state_type!r}.")


def _stored_type(dtype, shape, state_type):
    """The type that an array is stored in, `FLOAT32` standing for its own."""
    if dtype != np.float32 or not shape or shape[-1] < SHORTEST:
        return FLOAT32
    return state_type
