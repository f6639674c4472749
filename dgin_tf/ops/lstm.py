"""The LSTM of DSIN (Feng et al., 2019), Eq. (7): gates that see the cell through peepholes."""

import tensorflow as tf


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

    def step(carried, values):
        inputs_t, real = values
        state, cell = carried
        found = lstm_step(inputs_t, state, cell, recurrent_kernel, peepholes)
        return tuple(tf.where(real, new, old) for new, old in zip(found, carried, strict=True))

    start = tf.zeros_like(inputs[0, ..., : recurrent_kernel.shape[-2]])
    states, _ = tf.scan(step, (inputs, mask[..., tf.newaxis]), (start, start))
    return states
