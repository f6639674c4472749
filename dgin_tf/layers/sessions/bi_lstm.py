"""Session interest interacting layer of DSIN (Feng et al., 2019), Eqs. (7), (8)."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import KernelLayer
from dgin_tf.ops.fast.loops import loop

CONCAT, MEAN, SUM = "concat", "mean", "sum"
WAYS = ("forward", "backward")


def lstm_step(
    inputs: tf.Tensor,
    state: tf.Tensor,
    cell: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    peepholes: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """One step, Eq. (7).

    Args:
      inputs: W x_t + b, gates side by side (input, forget, candidate, output), [..., 4 units].
      state: h_{t-1}, [..., units].
      cell: c_{t-1}, [..., units].
      recurrent_kernel: [..., units, 4 units].
      peepholes: W_ci, W_cf, W_co, diagonal as in Graves (2013), whom the equation is from; broadcast
        to [3, ..., units]. None for an LSTM without them.

    Returns:
      h_t and c_t, [..., units].
    """
    gates = inputs + tf.matmul(state, recurrent_kernel)
    into, forget, candidate, out = tf.split(gates, 4, axis=-1)
    if peepholes is not None:
        into += peepholes[0] * cell
        forget += peepholes[1] * cell
    cell = tf.sigmoid(forget) * cell + tf.sigmoid(into) * tf.tanh(candidate)
    if peepholes is not None:
        out += peepholes[2] * cell
    return tf.sigmoid(out) * tf.tanh(cell), cell


def lstm(
    inputs: tf.Tensor,
    mask: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    peepholes: tf.Tensor | None = None,
) -> tf.Tensor:
    """Runs several LSTMs along time, for short sequences: the gradient is TensorFlow's own.

    Args:
      inputs: W x_t + b, [time, cells, users, 4 units].
      mask: True where the step is real, bool [time, cells, users]; padding passes the state through.
      recurrent_kernel: [cells, units, 4 units].
      peepholes: [3, cells, 1, units], or None.

    Returns:
      h_t after every step, [time, cells, users, units].
    """

    def step(carry, values):
        inputs_t, real = values
        state, cell = carry
        after = lstm_step(inputs_t, state, cell, recurrent_kernel, peepholes)
        carry = tuple(tf.where(real, new, old) for new, old in zip(after, carry, strict=True))
        return carry, carry[:1]

    start = tf.zeros_like(tf.reduce_sum(inputs, 0)[..., : recurrent_kernel.shape[-2]])
    sequences = (inputs, mask[..., tf.newaxis])
    return loop(step, (start, start), sequences, [start.shape])[1][0]


class BiLSTM(KernelLayer):
    """LSTMs in both directions, of one layer or several, that meet after the last layer alone.

    Args:
      units: width of each direction's state; None for that of the inputs.
      layers: how many; the paper has one, the released code two.
      peepholes: whether gates see the cell (Eq. 7); not in the released code.
      merge: "concat" (Eq. 8), "mean", which the released code has, or "sum".
      residual_layers: number of the last layers to whose outputs their inputs are added.
      recurrent_initializer: of the recurrent kernels.
      kernel_initializer, kernel_regularizer: of the input kernels.

    Raises:
      ValueError: an unknown `merge`, or `layers` is below 1.

    Example:

      >>> BiLSTM(units=4)(tf.random.normal([2, 5, 3])).shape
      TensorShape([2, 5, 8])
    """

    def __init__(
        self,
        units: int | None = None,
        layers: int = 1,
        peepholes: bool = True,
        merge: str = CONCAT,
        residual_layers: int = 0,
        recurrent_initializer: Any = "orthogonal",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if merge not in (CONCAT, MEAN, SUM) or layers < 1:
            raise ValueError(
                f"expected merge {CONCAT!r}, {MEAN!r} or {SUM!r} and at least one layer; got "
                f"{merge!r} and {layers}."
            )
        self.units = units
        self.layers = layers
        self.peepholes = peepholes
        self.merge = merge
        self.residual_layers = residual_layers
        # As given: several kernels must not draw from one initializer.
        self.recurrent_initializer = recurrent_initializer

    def build(self, input_shape: Any) -> None:
        dim = tf.TensorShape(input_shape)[-1]
        units = self.units or dim
        self.cells = [
            [self._add_cell(f"{way}{layer}", dim if layer == 1 else units, units) for way in WAYS]
            for layer in range(1, self.layers + 1)
        ]
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Reads sequences both ways.

        Args:
          inputs: [users, time, dim].
          mask: True where the step is real, bool [users, time]; None where all are.

        Returns:
          H_t, [users, time, units], or [users, time, 2 * units] where concatenated.
        """
        if mask is None:
            mask = tf.ones(tf.shape(inputs)[:2], tf.bool)
        # The state adds up over time and stays float32 under a half-precision policy.
        ways = [tf.cast(inputs, self.variable_dtype)] * 2
        for layer, cells in enumerate(self.cells):
            outputs = _both_ways(ways, mask, cells)
            if layer >= self.layers - self.residual_layers:
                outputs = [new + old for new, old in zip(outputs, ways, strict=True)]
            ways = outputs
        forward, backward = (tf.cast(way, self.compute_dtype) for way in ways)
        if self.merge == CONCAT:
            return tf.concat([forward, backward], axis=-1)
        total = forward + backward
        return total / 2 if self.merge == MEAN else total

    def _add_cell(self, name: str, dim: int, units: int) -> dict[str, tf.Variable]:
        def add(part, shape, initializer):
            return self.add_float_weight(f"{name}/{part}", shape, initializer)

        cell = {
            "kernel": self.add_kernel(
                f"{name}/kernel", [dim, 4 * units], experimental_autocast=False
            ),
            "recurrent_kernel": add(
                "recurrent_kernel", [units, 4 * units], self.recurrent_initializer
            ),
            "bias": add("bias", [4 * units], _open_forget_gate),
        }
        if self.peepholes:
            cell["peepholes"] = add("peepholes", [3, units], "glorot_uniform")
        return cell


def _both_ways(ways: list[tf.Tensor], mask: tf.Tensor, cells: list[dict]) -> list[tf.Tensor]:
    """One layer: states [users, time, units] of either direction, from inputs of either."""
    projections = [
        tf.transpose(tf.tensordot(way, cell["kernel"], 1) + cell["bias"], [1, 0, 2])
        for way, cell in zip(ways, cells, strict=True)
    ]
    real = tf.transpose(mask)
    peepholes = None
    if "peepholes" in cells[0]:
        peepholes = tf.stack([cell["peepholes"] for cell in cells], axis=1)[:, :, tf.newaxis]
    states = lstm(
        tf.stack([projections[0], tf.reverse(projections[1], [0])], axis=1),
        tf.stack([real, tf.reverse(real, [0])], axis=1),
        tf.stack([cell["recurrent_kernel"] for cell in cells]),
        peepholes,
    )
    forward, backward = states[:, 0], tf.reverse(states[:, 1], [0])
    return [tf.transpose(way, [1, 0, 2]) for way in (forward, backward)]


def _open_forget_gate(shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
    """Zero, and one for the forget gate, so that untrained cells remember."""
    units = shape[0] // 4
    zeros, ones = tf.zeros([units], dtype), tf.ones([units], dtype)
    return tf.concat([zeros, ones, zeros, zeros], axis=0)
