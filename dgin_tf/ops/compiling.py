"""When XLA is asked to compile a part of a graph, and the functions that it compiles."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import tensorflow as tf

MIN_XLA_USERS = 16

_LEAVES_XLA = contextvars.ContextVar("_LEAVES_XLA", default=False)


def is_worth_compiling(values: tf.Tensor) -> bool:
    """Whether values [users, ...] are in a graph of a known number of users, enough of them.

    XLA compiles for each shape anew, which takes a second or more. Batches of known size come from
    prepared data, whose histories have a few lengths; what is exported knows no number of users.
    """
    users = values.shape[0]
    return not tf.executing_eagerly() and users is not None and users >= MIN_XLA_USERS


@contextlib.contextmanager
def leaving_xla(leaves: bool = True) -> Iterator[None]:
    """Says that no more than parts of what is traced within are compiled.

    By default everything here can be compiled as a whole, by whoever wraps it in a function. Within,
    faster operations that XLA does not know may take the place of others.

    Args:
      leaves: False takes it back.
    """
    token = _LEAVES_XLA.set(leaves)
    try:
        yield
    finally:
        _LEAVES_XLA.reset(token)


def leaves_xla() -> bool:
    """Whether operations that XLA does not know may be used; see `leaving_xla`."""
    return _LEAVES_XLA.get()


def traced(
    function: Callable[..., Any], settings: tuple[Hashable, ...], jit: bool, signature: Hashable
) -> Callable[..., Any]:
    """A graph function, the same for the same arguments; shared by signatures it would warn of retracing.

    Args:
      function: takes the settings, then tensors.
      settings: its first arguments.
      jit: whether XLA compiles it.
      signature: shapes of the tensors.
    """
    return _traced(function, settings, jit, signature, leaves_xla() and not jit)


@functools.cache
def _traced(function, settings, jit, signature, leaves):
    del signature

    def run(*tensors):
        with leaving_xla(leaves):
            return function(*settings, *tensors)

    return tf.function(run, jit_compile=jit or None, autograph=False)
