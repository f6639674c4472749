"""The tower that ends every model: normalization, hidden layers with Dice or PReLU, a logit.

DIEN, MIMN, SIM and DGIN all draw it: concat -> 200 -> 80 -> 2 -> softmax. A softmax over two logits
is the sigmoid of their difference, so that one logit is the default.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.activations import ActivationSpec, make_activation
from dgin_tf.layers.configured import KernelLayer
from dgin_tf.layers.normalization import BatchNorm
from dgin_tf.ops import masking


class Tower(KernelLayer):
    """Multilayer perceptron from the features of a (user, candidate) pair to the logit of a click.

    Args:
      units: widths of the hidden layers.
      activation: of the hidden layers, see `make_activation`.
      normalization: of the input; "batch", "affine_only" for a learned scale and shift alone (see
        `BatchNorm`), or "none".
      two_way: whether the last layer has two outputs, click in column 0, as in the papers' figures.
      momentum: of the moving averages of "batch", see `BatchNorm`.
      kernel_initializer, kernel_regularizer: of all dense layers.

    Raises:
      ValueError: another normalization.

    Example:

      >>> tower = Tower((8, 4))
      >>> tower(tf.random.normal([2, 3, 5])).shape  # two users with three candidates each
      TensorShape([2, 3])
    """

    def __init__(
        self,
        units: Sequence[int] = (200, 80),
        activation: ActivationSpec = "dice",
        normalization: str = "batch",
        two_way: bool = False,
        momentum: float = 0.99,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if normalization not in ("batch", "affine_only", "none"):
            raise ValueError(
                f"normalization must be 'batch', 'affine_only' or 'none'; got {normalization!r}."
            )
        self.units = tuple(units)
        self.activation = activation
        self.normalization = normalization
        self.two_way = two_way
        self.momentum = momentum
        policy = self.dtype_policy
        self.batch_norm = None
        if normalization != "none":
            affine_only = normalization == "affine_only"
            self.batch_norm = BatchNorm(
                affine_only, momentum=momentum, name="batch_norm", dtype=policy
            )
        *self.hidden, output_layer = (
            tf.keras.layers.Dense(width, name=f"dense{layer}", dtype=policy, **self.kernel_config)
            for layer, width in enumerate((*self.units, 2 if two_way else 1), start=1)
        )
        self.activations = [
            make_activation(activation, f"activation{layer}", policy)
            for layer in range(1, len(self.units) + 1)
        ]
        self.output_layer = output_layer

    def call(self, inputs, mask=None, training=False):
        """Logits of the candidates.

        Args:
          inputs: [users, candidates, dim].
          mask: True where the candidate is real, bool [users, candidates]; keeps padded candidates
            out of batch statistics. None where all are.
          training: whether statistics are those of this batch.

        Returns:
          Logits [users, candidates], float32: sigmoid(logit) is the probability of a click. With
          `two_way`, the logit is the difference of the two outputs.
        """
        # [users * candidates, dim], since dense layers on matrices are fastest.
        rows = tf.reshape(inputs, [-1, inputs.shape[-1]])
        mask = None if mask is None else tf.reshape(mask, [-1])
        if self.batch_norm is not None:
            rows = self.batch_norm(rows, mask=mask, training=training)
        for dense, activation in zip(self.hidden, self.activations, strict=True):
            rows = activation(dense(rows), mask=mask, training=training)
        rows = self.output_layer(rows)
        rows = tf.cast(rows, masking.accumulation_dtype(rows.dtype))
        # softmax(l)_0 = sigmoid(l_0 - l_1)
        logits = rows[:, 0] - rows[:, 1] if self.two_way else rows[:, 0]
        return tf.reshape(logits, tf.shape(inputs)[:-1])
