"""How much an interest state speaks for a candidate, in DIEN (Zhou et al., 2019).

The paper's attention is bilinear, Eq. (9). The released code brings the candidate to the width of
the states and compares the two by DIN's activation unit. Both are called like
`dgin_tf.layers.target_attention.TargetAttention`, so that an encoder takes any of the three.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.activations import ActivationSpec, activation_config
from dgin_tf.layers.target_attention import ActivationUnit, QueryProjection, TargetAttention
from dgin_tf.ops import masking


@tf.keras.utils.register_keras_serializable("dgin_tf")
class BilinearAttention(tf.keras.layers.Layer):
    """a_t = softmax over t of h_t W e_a, Eq. (9), over real events only.

    Args:
      units: width of the states.
      softmax: whether the weights are normalized over time; the plain products otherwise.
    """

    def __init__(self, units: int, softmax: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units
        self.softmax = softmax

    def build(self, input_shape: Any) -> None:
        shape = [self.units, tf.TensorShape(input_shape)[-1]]
        self.kernel = self.add_weight("kernel", shape, initializer="glorot_uniform")
        super().build(input_shape)

    def call(
        self,
        query: tf.Tensor,
        keys: tf.Tensor,
        mask: tf.Tensor,
        query_mask: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        """Attention of every candidate over its user's states.

        Args:
          query: candidates e_a, [users, candidates, query_dim].
          keys: states h_t, [users, time, units].
          mask: True where the event is real, bool [users, time].
          query_mask: not needed here; other attentions take batch statistics.
          training: not needed here.

        Returns:
          Weights [users, candidates, time] in float32, exactly zero where the event is masked; they
          sum to one over time, or to zero for an empty history.
        """
        del query_mask, training
        mask = mask[:, tf.newaxis]
        projected = tf.tensordot(query, self.kernel, [[-1], [1]])  # W e_a, once a candidate
        scores = tf.matmul(projected, tf.cast(keys, query.dtype), transpose_b=True)
        scores = tf.cast(scores, masking.accumulation_dtype(scores.dtype))
        if self.softmax:
            return masking.masked_softmax(scores, mask)
        return tf.where(mask, scores, tf.zeros([], scores.dtype))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "softmax": self.softmax}


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ProjectedAttention(tf.keras.layers.Layer):
    """The released DIEN's `din_fcn_attention`: the candidate, projected, against every state.

    Args:
      units: width of the states.
      hidden_units: widths of the activation unit's hidden layers.
      activation: of those layers, see `make_activation`.
      softmax: whether the weights are normalized over time.
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
        self.projection = QueryProjection(units, name="projection", dtype=policy)
        unit = ActivationUnit(self.hidden_units, activation, name="unit", dtype=policy)
        self.attention = TargetAttention(unit, softmax=softmax, name="attention", dtype=policy)

    def call(
        self,
        query: tf.Tensor,
        keys: tf.Tensor,
        mask: tf.Tensor,
        query_mask: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        """Attention of every candidate over its user's states; see `TargetAttention.call`."""
        return self.attention(self.projection(query), keys, mask, query_mask, training=training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "hidden_units": self.hidden_units,
            "activation": activation_config(self.activation),
            "softmax": self.softmax,
        }
