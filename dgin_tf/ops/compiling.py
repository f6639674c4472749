"""When XLA is asked to compile a part of a graph."""

import tensorflow as tf

MIN_XLA_USERS = 16


def is_worth_compiling(values: tf.Tensor) -> bool:
    """Whether values [users, ...] are of static shape, in a graph, and of enough users.

    XLA compiles for each shape anew, which takes a second or more.
    """
    static = values.shape.is_fully_defined() and not tf.executing_eagerly()
    return static and values.shape[0] >= MIN_XLA_USERS
