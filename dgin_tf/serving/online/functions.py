"""Signatures of a model as functions of arrays: in this process, or merged from several threads to batches.

`Functions` are what a `BundleModel` calls. `RemoteFunctions` of `remote_functions` are those of a model
behind TF Serving's address.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from dgin_tf.records import Arrays
from dgin_tf.schema import CANDIDATE, HISTORY, PREFIX
from dgin_tf.serving.export.signatures import load_signatures

_PADDED = (PREFIX[HISTORY], PREFIX[CANDIDATE])  # an item id of 0 is padding at the end of a row


class RemoteError(OSError):
    """A model behind an address cannot be reached, or gives no answer in time; the text names it."""


class Functions(Protocol):
    """Signatures by name."""

    def __call__(self, signature: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Outputs by name, arrays or tensors, for inputs by name, of the signature's own types."""


class LocalFunctions:
    """Signatures of a saved model in this process.

    Args:
      signatures: name -> loaded concrete function.
    """

    def __init__(self, signatures: Mapping[str, Any]):
        self.signatures = signatures

    @classmethod
    def load(cls, version: Any) -> "LocalFunctions":
        """Loads those of an exported version; raises ValueError where its files are damaged."""
        return cls(load_signatures(version))

    def __call__(self, signature: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.signatures[signature](**{n: tf.convert_to_tensor(v) for n, v in inputs.items()})


class _Call:
    """Inputs of one thread, and later its outputs."""

    def __init__(self, inputs: Mapping[str, Any]):
        self.inputs = inputs
        self.rows = int(next(iter(inputs.values())).shape[0])
        self.outputs: Mapping[str, Any] | None = None
        self.error: BaseException | None = None
        self.done = threading.Event()


class MergedFunctions:
    """Calls of several threads with tensors that fit, as one call.

    While a batch runs, calls gather behind it, and the next batch takes all of them: merging costs an idle
    server no time. `wait_seconds` makes a batch wait for more even then. Histories and candidates of
    similar lengths are padded to each other; states fit where their shapes are equal.

    Args:
      functions: that batches are run with.
      max_rows: most users of a batch; 1 merges nothing.
      wait_seconds: how long a batch waits for more calls.
      concurrent: how many batches of one kind run at a time.
      on_batch: takes the number of users of each batch.
    """

    def __init__(
        self,
        functions: Functions,
        max_rows: int,
        wait_seconds: float = 0.0,
        concurrent: int = 1,
        on_batch: Callable[[int], None] = lambda rows: None,
    ):
        self._functions, self._on_batch = functions, on_batch
        self._max_rows, self._wait_seconds, self._concurrent = max_rows, wait_seconds, concurrent
        self._waiting: dict[Any, list[_Call]] = {}
        self._running: dict[Any, int] = {}
        self._changed = threading.Condition()

    def __call__(self, signature: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        call = _Call(inputs)
        if self._max_rows <= call.rows:
            self._on_batch(call.rows)
            return self._functions(signature, inputs)
        key = (signature, *(_fit(name, value) for name, value in inputs.items()))
        with self._changed:
            self._waiting.setdefault(key, []).append(call)
            self._changed.notify_all()
        while not call.done.is_set():
            batch = self._next_batch(key, call)
            if batch:
                self._run(signature, key, batch)
        if call.error is not None:
            raise call.error
        return call.outputs or {}

    def _next_batch(self, key: Any, call: _Call) -> list[_Call]:
        """Waits until `call` is done, or until this thread may run a batch, which is returned."""
        with self._changed:
            while not call.done.is_set():
                waiting = self._waiting.get(key, [])
                if self._running.get(key, 0) < self._concurrent and waiting:
                    self._running[key] = self._running.get(key, 0) + 1
                    break
                self._changed.wait()
            else:
                return []
            until = time.monotonic() + self._wait_seconds
            while _rows(waiting) < self._max_rows and (rest := until - time.monotonic()) > 0:
                self._changed.wait(rest)
            batch: list[_Call] = []
            while waiting and _rows(batch) + waiting[0].rows <= self._max_rows:
                batch.append(waiting.pop(0))
            if not waiting:
                self._waiting.pop(key, None)
            if not batch:  # another thread was faster
                self._finish(key)
            return batch

    def _run(self, signature: str, key: Any, batch: Sequence[_Call]) -> None:
        try:
            outputs = self._functions(signature, _merged([call.inputs for call in batch]))
            _divide(outputs, batch)
        except BaseException as error:
            for call in batch:
                call.error = error
        finally:
            for call in batch:
                call.done.set()
            with self._changed:
                self._finish(key)
            self._on_batch(_rows(batch))

    def _finish(self, key: Any) -> None:
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
        self._changed.notify_all()


def _rows(calls: Sequence[_Call]) -> int:
    return sum(call.rows for call in calls)


def _fit(name: str, value: Any) -> tuple[Any, ...]:
    """Equal for inputs that can be merged: name, type and shape, with lengths up to the next power of two."""
    shape = tuple(value.shape[1:])
    if name.startswith(_PADDED) and shape:
        shape = (int(shape[0]).bit_length(), *shape[1:])
    dtype = value.dtype.as_numpy_dtype if isinstance(value, tf.Tensor) else value.dtype
    return name, np.dtype(dtype).char, shape


def _merged(inputs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    if len(inputs) == 1:
        return inputs[0]
    merged: Arrays = {}
    for name in inputs[0]:
        arrays = [np.asarray(row[name]) for row in inputs]
        if name.startswith(_PADDED) and arrays[0].ndim > 1:
            length = max(array.shape[1] for array in arrays)
            arrays = [
                np.pad(a, [(0, 0), (0, length - a.shape[1])] + [(0, 0)] * (a.ndim - 2))
                if a.shape[1] < length
                else a
                for a in arrays
            ]
        merged[name] = np.concatenate(arrays)
    return merged


def _divide(outputs: Mapping[str, Any], batch: Sequence[_Call]) -> None:
    """Gives every call its rows, and its candidates of the scores."""
    if len(batch) == 1:
        batch[0].outputs = outputs
        return
    arrays = {name: np.asarray(value) for name, value in outputs.items()}
    begin = 0
    for call in batch:
        rows = slice(begin, begin + call.rows)
        begin += call.rows
        call.outputs = {name: array[rows] for name, array in arrays.items()}
