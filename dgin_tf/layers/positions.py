"""Learned positions: one vector for every place in a sequence."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import ConfiguredLayer


class LearnedPositions(ConfiguredLayer):
    """Adds a learned vector p_t to the t-th element; sequences are as long as the first call's.

    Example:

      >>> LearnedPositions()(tf.random.normal([2, 5, 3])).shape
      TensorShape([2, 5, 3])
    """

    def build(self, input_shape: Any) -> None:
        shape = tf.TensorShape(input_shape)[-2:]
        self.table = self.add_weight("table", shape, initializer="glorot_uniform")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Adds the positions to sequences.

        Args:
          inputs: [..., time, dim].

        Returns:
          [..., time, dim].
        """
        return inputs + self.table
