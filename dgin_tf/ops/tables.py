"""Reading rows of tables: of those too large to be read whole, and of those with a few rows alone."""

import tensorflow as tf

from dgin_tf.ops.fast.sums import sum_by_row


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


def read_few(table: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """`tf.gather(table, rows)` of a table that has far fewer rows than are asked for.

    The gradient of a gather is a row for every row that was read, for the optimizer to sort by id and
    to add up. Here it is as large as the table.

    Args:
      table: [rows of the table, dim].
      rows: which rows, integers of any shape.

    Returns:
      `rows`' shape + [dim].
    """

    @tf.custom_gradient
    def read(table):
        def gradient(upstream):
            count, dim = table.shape
            # Nothing of it before there is a gradient, or it would be kept until then.
            with tf.control_dependencies([upstream]):
                into = sum_by_row(tf.reshape(upstream, [-1, dim]), tf.reshape(rows, [-1]), count)
            return tf.cast(into, table.dtype)

        return tf.gather(table, rows), gradient

    return read(table)


def _of_this_replica(table: tf.Variable) -> tf.Variable:
    if not isinstance(table, tf.distribute.DistributedValues):
        return table
    try:
        handle = table.handle
    except ValueError:  # outside a replica, where one must do for all
        return table
    copies = tf.distribute.get_strategy().experimental_local_results(table)
    return next((copy for copy in copies if copy.handle is handle), table)
