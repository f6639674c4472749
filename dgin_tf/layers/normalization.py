"""Batch normalization that knows about masks and replicas, its moving averages, and layer normalization.

Ioffe and Szegedy (2015), as the heads of DIEN, MIMN and SIM use it in front of the first dense layer.
Statistics are taken over the real rows of the global batch (`dgin_tf.ops.masking.masked_moments`).
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import ConfiguredLayer
from dgin_tf.ops import masking


class MovingMoments(ConfiguredLayer):
    """Batch statistics in training, their moving averages at test time.

    The averages start at mean 0 and variance 1 and follow
    `average = decay * average + (1 - decay) * batch`, where the decay rises as
    min(momentum, (1 + steps) / (10 + steps)), as in `tf.train.ExponentialMovingAverage`, so that a
    short training is not biased towards these initial values. A batch without any real row changes
    nothing.

    Args:
      momentum: the decay after the first steps, in [0, 1).

    Raises:
      ValueError: `momentum` is outside [0, 1).

    Example:

      >>> mean, variance = MovingMoments()(tf.random.normal([7, 3]), training=True)
      >>> mean.shape, variance.shape
      (TensorShape([3]), TensorShape([3]))
    """

    def __init__(self, momentum: float = 0.99, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum must be in [0, 1); got {momentum!r}.")
        self.momentum = momentum

    def build(self, input_shape):
        dim = _last_dim(input_shape, type(self).__name__)
        # Every replica sees the same global statistics, so reading on demand and taking the mean
        # costs no communication in the step and is exact.
        replicated = {
            "trainable": False,
            "dtype": masking.accumulation_dtype(self.variable_dtype),
            "experimental_autocast": False,
            "synchronization": tf.VariableSynchronization.ON_READ,
            "aggregation": tf.VariableAggregation.MEAN,
        }
        self.mean = self.add_weight("mean", [dim], initializer="zeros", **replicated)
        self.variance = self.add_weight("variance", [dim], initializer="ones", **replicated)
        self.steps = self.add_weight("steps", [], initializer="zeros", **replicated)
        super().build(input_shape)

    def call(self, inputs, mask=None, training=False):
        """Mean and variance to normalize with.

        Args:
          inputs: [..., dim].
          mask: True where a row is real, bool, broadcastable to [...]; None where all rows are.
          training: whether to use, and to remember, the statistics of this batch.

        Returns:
          mean [dim] and variance [dim].
        """
        if not training:
            return tf.convert_to_tensor(self.mean), tf.convert_to_tensor(self.variance)
        moments = masking.masked_moments(inputs, mask)  # over the global batch
        ramp = (1.0 + self.steps) / (10.0 + self.steps)
        decay = tf.minimum(tf.cast(self.momentum, ramp.dtype), ramp)
        # Early steps move the averages fast; a batch of padding alone does not move them.
        rate = tf.where(moments.count > 0, 1.0 - decay, tf.zeros_like(decay))
        self.mean.assign_add(rate * (tf.stop_gradient(moments.mean) - self.mean))
        self.variance.assign_add(rate * (tf.stop_gradient(moments.variance) - self.variance))
        self.steps.assign_add(tf.cast(moments.count > 0, self.steps.dtype))
        return moments.mean, moments.variance


class BatchNorm(ConfiguredLayer):
    """Batch normalization over the real rows of the global batch.

    The authors' DIEN, MIMN and SIM call TensorFlow's layer without `training=True` and never run its
    update operations, so that their normalization stays at mean 0 and variance 1 and only the scale
    and the shift are learned. `affine_only=True` computes that.

    Args:
      affine_only: whether the statistics keep their initial values, in training too.
      epsilon: added to the variance.
      momentum: decay of the moving averages, in [0, 1).

    Example:

      >>> rows, mask = tf.random.normal([7, 3]), tf.range(7) < 5
      >>> BatchNorm()(rows, mask=mask, training=True).shape
      TensorShape([7, 3])
    """

    def __init__(
        self,
        affine_only: bool = False,
        epsilon: float = 1e-3,
        momentum: float = 0.99,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.affine_only = affine_only
        self.epsilon = epsilon
        self.momentum = momentum
        self.moments = MovingMoments(momentum, name="moments", dtype=self.dtype_policy)

    def build(self, input_shape):
        dim = _last_dim(input_shape, type(self).__name__)
        # Float32 under mixed precision: scale and shift are combined with the statistics first.
        self.gamma = self.add_float_weight("gamma", [dim], "ones")
        self.beta = self.add_float_weight("beta", [dim], "zeros")
        self.moments.build(input_shape)
        super().build(input_shape)

    def call(self, inputs, mask=None, training=False):
        """Normalizes each channel.

        Args:
          inputs: [..., dim].
          mask: True where a row is real, bool, broadcastable to [...]; None where all rows are.
          training: whether to use the statistics of this batch.

        Returns:
          [..., dim]; rows under the mask are computed like the others and mean nothing.
        """
        mean, variance = self.moments(inputs, mask=mask, training=training and not self.affine_only)
        # One multiply and one add over the batch; the small vectors stay in float32.
        scale = tf.cast(self.gamma, mean.dtype) * tf.math.rsqrt(variance + self.epsilon)
        shift = tf.cast(self.beta, mean.dtype) - mean * scale
        return inputs * tf.cast(scale, inputs.dtype) + tf.cast(shift, inputs.dtype)


class LayerNorm(ConfiguredLayer):
    """Layer normalization (Ba et al., 2016) over the last axis, with a learned scale and shift.

    Keras's layer runs the training kernel of batch normalization, which takes two to four times as
    long on a CPU as the plain formula, forward and backward.

    Args:
      epsilon: added to the variance.

    Example:

      >>> LayerNorm()(tf.random.normal([2, 5, 3])).shape
      TensorShape([2, 5, 3])
    """

    def __init__(self, epsilon: float = 1e-3, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        dim = _last_dim(input_shape, type(self).__name__)
        self.gamma = self.add_float_weight("gamma", [dim], "ones")
        self.beta = self.add_float_weight("beta", [dim], "zeros")
        super().build(input_shape)

    def call(self, inputs):
        """Normalizes the last axis.

        Args:
          inputs: [..., dim].

        Returns:
          [..., dim] in the type of `inputs`; sums are taken in float32 at least.
        """
        values = tf.cast(inputs, masking.accumulation_dtype(inputs.dtype))
        deviation = values - tf.reduce_mean(values, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(deviation), axis=-1, keepdims=True)
        gamma, beta = (tf.cast(weight, values.dtype) for weight in (self.gamma, self.beta))
        normal = deviation * (tf.math.rsqrt(variance + self.epsilon) * gamma) + beta
        return tf.cast(normal, inputs.dtype)


def _last_dim(input_shape, name: str) -> int:
    dim = tf.TensorShape(input_shape)[-1]
    if dim is None:
        raise ValueError(f"{name} needs inputs whose last axis is known; got {input_shape}.")
    return dim
