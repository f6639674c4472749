"""The one rule for XLA: which parts of a graph it compiles, and what changes where it compiles none.

`should_compile` is the rule, for every loop and every function that may be compiled by itself.

By default all operations of this package can be compiled as a whole, by whoever wraps a model in
`tf.function(jit_compile=True)`. A training step that is not compiled as a whole can do better: sums
by class and by row of a table are then products with sparse matrices, which XLA does not know and of
which no term is written to memory (`ops.tables`, `ops.class_attention`; DGIN's sums take 15 CPU ms
where matrix products and histograms take 72). `CTRModel.train_step` alone says so, by `leaving_xla`
around the step that it traces. The fact travels in a context variable, since it concerns three
operations deep below layers that have nothing to do with it; `graph_function` hands it on to the
functions that are traced within.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import tensorflow as tf

MIN_XLA_ROWS = 16

_LEAVES_XLA = contextvars.ContextVar("_LEAVES_XLA", default=False)


def should_compile(rows: int | None, training: bool = False) -> bool:
    """The rule: a graph is being traced, and its rows are at least `MIN_XLA_ROWS`.

    XLA compiles for each shape anew, which takes a second or more. Batches of prepared data have a
    known number of users and a few lengths of histories, so that the length may be open. An exported
    function has an unknown number of users and must not compile for each; a training step has it under
    a distribution strategy, whose batches are as regular as any.

    Args:
      rows: users, or users times candidates, None where unknown: leading axes of a static shape.
      training: whether an unknown number of rows is one of few.
    """
    if tf.executing_eagerly():
        return False
    return training if rows is None else rows >= MIN_XLA_ROWS


@contextlib.contextmanager
def leaving_xla(leaves: bool = True) -> Iterator[None]:
    """Marks what is traced within as not compiled as a whole; see the module.

    Args:
      leaves: False takes it back.
    """
    token = _LEAVES_XLA.set(leaves)
    try:
        yield
    finally:
        _LEAVES_XLA.reset(token)


def leaves_xla() -> bool:
    """True within `leaving_xla`: operations that XLA does not know may be used."""
    return _LEAVES_XLA.get()


def graph_function(
    function: Callable[..., Any], settings: tuple[Hashable, ...], jit: bool, signature: Hashable
) -> Callable[..., Any]:
    """A `tf.function`, the same one for the same arguments, so that nothing is traced twice.

    One for each signature: TensorFlow warns of retracing where a function meets many.

    Args:
      function: takes the settings, then tensors.
      settings: its first arguments.
      jit: whether XLA compiles it.
      signature: shapes of the tensors.
    """
    return _graph_function(function, settings, jit, signature, leaves_xla() and not jit)


@functools.cache
def _graph_function(function, settings, jit, signature, leaves):
    # `signature` tells the cached functions apart. A partial has no code of its own, by which TensorFlow
    # would count the tracings of all of them together and warn of them.
    call = functools.partial(_call, function, settings, leaves)
    return tf.function(call, jit_compile=jit or None, autograph=False)


def _call(function, settings, leaves, *tensors):
    with leaving_xla(leaves):
        return function(*settings, *tensors)
