"""Dice and PReLU: the data-adaptive activations of DIN (Zhou et al., 2018, section 5.3).

PReLU switches between two slopes at zero. Dice, Eq. (9), moves the switch to the mean of what the
channel sees and makes it soft with the deviation:

    f(s) = p(s) s + (1 - p(s)) alpha s,   p(s) = sigmoid((s - E[s]) / sqrt(Var[s] + eps)).
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import tensorflow as tf

from dgin_tf.layers.configured import ConfiguredLayer
from dgin_tf.layers.normalization import MovingMoments


def prelu(inputs: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """max(0, s) + alpha min(0, s).

    Args:
      inputs: s, [..., dim].
      alpha: slope for negative inputs, [dim].
    """
    positive = tf.nn.relu(inputs)  # twice as fast as maximum and minimum, whose gradients select
    return positive + alpha * (inputs - positive)


def dice(
    inputs: tf.Tensor, alpha: tf.Tensor, mean: tf.Tensor, inverse_deviation: tf.Tensor
) -> tf.Tensor:
    """Eq. (9), with p(s) s + (1 - p(s)) alpha s written as s (alpha + (1 - alpha) p(s)).

    Args:
      inputs: s, [..., dim].
      alpha: slope where the switch is off, [dim].
      mean: E[s], [dim].
      inverse_deviation: 1 / sqrt(Var[s] + eps), [dim].

    Returns:
      [..., dim] in the type of `inputs`.
    """
    switch = tf.sigmoid((tf.cast(inputs, mean.dtype) - mean) * inverse_deviation)  # p(s)
    return inputs * tf.cast(alpha + (1.0 - alpha) * switch, inputs.dtype)


class PReLU(ConfiguredLayer):
    """PReLU with one slope per channel that starts at 0.1, as in the authors' code of DIN and DIEN.

    Example:

      >>> PReLU()(tf.constant([[-20.0, 3.0]])).numpy().round(3)
      array([[-2.,  3.]], dtype=float32)
    """

    def build(self, input_shape):
        dim = tf.TensorShape(input_shape)[-1]
        # As in the authors' code; zero would be a ReLU at first.
        self.alpha = self.add_weight(
            "alpha", [dim], initializer=tf.keras.initializers.Constant(0.1)
        )
        super().build(input_shape)

    def call(self, inputs, mask=None, training=False):
        """PReLU of [..., dim]; `mask` and `training` are those of every activation and do nothing."""
        return prelu(inputs, tf.convert_to_tensor(self.alpha))


class Dice(ConfiguredLayer):
    """Dice with masked statistics of the global batch in training and moving averages at test time.

    Args:
      epsilon: added to the variance. The paper's is 1e-8.
      momentum: decay of the moving averages, in [0, 1).

    Raises:
      ValueError: `momentum` is outside [0, 1).

    Example:

      >>> Dice()(tf.constant([[-1.0, 2.0]])).shape
      TensorShape([1, 2])
    """

    def __init__(self, epsilon: float = 1e-8, momentum: float = 0.99, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.momentum = momentum
        self.moments = MovingMoments(momentum, name="moments", dtype=self.dtype_policy)

    def build(self, input_shape):
        dim = tf.TensorShape(input_shape)[-1]
        # Stays float32 under mixed precision, like the statistics that it is combined with.
        self.alpha = self.add_float_weight("alpha", [dim], "zeros")
        self.moments.build(input_shape)
        super().build(input_shape)

    def call(self, inputs, mask=None, training=False):
        """Activates each channel.

        Args:
          inputs: [..., dim].
          mask: True where a row is real, bool, broadcastable to [...]; None where all rows are.
          training: whether to use the statistics of this batch.

        Returns:
          [..., dim]; rows under the mask are computed like the others and mean nothing.
        """
        mean, variance = self.moments(inputs, mask=mask, training=training)
        inverse_deviation = tf.math.rsqrt(variance + self.epsilon)
        # Statistics are float32 at least; alpha follows them, the result follows the inputs.
        return dice(inputs, tf.cast(self.alpha, mean.dtype), mean, inverse_deviation)


class Elementwise(ConfiguredLayer):
    """An activation without weights and statistics, under the same call as Dice and PReLU.

    Args:
      function: name of a Keras activation, such as "sigmoid" or "relu".

    Example:

      >>> Elementwise("relu")(tf.constant([[-1.0, 2.0]])).numpy()
      array([[0., 2.]], dtype=float32)
    """

    def __init__(self, function: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.function = function
        self._apply = tf.keras.activations.get(function)

    def call(self, inputs, mask=None, training=False):
        """The function of [..., dim]; `mask` and `training` do nothing."""
        return self._apply(inputs)


ActivationSpec: TypeAlias = str | Mapping[str, Any] | tf.keras.layers.Layer

_NAMED: dict[str, type[tf.keras.layers.Layer]] = {"dice": Dice, "prelu": PReLU}


def make_activation(
    activation: ActivationSpec, name: str, dtype: Any = None
) -> tf.keras.layers.Layer:
    """Creates an activation layer.

    Args:
      activation: "dice", "prelu", the name of a Keras activation, or the name that a layer class is
        registered under, such as "dgin_tf>Dice"; or a layer such as `Dice(epsilon=1e-9)`, whose
        settings (not weights) are copied; or the configuration of such a layer.
      name: name of the layer.
      dtype: policy of a layer that is made from a name.

    Returns:
      A layer to be called as `layer(inputs, mask=mask, training=training)`.

    Raises:
      ValueError: the name is not known.
    """
    if isinstance(activation, tf.keras.layers.Layer):
        # A copy: each of several hidden layers has weights and statistics of its own.
        return type(activation).from_config({**activation.get_config(), "name": name})
    if isinstance(activation, Mapping):
        return make_activation(tf.keras.layers.deserialize(dict(activation)), name)
    if layer_class := _NAMED.get(activation) or tf.keras.utils.get_registered_object(activation):
        return layer_class(name=name, dtype=dtype)
    return Elementwise(activation, name=name, dtype=dtype)
