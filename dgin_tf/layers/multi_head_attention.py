"""Multi-head target attention: each head asks a candidate's own question of the events.

Head i weighs event z_j by softmax_j((W_q,i e_a) . (W_k,i z_j)). SIM (Pi et al., 2020), Eqs. (3), (4),
sums the events themselves and concatenates the heads; everybody after it sums projected events
W_v,i z_j and mixes the heads by W_o, with scores divided by sqrt(key_dim).

No event is ever projected. (W_q e_a) . (W_k z_j) = (W_k^T W_q e_a) . z_j moves the projection to the
candidate, and sum_j a_j (W_v z_j) = W_v sum_j a_j z_j moves it to the sum, so that the cost per
event is that of two plain products a head.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from dgin_tf.ops import masking

_FEW_ROWS = 32


def questions(query: tf.Tensor, query_kernel: tf.Tensor, key_kernel: tf.Tensor) -> tf.Tensor:
    """W_k,i^T W_q,i e_a: what each head compares events with.

    Args:
      query: e_a, [users, candidates, query_dim].
      query_kernel: [query_dim, heads, key_dim].
      key_kernel: [dim, heads, key_dim].

    Returns:
      [users, candidates, heads, dim].
    """
    # One matrix for all heads; the gradient of one product a head is a hundred times slower.
    both = tf.einsum("qhk,dhk->qhd", query_kernel, key_kernel)
    queries, heads, dim = both.shape
    rows = tf.matmul(tf.reshape(query, [-1, queries]), tf.reshape(both, [queries, heads * dim]))
    return tf.reshape(rows, [*tf.unstack(tf.shape(query)[:2]), heads, dim])


def head_scores(asked: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Inner products of what each head asks with the events.

    Args:
      asked: [users, candidates, heads, dim].
      keys: [users, time, dim], or [users, candidates, time, dim] where each candidate has its own.

    Returns:
      [users, candidates, heads, time].
    """
    if len(keys.shape) == 4:
        return tf.matmul(asked, keys, transpose_b=True)
    users, candidates, heads, dim = tf.unstack(tf.shape(asked))
    rows = tf.reshape(asked, [users, candidates * heads, dim])
    scores = _by_event(rows, keys)
    return tf.reshape(scores, [users, candidates, heads, tf.shape(keys)[1]])


def attend_heads(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Eq. (4): sum over time of weight times value, for every head.

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


def read_shared_events(
    asked: tf.Tensor, events: tf.Tensor, mask: tf.Tensor, scale: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """`head_scores`, their softmax and `attend_heads` for events that candidates share, as one.

    Its gradient writes the events' part once: dS^T [asked] and A^T [d heads] are one product of twice
    the depth, where those of the two formulas are written one by one and then added. With hundreds of
    events and few candidates, writing is what these products cost.

    Args:
      asked: [users, candidates, heads, dim].
      events: [users, time, dim], of the same type.
      mask: True where the event is real, bool [users, time].
      scale: what inner products are multiplied by.

    Returns:
      Each head's sum, [users, candidates, heads, dim], and the weights, float32
      [users, candidates, heads, time].
    """

    @tf.custom_gradient
    def read(rows, events):
        scores = _by_event(rows, events)
        dtype = masking.accumulation_dtype(scores.dtype)
        weights = masking.masked_softmax(tf.cast(scores, dtype) * scale, mask[:, tf.newaxis])
        weights_of_events = tf.cast(weights, events.dtype)

        def gradient(into_sums, into_weights):
            into_weights += tf.cast(_by_event(into_sums, events), dtype)
            mean = tf.reduce_sum(weights * into_weights, axis=-1, keepdims=True)
            into_scores = tf.cast(weights * (into_weights - mean) * scale, events.dtype)
            left = tf.concat([into_scores, weights_of_events], axis=1)
            right = tf.concat([rows, into_sums], axis=1)
            return tf.matmul(into_scores, events), tf.matmul(left, right, transpose_a=True)

        return (tf.matmul(weights_of_events, events), weights), gradient

    users, candidates, heads, dim = tf.unstack(tf.shape(asked))
    sums, weights = read(tf.reshape(asked, [users, candidates * heads, asked.shape[-1]]), events)
    sums = tf.reshape(sums, [users, candidates, heads, dim])
    weights = tf.reshape(weights, [users, candidates, heads, tf.shape(events)[1]])
    shape = asked.shape[:-1]
    return (
        tf.ensure_shape(sums, shape.concatenate(asked.shape[-1])),
        tf.ensure_shape(weights, shape.concatenate(events.shape[1])),
    )


def _by_event(rows: tf.Tensor, events: tf.Tensor) -> tf.Tensor:
    """Inner products of [users, rows, dim] and [users, time, dim], [users, rows, time]."""
    count = rows.shape[1]
    if count is None or count > _FEW_ROWS:
        return tf.matmul(rows, events, transpose_b=True)
    # Many events times a few rows, turned, takes half as long as a few rows times many events.
    return tf.transpose(tf.matmul(events, rows, transpose_b=True), [0, 2, 1])


def mix_heads(heads: tf.Tensor, value_kernel: tf.Tensor, output_kernel: tf.Tensor) -> tf.Tensor:
    """W_V and W_O of what each head has summed, as one product for all heads.

    Args:
      heads: [..., heads, dim].
      value_kernel, output_kernel: [dim, heads, units], the output's transposed.

    Returns:
      [..., dim].
    """
    both = tf.einsum("dhk,ehk->hde", value_kernel, output_kernel)
    count, dim, _ = both.shape
    mixed = tf.matmul(tf.reshape(heads, [-1, count * dim]), tf.reshape(both, [count * dim, dim]))
    shape = tf.concat([tf.shape(heads)[:-2], [dim]], axis=0)
    return tf.ensure_shape(tf.reshape(mixed, shape), heads.shape[:-2].concatenate(dim))


@tf.keras.utils.register_keras_serializable("dgin_tf")
class HeadKernels(tf.keras.layers.Layer):
    """One matrix a head, as high as the tensor that it is first called with is wide.

    Args:
      heads: how many.
      units: width of each; None for the tensor's width over the heads, rounded up.
    """

    def __init__(self, heads: int, units: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = heads
        self.units = units
        self._first_rows: Callable[[], tf.Tensor] | None = None

    def start_as(self, other: "HeadKernels", offset: int = 0) -> None:
        """Has the first rows start, once this is built, as those of `other` from `offset` on.

        Args:
          other: kernels that are built; these will be as wide.
          offset: first of the rows to be taken. Rows beyond the last one start as they always do.
        """
        kernel = other.kernel
        self.units = kernel.shape[1] // self.heads
        self._first_rows = lambda: kernel.read_value()[offset:]

    def build(self, input_shape: Any) -> None:
        dim = tf.TensorShape(input_shape)[-1]
        units = -(-dim // self.heads) if self.units is None else self.units
        self.kernel = self.add_weight("kernel", [dim, self.heads * units], initializer=self._start)
        super().build(input_shape)

    def _start(self, shape, dtype=None, **kwargs):
        del kwargs
        drawn = tf.keras.initializers.GlorotUniform()(shape, dtype)
        if self._first_rows is None:
            return drawn
        taken = tf.cast(self._first_rows()[: shape[0]], drawn.dtype)
        return tf.concat([taken, drawn[tf.shape(taken)[0] :]], axis=0)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Kernels [dim, heads, units] for inputs [..., dim], which are looked at for their width."""
        del inputs
        kernel = tf.convert_to_tensor(self.kernel)
        dim, width = kernel.shape
        return tf.reshape(kernel, [dim, self.heads, width // self.heads])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "units": self.units}


@tf.keras.utils.register_keras_serializable("dgin_tf")
class MultiHeadAttention(tf.keras.layers.Layer):
    """Attention of every candidate over events, its own or its user's.

    The papers do not say where training starts from. Here W_k starts as W_q, so that scores start as
    a likeness of candidate and event, the more so the larger the embeddings are. From two independent
    matrices attention over hundreds of events, each with a few thousandths of the weight, did not
    learn to tell a candidate's own event from the others (BUILD_NOTES.md).

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

    Raises:
      ValueError: `heads` is below 1, or `offset` negative.
    """

    def __init__(
        self,
        heads: int = 2,
        key_dim: int | None = None,
        project: bool = True,
        scale: bool = True,
        offset: int = 0,
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

        def kernels(name: str) -> HeadKernels:
            return HeadKernels(heads, key_dim, name=name, dtype=self.dtype_policy)

        self.query_kernels, self.key_kernels = kernels("query"), kernels("key")
        if project:
            # The output's are kept transposed, [dim, heads * units], like the other three.
            self.value_kernels, self.output_kernels = kernels("value"), kernels("output")

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
            asked, scale = self._questions(query, keys)
            heads, weights = read_shared_events(asked, tf.cast(keys, asked.dtype), mask, scale)
            return self._projected(heads, keys), weights
        weights = masking.masked_softmax(self.scores(query, keys), mask[:, :, tf.newaxis])
        return self.read(weights, keys), weights

    def scores(self, query: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """Eq. (3) before its softmax, float32 [users, candidates, heads, time]."""
        asked, scale = self._questions(query, keys)
        scores = head_scores(asked, tf.cast(keys, asked.dtype))
        return tf.cast(scores, masking.accumulation_dtype(scores.dtype)) * scale

    def read(self, weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Sums the events by weights [users, candidates, heads, time]; see `call`."""
        return self._projected(attend_heads(weights, tf.cast(values, self.compute_dtype)), values)

    def _questions(self, query: tf.Tensor, keys: tf.Tensor) -> tuple[tf.Tensor, float]:
        """What each head asks, and what its scores are multiplied by."""
        query_kernels = self.query_kernels(query)
        if not self.key_kernels.built:
            self.key_kernels.start_as(self.query_kernels, self.offset)
        asked = questions(query, query_kernels, self.key_kernels(keys))
        return asked, query_kernels.shape[-1] ** -0.5 if self.scale else 1.0

    def _projected(self, heads: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """The interest, of each head's sum of the values."""
        if not self.project:
            return tf.reshape(
                heads, [*tf.unstack(tf.shape(heads)[:2]), self.heads * heads.shape[-1]]
            )
        return mix_heads(heads, self.value_kernels(values), self.output_kernels(values))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "heads": self.heads,
            "key_dim": self.key_dim,
            "project": self.project,
            "scale": self.scale,
            "offset": self.offset,
        }
