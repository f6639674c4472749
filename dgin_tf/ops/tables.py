"""Reading rows of tables that are too large to be read whole."""

import tensorflow as tf


def read_rows(table: tf.Variable, rows: tf.Tensor) -> tf.Tensor:
    """`tf.gather(table, rows)` that never reads the rest, under a distribution strategy either.

    A mirrored variable cannot read single rows, so that `tf.gather` of one reads it whole, and such a
    read copies once rows have been scattered into it. The variable of this replica alone can.

    Args:
      table: [rows of the table, ...].
      rows: which rows, integers of any shape.

    Returns:
      The rows, `rows`' shape + the table's other axes; their gradient with respect to the table is
      sparse.
    """
    return tf.gather(_of_this_replica(table), rows)


def _of_this_replica(table: tf.Variable) -> tf.Variable:
    if not isinstance(table, tf.distribute.DistributedValues):
        return table
    try:
        handle = table.handle
    except ValueError:  # outside a replica, where one must do for all
        return table
    copies = tf.distribute.get_strategy().experimental_local_results(table)
    return next((copy for copy in copies if copy.handle is handle), table)
