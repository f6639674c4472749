"""Learned positions: one vector for every place in a sequence."""

from typing import Any

import tensorflow as tf


@tf.keras.utils.register_keras_serializable("dgin_tf")
class LearnedPositions(tf.keras.layers.Layer):
    """Adds p_t to the t-th of a sequence, as many as the first call's sequence is long."""

    def build(self, input_shape: Any) -> None:
        shape = tf.TensorShape(input_shape)[-2:]
        self.table = self.add_weight("table", shape, initializer="glorot_uniform")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """[..., time, dim] -> [..., time, dim]."""
        return inputs + self.table
