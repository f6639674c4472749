"""Attention of candidates over interest states in DIEN (Zhou et al., 2019).

The paper's attention is bilinear, Eq. (9). The authors' code brings the candidate to the width of the
states and compares the two by DIN's activation unit. Both are called like
`dgin_tf.layers.target_attention.TargetAttention`, so that an encoder takes any of the three.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.activations import ActivationSpec
from dgin_tf.layers.configured import KernelLayer
from dgin_tf.layers.target_attention import ActivationUnit, QueryProjection, TargetAttention
from dgin_tf.ops import masking


class BilinearAttention(KernelLayer):
    """a_t = softmax over t of h_t W e_a, Eq. (9), over real events only.

    Args:
      units: width of the states.
      softmax: whether the weights are normalized over time; the plain products otherwise.
      kernel_initializer, kernel_regularizer: of W, [units, query_dim].

    Example:

      >>> layer = BilinearAttention(units=4)
      >>> layer(tf.random.normal([2, 3, 6]), tf.random.normal([2, 5, 4])).shape
      TensorShape([2, 3, 5])
    """

    def __init__(
        self,
        units: int,
        softmax: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.softmax = softmax

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_kernel("kernel", [self.units, tf.TensorShape(input_shape)[-1]])
        super().build(input_shape)

    def call(
        self,
        query: tf.Tensor,
        keys: tf.Tensor,
        mask: tf.Tensor | None = None,
        query_mask: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        """Attention of every candidate over its user's states.

        Args:
          query: candidates e_a, [users, candidates, query_dim].
          keys: states h_t, [users, time, units].
          mask: True where the event is real, bool [users, time]; None where all are.
          query_mask, training: unused; they belong to attentions with batch statistics.

        Returns:
          Weights [users, candidates, time] in float32, exactly zero where the event is masked; they
          sum to one over time, or to zero for an empty history.
        """
        mask = tf.ones(tf.shape(keys)[:2], tf.bool) if mask is None else mask
        mask = mask[:, tf.newaxis]  # [users, 1, time]
        # W e_a first, [users, candidates, units]: once per candidate instead of once per event.
        projected_query = tf.tensordot(query, self.kernel, [[-1], [1]])
        # [users, candidates, units] x [users, time, units]^T
        scores = tf.matmul(projected_query, tf.cast(keys, query.dtype), transpose_b=True)
        scores = tf.cast(scores, masking.accumulation_dtype(scores.dtype))
        if self.softmax:
            return masking.masked_softmax(scores, mask)
        return tf.where(mask, scores, tf.zeros([], scores.dtype))


class ProjectedAttention(KernelLayer):
    """DIN's activation unit on the projected candidate and every state (`din_fcn_attention`).

    Args:
      units: width of the states.
      hidden_units: widths of the activation unit's hidden layers.
      activation: of those layers, see `make_activation`.
      softmax: whether the weights are normalized over time.
      kernel_initializer, kernel_regularizer: of all dense layers.

    Example:

      >>> layer = ProjectedAttention(units=4)
      >>> layer(tf.random.normal([2, 3, 6]), tf.random.normal([2, 5, 4])).shape
      TensorShape([2, 3, 5])
    """

    def __init__(
        self,
        units: int,
        hidden_units: Sequence[int] = (80, 40),
        activation: ActivationSpec = "sigmoid",
        softmax: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.hidden_units = tuple(hidden_units)
        self.activation = activation
        self.softmax = softmax
        policy = self.dtype_policy
        self.projection = QueryProjection(
            units, name="projection", dtype=policy, **self.kernel_config
        )
        unit = ActivationUnit(
            self.hidden_units, activation, name="unit", dtype=policy, **self.kernel_config
        )
        self.attention = TargetAttention(unit, softmax=softmax, name="attention", dtype=policy)

    def call(
        self,
        query: tf.Tensor,
        keys: tf.Tensor,
        mask: tf.Tensor | None = None,
        query_mask: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        """Attention of every candidate over its user's states; see `TargetAttention.call`."""
        return self.attention(self.projection(query), keys, mask, query_mask, training=training)
