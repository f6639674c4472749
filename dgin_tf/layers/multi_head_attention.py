"""Multi-head target attention: each head compares a candidate with the events in a space of its own.

Head i weighs event z_j by softmax_j((W_q,i e_a) . (W_k,i z_j)). SIM (Pi et al., 2020), Eqs. (3), (4),
sums the events themselves and concatenates the heads; everybody after it sums projected events
W_v,i z_j and mixes the heads by W_o, with scores divided by sqrt(key_dim).
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import KernelLayer
from dgin_tf.ops import masking
from dgin_tf.ops.fast.shared_events import read_shared_events
from dgin_tf.ops.multi_head import attend_heads, head_scores, mix_heads, projected_queries


def head_kernel(kernel: tf.Variable, heads: int, dtype: tf.DType | str) -> tf.Tensor:
    """A weight [dim, heads * units] as one matrix a head, [dim, heads, units]."""
    dim, width = kernel.shape
    return tf.reshape(tf.cast(kernel, dtype), [dim, heads, width // heads])


class MultiHeadAttention(KernelLayer):
    """Attention of every candidate over events, its own or its user's.

    Scores start as a similarity, see `KernelLayer.add_kernel`; the papers do not say where
    training starts from.

    `scores` and `read` are its two halves, for models that choose events between them.

    Args:
      heads: how many.
      key_dim: width of each head's comparison; None for the query's width over the heads, rounded
        up.
      project: whether values are projected by W_v and heads mixed by W_o, which ends in the width of
        an event. Without, heads are sums of the events themselves, side by side (SIM, Eq. 4).
      scale: whether scores are divided by sqrt(key_dim); SIM's Eq. (3) has none.
      offset: the query's column that an event's first column corresponds to: with a candidate of
        item and category and groups that have the category alone, that of the category.
      similar_start: whether W_k starts as W_q, so that scores start as a similarity; independent of it
        otherwise, as in LongCTR's code.
      kernel_initializer, kernel_regularizer: of all four kernels.

    Raises:
      ValueError: `heads` is below 1, or `offset` negative.

    Example:

      >>> layer = MultiHeadAttention(heads=2)
      >>> events, mask = tf.random.normal([2, 5, 8]), tf.ones([2, 5], tf.bool)
      >>> interest, weights = layer(tf.random.normal([2, 3, 8]), events, mask)
      >>> interest.shape, weights.shape
      (TensorShape([2, 3, 8]), TensorShape([2, 3, 2, 5]))
    """

    def __init__(
        self,
        heads: int = 2,
        key_dim: int | None = None,
        project: bool = True,
        scale: bool = True,
        offset: int = 0,
        similar_start: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if heads < 1:
            raise ValueError(f"heads must be at least 1; got {heads}.")
        if offset < 0:
            raise ValueError(f"offset must be at least 0; got {offset}.")
        self.heads = heads
        self.key_dim = key_dim
        self.project = project
        self.scale = scale
        self.offset = offset
        self.similar_start = similar_start
        self.query_kernel: tf.Variable | None = None
        self.value_kernel: tf.Variable | None = None

    def call(
        self, query: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads the events.

        Args:
          query: candidates e_a, [users, candidates, query_dim].
          keys: events, [users, time, dim], or [users, candidates, time, dim].
          mask: True where the event is real, bool [users, time] or [users, candidates, time].

        Returns:
          The interest, [users, candidates, dim], or [users, candidates, heads * dim] where not
          projected; and the weights in float32, [users, candidates, heads, time], exactly zero where
          masked. Where nothing is real both are zero.
        """
        if len(keys.shape) == 3:
            queries, scale = self._projected_queries(query, keys)
            events = tf.cast(keys, queries.dtype)
            heads, weights = read_shared_events(queries, events, mask, scale)
            return self._mix(heads), weights
        weights = masking.masked_softmax(self.scores(query, keys), mask[:, :, tf.newaxis])
        return self.read(weights, keys), weights

    def scores(self, query: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """SIM's Eq. (3) before its softmax, float32 [users, candidates, heads, time]."""
        queries, scale = self._projected_queries(query, keys)
        scores = head_scores(queries, tf.cast(keys, queries.dtype))
        return tf.cast(scores, masking.accumulation_dtype(scores.dtype)) * scale

    def read(self, weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Sums the events by weights [users, candidates, heads, time]; see `call`."""
        return self._mix(attend_heads(weights, tf.cast(values, self.compute_dtype)))

    def _projected_queries(self, query: tf.Tensor, keys: tf.Tensor) -> tuple[tf.Tensor, float]:
        """Queries of all heads in the space of the keys, and what scores are multiplied by."""
        self._create_query_kernels(query.shape[-1], keys.shape[-1])
        query_kernel, key_kernel = (
            head_kernel(kernel, self.heads, self.compute_dtype)
            for kernel in (self.query_kernel, self.key_kernel)
        )
        query = tf.cast(query, self.compute_dtype)
        queries = projected_queries(query, query_kernel, key_kernel)
        return queries, query_kernel.shape[-1] ** -0.5 if self.scale else 1.0

    def _mix(self, heads: tf.Tensor) -> tf.Tensor:
        """The interest, of each head's sum of the events, [users, candidates, heads, dim]."""
        if not self.project:
            users, candidates = tf.unstack(tf.shape(heads)[:2])
            return tf.reshape(heads, [users, candidates, self.heads * heads.shape[-1]])
        self._create_value_kernels(heads.shape[-1])
        value_kernel, output_kernel = (
            head_kernel(kernel, self.heads, heads.dtype)
            for kernel in (self.value_kernel, self.output_kernel)
        )
        return mix_heads(heads, value_kernel, output_kernel)

    # Weights are created when candidates and events first come, as in Keras' own attention: `build` is
    # told the width of the first argument alone.

    def _create_query_kernels(self, query_dim: int, dim: int) -> None:
        if self.query_kernel is not None:
            return
        width = self.heads * (self.key_dim or -(-query_dim // self.heads))
        with tf.init_scope():
            self.query_kernel = self.add_kernel("query_kernel", [query_dim, width])
            rows = self.query_kernel[self.offset :] if self.similar_start else None
            self.key_kernel = self.add_kernel("key_kernel", [dim, width], similar_to=rows)

    def _create_value_kernels(self, dim: int) -> None:
        if self.value_kernel is not None:
            return
        width = self.heads * (self.key_dim or -(-dim // self.heads))
        with tf.init_scope():
            self.value_kernel = self.add_kernel("value_kernel", [dim, width])
            # The output's is kept transposed, like the other three.
            self.output_kernel = self.add_kernel("output_kernel", [dim, width])
