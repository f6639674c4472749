"""Self-attention within many small sets whose members are of a few classes, such as ages in buckets.

What a member asks of another, and what it says, depends on the classes of both alone. All answers are
therefore one small table, and what is left to do for a pair of members is to look up a number a head;
members are embedded for their sum alone, and the gradient goes to the table without being written
member by member.
"""

import tensorflow as tf

from dgin_tf.ops.compiling import leaves_xla
from dgin_tf.ops.fast.sums import sum_by_row, sum_weighted_slices
from dgin_tf.ops.masking import accumulation_dtype

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
    # Some of the members i after the others: what is of a pair is large, and soon gone.
    widths = [time] if classes.shape[1] is None else _even_parts(time)
    askers = list(zip(widths, tf.split(classes, widths, 1), tf.split(asks, widths, 1), strict=True))

    def pairs_with(asker):
        return classes[:, :, tf.newaxis] * count + asker[:, tf.newaxis]  # [sets, j, i]

    def of_head(width):
        # Sums over i, and what is of j alone for every i, as products: [width * heads, heads].
        return tf.tile(tf.eye(heads, dtype=scores.dtype), [width, 1])

    @tf.custom_gradient
    def mean(padded):
        kept: list[tf.Tensor] = []
        means: list[tf.Tensor] = []
        for width, asker, asks in askers:
            with tf.control_dependencies(means):
                found = tf.gather(tf.reshape(padded, [count * count, heads]), pairs_with(asker))
            found = tf.reshape(found, [-1, time, width * heads])
            found = tf.exp(found - tf.reduce_max(found, axis=1, keepdims=True))
            # Padding asks in vain, and takes no share from those who do not.
            share = tf.repeat(asks / members, heads, axis=1) / tf.reduce_sum(found, axis=1)
            weights = found * share[:, tf.newaxis]
            of_part = tf.matmul(tf.reshape(weights, [-1, width * heads]), of_head(width))
            kept.append(weights)
            means.append(of_part)

        def gradient(upstream):
            summed: list[tf.Tensor] = []
            for (width, asker, _), weights in zip(askers, kept, strict=True):
                with tf.control_dependencies([upstream, *summed]):
                    pairs = pairs_with(asker)
                    asked = tf.matmul(
                        tf.reshape(upstream, [-1, heads]), of_head(width), transpose_b=True
                    )
                into = weights * tf.reshape(asked, [-1, time, width * heads])
                given = tf.reduce_sum(into, axis=1, keepdims=True) * members[:, tf.newaxis]
                into = tf.reshape(into - weights * given, [-1, heads])
                summed.append(sum_by_row(into, tf.reshape(pairs, [-1]), count * count))
            return tf.reshape(tf.add_n(summed), [count, count, heads])

        return tf.reshape(tf.add_n(means), [-1, time, heads]), gradient

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

    # Some columns after the others: what is of a member, not of a set, is large and soon gone.
    widths = _even_parts(table.shape[-1])
    is_one_product = leaves_xla() and not tf.config.get_visible_devices("GPU")

    @tf.custom_gradient
    def sums(weights, table):
        found: list[tf.Tensor] = []
        for rows in tf.split(table, widths, axis=-1):
            with tf.control_dependencies(found):
                found.append(tf.matmul(weights, tf.gather(rows, classes), transpose_a=True))

        def gradient(upstream):
            members = tf.reshape(classes, [-1])
            into_weights = tf.zeros_like(weights)
            into_table: list[tf.Tensor] = []
            for rows, into in zip(
                tf.split(table, widths, axis=-1), tf.split(upstream, widths, axis=-1), strict=True
            ):
                with tf.control_dependencies([into, into_weights, *into_table]):
                    events = tf.gather(rows, classes)
                    into_weights += tf.matmul(events, into, transpose_b=True)
                    if not is_one_product:
                        into_rows = tf.reshape(tf.matmul(weights, into), [-1, rows.shape[-1]])
                        into_table.append(sum_by_row(into_rows, members, table.shape[0]))
            if is_one_product:
                with tf.control_dependencies([into_weights]):
                    into_table.append(_sum_by_class(weights, classes, upstream, table.shape[0]))
            return into_weights, tf.cast(tf.concat(into_table, axis=-1), table.dtype)

        return tf.concat(found, axis=-1), gradient

    return sums(weights, table)


def _sum_by_class(weights: tf.Tensor, classes: tf.Tensor, sums: tf.Tensor, count: int) -> tf.Tensor:
    """The sum over members and heads of weights * sums, for every class, [classes, dim].

    In float32, or in float64 where weights are.
    """
    (heads, dim), dtype = sums.shape[1:], accumulation_dtype(weights.dtype)
    sums = tf.reshape(tf.cast(sums, dtype), [-1, dim])
    weights = tf.cast(weights, dtype)
    of_head = tf.reshape(tf.range(tf.shape(sums)[0]), [-1, 1, heads])
    places = tf.reshape(tf.broadcast_to(of_head, tf.shape(weights)), [-1])
    rows = tf.repeat(tf.reshape(classes, [-1]), heads)
    return sum_weighted_slices(sums, places, tf.reshape(weights, [-1]), rows, tf.constant(count))


def _even_parts(width: int) -> list[int]:
    """A width as a sum of at most `_PARTS` widths, as equal as they can be."""
    parts = [width // _PARTS + (part < width % _PARTS) for part in range(_PARTS)]
    return [part for part in parts if part]
