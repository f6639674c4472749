"""The sums of multi-head attention, of a candidate over events, without projecting any event.

(W_q e_a) . (W_k z_j) = (W_k^T W_q e_a) . z_j moves the projection to the candidate, and sum_j a_j
(W_v z_j) = W_v sum_j a_j z_j moves it to the sum, so that an event costs two plain products a head.
"""

import tensorflow as tf

from dgin_tf.ops.fast.shared_events import score_shared_events


def projected_queries(
    query: tf.Tensor, query_kernel: tf.Tensor, key_kernel: tf.Tensor
) -> tf.Tensor:
    """W_k,i^T W_q,i e_a of each head, the queries in the space of the events.

    Args:
      query: e_a, [users, candidates, query_dim].
      query_kernel: [query_dim, heads, key_dim].
      key_kernel: [dim, heads, key_dim].

    Returns:
      [users, candidates, heads, dim].
    """
    # One matrix for all heads; the gradient of one product a head is a hundred times slower.
    both = tf.einsum("qhk,dhk->qhd", query_kernel, key_kernel)
    query_dim, heads, dim = both.shape
    both = tf.reshape(both, [query_dim, heads * dim])
    rows = tf.matmul(tf.reshape(query, [-1, query_dim]), both)
    return tf.reshape(rows, [*tf.unstack(tf.shape(query)[:2]), heads, dim])


def head_scores(queries: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Inner products of projected queries and events.

    Args:
      queries: [users, candidates, heads, dim].
      keys: [users, time, dim], or [users, candidates, time, dim] where each candidate has its own.

    Returns:
      [users, candidates, heads, time].
    """
    if len(keys.shape) == 4:
        return tf.matmul(queries, keys, transpose_b=True)
    users, candidates, heads, dim = tf.unstack(tf.shape(queries))
    # All heads of all candidates are one product with a user's events.
    scores = score_shared_events(tf.reshape(queries, [users, candidates * heads, dim]), keys)
    return tf.reshape(scores, [users, candidates, heads, tf.shape(keys)[1]])


def attend_heads(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Sum over time of weight times value for every head (SIM, Eq. 4).

    Args:
      weights: [users, candidates, heads, time], zero where the event is masked.
      values: [users, time, dim], or [users, candidates, time, dim].

    Returns:
      [users, candidates, heads, dim] in the type of `values`.
    """
    weights = tf.cast(weights, values.dtype)
    if len(values.shape) == 4:
        return tf.matmul(weights, values)
    users, candidates, heads, time = tf.unstack(tf.shape(weights))
    rows = tf.reshape(weights, [users, candidates * heads, time])
    return tf.reshape(tf.matmul(rows, values), [users, candidates, heads, values.shape[-1]])


def mix_heads(heads: tf.Tensor, value_kernel: tf.Tensor, output_kernel: tf.Tensor) -> tf.Tensor:
    """W_V and W_O of the sums of all heads, in one product.

    Args:
      heads: [..., heads, dim].
      value_kernel, output_kernel: [dim, heads, units], the output's transposed.

    Returns:
      [..., dim].
    """
    both = tf.einsum("dhk,ehk->hde", value_kernel, output_kernel)
    count, dim, _ = both.shape
    rows = tf.matmul(tf.reshape(heads, [-1, count * dim]), tf.reshape(both, [count * dim, dim]))
    shape = tf.concat([tf.shape(heads)[:-2], [dim]], axis=0)
    return tf.ensure_shape(tf.reshape(rows, shape), heads.shape[:-2].concatenate(dim))
