"""Memory utilization regularization of MIMN (Pi et al., KDD 2019, section 4.3), Eqs. (5)-(8).

Hot items would write the same few slots again and again. What a slot was written so far decides how
the weights of the next write are moved between slots, and a loss wants all slots written alike.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.ops import memory as ops


@tf.keras.utils.register_keras_serializable("dgin_tf")
class UtilizationRegularization(tf.keras.layers.Layer):
    """W_g and lambda.

    Args:
      weight: lambda of Eq. (8), which the paper does not give; the released code has 0.001.
    """

    def __init__(self, weight: float = 1e-3, **kwargs: Any):
        super().__init__(**kwargs)
        self.weight = weight

    def build(self, input_shape: Any) -> None:
        slots = tf.TensorShape(input_shape)[-1]
        # Not zeros, from which equal use would never leave: P_t is uniform there, and so is its gradient.
        self.kernel = self.add_weight(
            "kernel",
            [slots, slots * slots],
            initializer="glorot_uniform",
            experimental_autocast=False,
        )
        super().build(input_shape)

    def call(self, weights: tf.Tensor, usage: tf.Tensor) -> tf.Tensor:
        """The re-balanced write weights of one event, Eqs. (5), (6).

        Args:
          weights: w^w_t, [users, slots].
          usage: g_{t-1}, what events before wrote, [users, slots].

        Returns:
          [users, slots] in the weights' type; they sum to one where `weights` do.
        """
        kernel = tf.convert_to_tensor(self.kernel)
        moved = ops.transfer(tf.cast(usage, kernel.dtype), kernel)
        return tf.cast(ops.rebalance(tf.cast(weights, kernel.dtype), moved), weights.dtype)

    def loss(self, usage: tf.Tensor) -> tf.Tensor:
        """L_reg of every user, Eqs. (7), (8): g_T [users, slots] -> [users]."""
        return self.weight * ops.utilization_variance(usage)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight}
