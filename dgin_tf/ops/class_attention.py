"""Self-attention within many small sets whose members are of a few classes, such as ages in buckets.

What a member asks of another, and what it says, depends on the classes of both alone. All answers are
therefore one small table, and what is left to do for a pair of members is to look up a number a head;
members are embedded for their sum alone, and the gradient goes to the table without being written
member by member.
"""

import tensorflow as tf

from dgin_tf.ops.tables import sum_by_row

_PARTS = 2  # of the columns, when gradients of members are summed


def mean_weights(scores: tf.Tensor, classes: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The mean over the real members i of a set of softmax_j(scores[c_j, c_i]), for every head.

    Args:
      scores: what a member of the second class gives to one of the first, [classes, classes, heads],
        float32 or float64.
      classes: the members' classes, int32 [sets, time].
      mask: True where there is a member, bool [sets, time].

    Returns:
      [sets, time, heads], in the type of `scores`; zero where masked, and in sets without members.
    """
    # Padding is a class of its own, to which nobody gives anything.
    nobody = scores.dtype.min / 2
    padded = tf.pad(scores, [[0, 1], [0, 1], [0, 0]], constant_values=nobody)
    count, _, heads = padded.shape
    classes = tf.where(mask, classes, count - 1)
    asks = tf.cast(mask, scores.dtype)
    members = tf.maximum(tf.reduce_sum(asks, axis=1, keepdims=True), 1.0)
    time = classes.shape[1] or tf.shape(classes)[1]
    pairs = classes[:, :, tf.newaxis] * count + classes[:, tf.newaxis]  # [sets, j, i]
    # Sums over i, and what is of j alone for every i, as products: [time * heads, heads].
    of_head = tf.tile(tf.eye(heads, dtype=scores.dtype), [time, 1])

    @tf.custom_gradient
    def mean(padded):
        found = tf.gather(tf.reshape(padded, [count * count, heads]), pairs)
        found = tf.reshape(found, [-1, time, time * heads])
        found = tf.exp(found - tf.reduce_max(found, axis=1, keepdims=True))
        # Padding asks in vain, and takes no share from those who do not.
        share = tf.repeat(asks / members, heads, axis=1) / tf.reduce_sum(found, axis=1)
        weights = found * share[:, tf.newaxis]

        def gradient(upstream):
            asked = tf.matmul(tf.reshape(upstream, [-1, heads]), of_head, transpose_b=True)
            into = weights * tf.reshape(asked, [-1, time, time * heads])
            given = tf.reduce_sum(into, axis=1, keepdims=True) * members[:, tf.newaxis]
            into -= weights * given
            into = sum_by_row(tf.reshape(into, [-1, heads]), tf.reshape(pairs, [-1]), count * count)
            return tf.reshape(into, [count, count, heads])

        means = tf.matmul(tf.reshape(weights, [-1, time * heads]), of_head)
        return tf.reshape(means, [-1, time, heads]), gradient

    return mean(padded)


def weighted_sums(weights: tf.Tensor, classes: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """sum_j weights[j] table[c_j], for every head.

    Args:
      weights: [sets, time, heads]; zero where there is no member.
      classes: int32 [sets, time].
      table: what members of each class say, [classes, dim], of the type of the weights.

    Returns:
      [sets, heads, dim].
    """

    @tf.custom_gradient
    def sums(weights, table):
        def gradient(upstream):
            widths, members = _even_parts(table.shape[-1]), tf.reshape(classes, [-1])
            into_weights = tf.zeros_like(weights)
            into_table: list[tf.Tensor] = []
            # Some columns after the others: what is of a member, not of a set, is large and soon gone.
            for rows, into in zip(
                tf.split(table, widths, axis=-1), tf.split(upstream, widths, axis=-1), strict=True
            ):
                with tf.control_dependencies([into, into_weights, *into_table]):
                    found = tf.gather(rows, classes)
                    into_weights += tf.matmul(found, into, transpose_b=True)
                    into_rows = tf.reshape(tf.matmul(weights, into), [-1, rows.shape[-1]])
                    into_table.append(sum_by_row(into_rows, members, table.shape[0]))
            return into_weights, tf.cast(tf.concat(into_table, axis=-1), table.dtype)

        return tf.matmul(weights, tf.gather(table, classes), transpose_a=True), gradient

    return sums(weights, table)


def _even_parts(width: int) -> list[int]:
    """A width as a sum of at most `_PARTS` widths, as equal as they can be."""
    parts = [width // _PARTS + (part < width % _PARTS) for part in range(_PARTS)]
    return [part for part in parts if part]
