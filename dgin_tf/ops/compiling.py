"""When XLA is asked to compile a part of a graph."""

import tensorflow as tf

MIN_XLA_USERS = 16


def is_worth_compiling(values: tf.Tensor) -> bool:
    """Whether values [users, ...] are in a graph of a known number of users, enough of them.

    XLA compiles for each shape anew, which takes a second or more. Batches of known size come from
    prepared data, whose histories have a few lengths; what is exported knows no number of users.
    """
    users = values.shape[0]
    return not tf.executing_eagerly() and users is not None and users >= MIN_XLA_USERS
