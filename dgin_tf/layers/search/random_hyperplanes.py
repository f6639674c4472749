"""The random hyperplanes of SimHash: weights that are drawn once, kept with the model, never trained."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import ConfiguredLayer
from dgin_tf.ops import signatures
from dgin_tf.schema import check_positive


class RandomHyperplanes(ConfiguredLayer):
    """Signs of projections on normal random directions, in float32 whatever the policy.

    The directions are saved with the weights, so that stored signatures stay those of the model. No
    gradient passes.

    Example:

      >>> RandomHyperplanes(bits=16)(tf.random.normal([2, 100, 8])).shape
      TensorShape([2, 100, 16])

    Args:
      bits: how many directions.
      seed: of the directions; the same seed always gives the same ones.

    Raises:
      ValueError: `bits` is below 1.
    """

    def __init__(self, bits: int, seed: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive(bits=bits)
        self.bits = bits
        self.seed = seed

    def build(self, input_shape: Any) -> None:
        self.directions = self.add_float_weight(
            "directions",
            [tf.TensorShape(input_shape)[-1], self.bits],
            tf.keras.initializers.RandomNormal(stddev=1.0, seed=self.seed),
            trainable=False,
            dtype=tf.float32,
        )
        super().build(input_shape)

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        """[..., dim] -> bool [..., bits]."""
        vectors = tf.cast(tf.stop_gradient(vectors), tf.float32)
        return signatures.sides(vectors, tf.convert_to_tensor(self.directions))
