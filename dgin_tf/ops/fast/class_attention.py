"""Self-attention within many small sets whose members are of a few classes, such as ages in buckets.

Scores and values of members depend on their classes alone. All scores are therefore one small table, and
what is left to do for a pair of members is to look up a number a head; members are embedded for their
sum alone, and the gradient goes to the table without being written member by member. Its reference is
`ops.self_attention` on `table[classes]`; a training step of DGIN over lifelong histories takes 1,325 CPU
ms where it took 2,592 (AMD EPYC; BUILD_NOTES.md).
"""

import tensorflow as tf

from dgin_tf.ops.compiling import leaves_xla
from dgin_tf.ops.fast.sums import sum_by_row, sum_weighted_slices
from dgin_tf.ops.masking import accumulation_dtype

_PARTS = 2  # of the columns, when gradients of members are summed


def mean_weights(scores: tf.Tensor, classes: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The mean over the real members i of a set of softmax_j(scores[c_j, c_i]), for every head.

    Args:
      scores: of keys of the first class for queries of the second, [classes, classes, heads], float32
        or float64.
      classes: the members' classes, int32 [sets, time].
      mask: True where there is a member, bool [sets, time].

    Returns:
      [sets, time, heads], in the type of `scores`; zero where masked, and in sets without members.
    """
    # Padding is a class of its own, whose score is lowest for every query.
    lowest = scores.dtype.min / 2
    scores = tf.pad(scores, [[0, 1], [0, 1], [0, 0]], constant_values=lowest)
    count, _, heads = scores.shape
    classes = tf.where(mask, classes, count - 1)
    is_member = tf.cast(mask, scores.dtype)
    members = tf.maximum(tf.reduce_sum(is_member, axis=1, keepdims=True), 1.0)
    time = classes.shape[1] or tf.shape(classes)[1]
    # Some of the queries i after the others: arrays of pairs are large, and gone before the next part.
    widths = [time] if classes.shape[1] is None else _even_parts(time)
    query_parts = list(
        zip(widths, tf.split(classes, widths, 1), tf.split(is_member, widths, 1), strict=True)
    )

    def pairs_with(queries):
        return classes[:, :, tf.newaxis] * count + queries[:, tf.newaxis]  # [sets, j, i]

    def of_head(width):
        # Sums over i, and copies of a row of j for every i, as products: [width * heads, heads].
        return tf.tile(tf.eye(heads, dtype=scores.dtype), [width, 1])

    @tf.custom_gradient
    def mean(scores):
        weights_of_parts: list[tf.Tensor] = []
        means: list[tf.Tensor] = []
        for width, queries, is_query in query_parts:
            with tf.control_dependencies(means):
                pairs = tf.gather(tf.reshape(scores, [count * count, heads]), pairs_with(queries))
            pairs = tf.reshape(pairs, [-1, time, width * heads])
            pairs = tf.exp(pairs - tf.reduce_max(pairs, axis=1, keepdims=True))
            # A softmax over j, and the share of query i in the mean, which is none for padding.
            share = tf.repeat(is_query / members, heads, axis=1) / tf.reduce_sum(pairs, axis=1)
            weights = pairs * share[:, tf.newaxis]
            part = tf.matmul(tf.reshape(weights, [-1, width * heads]), of_head(width))
            weights_of_parts.append(weights)
            means.append(part)

        def gradient(upstream):
            sums: list[tf.Tensor] = []
            for (width, queries, _), weights in zip(query_parts, weights_of_parts, strict=True):
                with tf.control_dependencies([upstream, *sums]):
                    rows = tf.reshape(pairs_with(queries), [-1])
                    into = tf.matmul(
                        tf.reshape(upstream, [-1, heads]), of_head(width), transpose_b=True
                    )
                into = weights * tf.reshape(into, [-1, time, width * heads])
                total = tf.reduce_sum(into, axis=1, keepdims=True) * members[:, tf.newaxis]
                into = tf.reshape(into - weights * total, [-1, heads])
                sums.append(sum_by_row(into, rows, count * count))
            return tf.reshape(tf.add_n(sums), [count, count, heads])

        return tf.reshape(tf.add_n(means), [-1, time, heads]), gradient

    return mean(scores)


def weighted_sums(weights: tf.Tensor, classes: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """sum_j weights[j] table[c_j], for every head.

    Args:
      weights: [sets, time, heads]; zero where there is no member.
      classes: int32 [sets, time].
      table: a member of each class, [classes, dim], of the type of the weights.

    Returns:
      [sets, heads, dim].
    """

    # Some columns after the others: arrays of members are large, and gone before the next part.
    widths = _even_parts(table.shape[-1])
    is_one_product = leaves_xla() and not tf.config.get_visible_devices("GPU")

    @tf.custom_gradient
    def sums(weights, table):
        parts: list[tf.Tensor] = []
        for rows in tf.split(table, widths, axis=-1):
            with tf.control_dependencies(parts):
                parts.append(tf.matmul(weights, tf.gather(rows, classes), transpose_a=True))

        def gradient(upstream):
            members = tf.reshape(classes, [-1])
            into_weights = tf.zeros_like(weights)
            into_table: list[tf.Tensor] = []
            columns = (tf.split(part, widths, axis=-1) for part in (table, upstream))
            for rows, into in zip(*columns, strict=True):
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

        return tf.concat(parts, axis=-1), gradient

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
