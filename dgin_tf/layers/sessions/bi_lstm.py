"""How sessions follow each other: DSIN's session interest interacting layer, Eqs. (7), (8)."""

from typing import Any

import tensorflow as tf

from dgin_tf.ops.lstm import lstm

CONCAT, MEAN, SUM = "concat", "mean", "sum"


@tf.keras.utils.register_keras_serializable("dgin_tf")
class BiLSTM(tf.keras.layers.Layer):
    """LSTMs in both directions, of one layer or several, that meet after the last layer alone.

    Args:
      units: width of each direction's state; None for that of the inputs.
      layers: how many; the paper has one, the released code two.
      peepholes: whether gates see the cell (Eq. 7); not in the released code.
      merge: "concat" (Eq. 8), "mean", which the released code has, or "sum".
      residual_layers: to how many of the last layers' outputs their inputs are added.

    Raises:
      ValueError: an unknown `merge`, or `layers` is below 1.
    """

    def __init__(
        self,
        units: int | None = None,
        layers: int = 1,
        peepholes: bool = True,
        merge: str = CONCAT,
        residual_layers: int = 0,
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
            return self.add_weight(
                f"{name}/{part}", shape, initializer=initializer, experimental_autocast=False
            )

        cell = {
            "kernel": add("kernel", [dim, 4 * units], "glorot_uniform"),
            "recurrent_kernel": add("recurrent_kernel", [units, 4 * units], "orthogonal"),
            "bias": add("bias", [4 * units], _open_forget_gate),
        }
        if self.peepholes:
            cell["peepholes"] = add("peepholes", [3, units], "glorot_uniform")
        return cell

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "layers": self.layers,
            "peepholes": self.peepholes,
            "merge": self.merge,
            "residual_layers": self.residual_layers,
        }


WAYS = ("forward", "backward")


def _both_ways(ways: list[tf.Tensor], mask: tf.Tensor, cells: list[dict]) -> list[tf.Tensor]:
    """One layer: states [users, time, units] of either direction, from inputs of either."""
    projected = [
        tf.transpose(tf.tensordot(way, cell["kernel"], 1) + cell["bias"], [1, 0, 2])
        for way, cell in zip(ways, cells, strict=True)
    ]
    real = tf.transpose(mask)
    peepholes = None
    if "peepholes" in cells[0]:
        peepholes = tf.stack([cell["peepholes"] for cell in cells], axis=1)[:, :, tf.newaxis]
    states = lstm(
        tf.stack([projected[0], tf.reverse(projected[1], [0])], axis=1),
        tf.stack([real, tf.reverse(real, [0])], axis=1),
        tf.stack([cell["recurrent_kernel"] for cell in cells]),
        peepholes,
    )
    forward, backward = states[:, 0], tf.reverse(states[:, 1], [0])
    return [tf.transpose(way, [1, 0, 2]) for way in (forward, backward)]


def _open_forget_gate(shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
    """Zero, and one for the forget gate, so that cells remember before they have learned."""
    del kwargs
    units = shape[0] // 4
    zeros, ones = tf.zeros([units], dtype), tf.ones([units], dtype)
    return tf.concat([zeros, ones, zeros, zeros], axis=0)
