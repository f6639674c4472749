"""When XLA is asked to compile a part of a graph, and the functions that it compiles."""

import functools
from collections.abc import Callable, Hashable
from typing import Any

import tensorflow as tf

MIN_XLA_USERS = 16


def is_worth_compiling(values: tf.Tensor) -> bool:
    """Whether values [users, ...] are in a graph of a known number of users, enough of them.

    XLA compiles for each shape anew, which takes a second or more. Batches of known size come from
    prepared data, whose histories have a few lengths; what is exported knows no number of users.
    """
    users = values.shape[0]
    return not tf.executing_eagerly() and users is not None and users >= MIN_XLA_USERS


@functools.cache
def traced(
    function: Callable[..., Any], settings: tuple[Hashable, ...], jit: bool, signature: Hashable
) -> Callable[..., Any]:
    """A graph function, one for each signature: shared, it would warn of retracing.

    Args:
      function: takes the settings, then tensors.
      settings: its first arguments.
      jit: whether XLA compiles it.
      signature: shapes of the tensors.
    """
    del signature
    run = functools.partial(function, *settings)
    return tf.function(run, jit_compile=jit or None, autograph=False)
