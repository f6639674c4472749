"""Maximum inner product search by asymmetric hashing (Shrivastava and Li, NeurIPS 2014, UAI 2015).

Locality-sensitive hashes find near vectors, and the event of the highest inner product with a query
need not be near it. Two different transforms make it so: with |x| <= U < 1, |q| = 1 and

    P(x) = [x; |x|^2; |x|^4; ...; |x|^(2^m)],    Q(q) = [q; 1/2; ...; 1/2],

|Q(q) - P(x)|^2 = 1 + m/4 - 2 q.x + |x|^(2^(m+1)), whose last term vanishes, so that the nearest P(x)
belongs to the highest q.x.
"""

import tensorflow as tf


def scaled(vectors: tf.Tensor, mask: tf.Tensor, bound: float) -> tf.Tensor:
    """Vectors of each user times one factor, so that the longest real one is `bound` long.

    Args:
      vectors: [users, time, dim].
      mask: True where the event is real, bool [users, time].
      bound: U.
    """
    norms = tf.where(mask, tf.norm(vectors, axis=-1), tf.zeros([], vectors.dtype))
    longest = tf.reduce_max(tf.pad(norms, [[0, 0], [0, 1]]), axis=1)[:, tf.newaxis, tf.newaxis]
    return tf.math.divide_no_nan(vectors, longest) * bound


def normalized(queries: tf.Tensor) -> tf.Tensor:
    """Queries [..., dim] of length one, which ranks as before; zero stays zero."""
    return tf.math.divide_no_nan(queries, tf.norm(queries, axis=-1, keepdims=True))


def norm_powers(vectors: tf.Tensor, order: int) -> tf.Tensor:
    """|x|^2, |x|^4, ..., |x|^(2^order) of vectors [..., dim], [..., order]."""
    powers = [tf.reduce_sum(tf.square(vectors), axis=-1, keepdims=True)]
    for _ in range(order - 1):
        powers.append(tf.square(powers[-1]))
    return tf.concat(powers, axis=-1)


def l2_data(vectors: tf.Tensor, order: int = 3) -> tf.Tensor:
    """P(x) of vectors no longer than U, [..., dim + order]."""
    return tf.concat([vectors, norm_powers(vectors, order)], axis=-1)


def l2_query(queries: tf.Tensor, order: int = 3) -> tf.Tensor:
    """Q(q) of queries of length one, [..., dim + order]."""
    halves = tf.fill([*tf.unstack(tf.shape(queries)[:-1]), order], tf.cast(0.5, queries.dtype))
    return tf.concat([queries, halves], axis=-1)


def sign_data(vectors: tf.Tensor, order: int = 2) -> tf.Tensor:
    """P(x) of sign-ALSH: [x; 1/2 - |x|^2; ...; 1/2 - |x|^(2^order)]."""
    return tf.concat([vectors, 0.5 - norm_powers(vectors, order)], axis=-1)


def sign_query(queries: tf.Tensor, order: int = 2) -> tf.Tensor:
    """Q(q) of sign-ALSH: [q; 0; ...; 0]."""
    zeros = tf.zeros([*tf.unstack(tf.shape(queries)[:-1]), order], queries.dtype)
    return tf.concat([queries, zeros], axis=-1)


def l2_hashes(
    vectors: tf.Tensor, projections: tf.Tensor, offsets: tf.Tensor, width: float
) -> tf.Tensor:
    """h(v) = floor((a.v + b) / r), int32 [..., hashes].

    Args:
      vectors: P(x) or Q(q), [..., dim].
      projections: columns a ~ N(0, I), [dim, hashes].
      offsets: b ~ U[0, r], [hashes].
      width: r.
    """
    projected_vectors = tf.tensordot(vectors, projections, 1) + offsets
    return tf.cast(tf.floor(projected_vectors / width), tf.int32)


def sign_hashes(vectors: tf.Tensor, projections: tf.Tensor) -> tf.Tensor:
    """1 where a.v is positive, int32 [..., hashes]."""
    return tf.cast(tf.tensordot(vectors, projections, 1) > 0, tf.int32)


def table_codes(hashes: tf.Tensor, tables: int) -> tf.Tensor:
    """One number for the hashes of each table: equal where all of them are equal.

    Unequal ones share a number about once in 2^32 cases, which costs a useless look at an event.

    Args:
      hashes: int32 [..., tables * hashes per table].
      tables: how many.

    Returns:
      int32 [..., tables], below the highest number.
    """
    shape = [*tf.unstack(tf.shape(hashes)[:-1]), tables, hashes.shape[-1] // tables]
    hashes, code = tf.reshape(hashes, shape), 0
    for column in range(hashes.shape[-1]):
        code = code * 1_000_003 + hashes[..., column]  # wraps around
    return tf.minimum(code, tf.int32.max - 1)
