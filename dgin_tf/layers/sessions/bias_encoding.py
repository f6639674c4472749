"""Bias encoding of DSIN (Feng et al., 2019), Eq. (2): where in which session an event is."""

from typing import Any

import tensorflow as tf


@tf.keras.utils.register_keras_serializable("dgin_tf")
class BiasEncoding(tf.keras.layers.Layer):
    """Q + BE, BE(k, t, c) = w^K_k + w^T_t + w^C_c: a number for a session, a place, a channel.

    There are as many numbers as the sessions that the layer is first called with have. They start
    near zero, as in the authors' code.
    """

    def build(self, input_shape: Any) -> None:
        sessions, time, dim = tf.TensorShape(input_shape)[-3:]
        self.session, self.position, self.channel = (
            self.add_weight(
                name, shape, initializer=tf.keras.initializers.TruncatedNormal(stddev=1e-4)
            )
            for name, shape in (
                ("session", [sessions, 1, 1]),
                ("position", [1, time, 1]),
                ("channel", [1, 1, dim]),
            )
        )
        super().build(input_shape)

    def call(self, sessions: tf.Tensor) -> tf.Tensor:
        """[users, sessions, time, dim] -> [users, sessions, time, dim]."""
        return sessions + (self.session + self.position + self.channel)
