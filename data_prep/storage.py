"""Files of named numpy columns, in which the stages leave their results for each other.

One JSON line that lists the columns, then their bytes one after the other, so that any rows of any
column can be read without the rest. Files appear whole or not at all.
"""

import json
import os
from collections.abc import Mapping, Sequence

import numpy as np

from dgin_tf.integrity import damage_in
from dgin_tf.schema import replacing

Columns = dict[str, np.ndarray]
_HEADER_DIGITS = 12


def save_columns(path: str | os.PathLike, columns: Mapping[str, np.ndarray]) -> None:
    """Writes one-dimensional columns of any lengths, whole or not at all."""
    header = json.dumps([[name, array.dtype.str, len(array)] for name, array in columns.items()])
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(f"{len(header):{_HEADER_DIGITS}d}{header}".encode())
        for array in columns.values():
            file.write(np.ascontiguousarray(array).data)


def load_columns(
    path: str | os.PathLike,
    names: Sequence[str] | None = None,
    rows: tuple[int, int] | None = None,
) -> Columns:
    """Reads columns back.

    Args:
      path: a file that `save_columns` wrote.
      names: columns to read; all if None.
      rows: first row and the row after the last; all if None.
    """
    columns = {}
    layout = _layout(path)
    with open(path, "rb") as file:
        for name, dtype, length, offset in layout:
            if names is None or name in names:
                start, stop = (0, length) if rows is None else rows
                file.seek(offset + start * dtype.itemsize)
                # Only the bytes of these rows are read.
                columns[name] = np.fromfile(file, dtype, stop - start)
    return columns


def map_columns(path: str | os.PathLike) -> Columns:
    """Columns as read-only memory maps, for look-ups that touch a few rows or that workers share."""
    columns: Columns = {}
    for name, dtype, length, offset in _layout(path):
        columns[name] = (
            np.memmap(path, dtype, "r", offset, (length,)) if length else np.zeros(0, dtype)
        )
    return columns


def _layout(path: str | os.PathLike) -> list[tuple[str, np.dtype, int, int]]:
    """Name, dtype, length and offset of each column; raises ValueError for a file that is not whole."""
    layout, advice = [], "delete the folder .preparing and start again"
    with damage_in(path, "columns of a preparation", advice), open(path, "rb") as file:
        header = file.read(int(file.read(_HEADER_DIGITS)))
        offset = _HEADER_DIGITS + len(header)
        for name, dtype_name, length in json.loads(header):
            dtype = np.dtype(dtype_name)
            layout.append((name, dtype, length, offset))
            offset += length * dtype.itemsize
        if (size := os.fstat(file.fileno()).st_size) != offset:
            raise ValueError(f"it has {size} bytes instead of {offset}")
    return layout


def narrow(array: np.ndarray) -> np.ndarray:
    """Casts integers to int32 where they all fit, which halves what is written and read."""
    limits = np.iinfo(np.int32)
    if array.dtype != np.int64 or not len(array):
        return array
    fits = array.min() >= limits.min and array.max() <= limits.max
    return array.astype(np.int32) if fits else array
