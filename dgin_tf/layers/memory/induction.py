"""Memory induction unit of MIMN (Pi et al., KDD 2019, section 4.4), Eq. (9).

The slots keep what was written; a channel beside each of them follows how its interest evolves. An
event updates the channels of the k slots that it read most, by one GRU that all channels share.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.ops import turing


@tf.keras.utils.register_keras_serializable("dgin_tf")
class MemoryInduction(tf.keras.layers.Layer):
    """The GRU of the channels.

    Args:
      units: width of a channel; the paper has 32.
      k: channels that an event updates, which the paper does not give; the released code has 1.

    Raises:
      ValueError: k is below one.
    """

    def __init__(self, units: int = 32, k: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        if k < 1:
            raise ValueError(
                f"k, the number of channels that an event updates, is at least 1; got {k}."
            )
        self.units = units
        self.k = k
        self.kernel: tf.Variable | None = None

    def build_for(self, event_dim: int, memory_dim: int) -> None:
        """Makes the weights for events and slots of given widths."""
        if self.kernel is not None:
            return
        width = 3 * self.units

        def add(name, rows, initializer):
            shape = [width] if rows is None else [rows, width]
            return self.add_weight(
                name, shape, initializer=initializer, experimental_autocast=False
            )

        self.kernel = add("kernel", event_dim + memory_dim, "glorot_uniform")
        self.recurrent_kernel = add("recurrent_kernel", self.units, "orthogonal")
        self.bias = add("bias", None, "zeros")

    def call(
        self, channels: tf.Tensor, memory: tf.Tensor, event: tf.Tensor, read_weights: tf.Tensor
    ) -> tf.Tensor:
        """S_t after one event, Eq. (9).

        Args:
          channels: S_{t-1}, [users, slots, units].
          memory: M_t, [users, slots, dim].
          event: e_t, [users, event dim].
          read_weights: w^r_t, [users, slots].

        Returns:
          [users, slots, units]; all but k channels are as before, bit for bit.
        """
        self.build_for(event.shape[-1], memory.shape[-1])
        weights = self.tensors()
        dtype = weights["induction/kernel"].dtype
        after = turing.induction(
            tf.cast(channels, dtype),
            tf.cast(memory, dtype),
            tf.cast(event, dtype),
            tf.cast(read_weights, dtype),
            weights,
            self.k,
        )
        return tf.cast(after, channels.dtype)

    def tensors(self) -> dict[str, tf.Tensor]:
        """The weights, by the names of `TuringStep`."""
        return {
            f"induction/{name}": tf.convert_to_tensor(getattr(self, name))
            for name in ("kernel", "recurrent_kernel", "bias")
        }

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "k": self.k}
