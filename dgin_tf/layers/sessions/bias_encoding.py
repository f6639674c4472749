"""Bias encoding of DSIN (Feng et al., 2019), Eq. (2): the position of an event within its session."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import ConfiguredLayer


class BiasEncoding(ConfiguredLayer):
    """Q + BE, BE(k, t, c) = w^K_k + w^T_t + w^C_c: biases of session, position and channel.

    Sessions are as many and as long as those of the first call. The biases start near zero, as in the
    authors' code.

    Example:

      >>> BiasEncoding()(tf.random.normal([2, 3, 5, 4])).shape
      TensorShape([2, 3, 5, 4])
    """

    def build(self, input_shape: Any) -> None:
        sessions, time, dim = tf.TensorShape(input_shape)[-3:]

        def add(name: str, shape: list[int]) -> tf.Variable:
            initializer = tf.keras.initializers.TruncatedNormal(stddev=1e-4)
            return self.add_weight(name, shape, initializer=initializer)

        self.session = add("session", [sessions, 1, 1])
        self.position = add("position", [1, time, 1])
        self.channel = add("channel", [1, 1, dim])
        super().build(input_shape)

    def call(self, sessions: tf.Tensor) -> tf.Tensor:
        """Adds the biases to the events of sessions.

        Args:
          sessions: Q, [users, sessions, time, dim].

        Returns:
          [users, sessions, time, dim].
        """
        return sessions + (self.session + self.position + self.channel)
