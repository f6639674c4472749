"""The gated recurrences of DIEN (Zhou et al., 2019), Eqs. (3)-(6) and (10)-(13).

All of them are one cell. A GRU step proposes a candidate state and decides how much of it to write:

    write_t = scale_t * u_t + floor_t          share of the candidate that enters the state
    h_t     = (1 - write_t) * h_{t-1} + write_t * h~_t

    GRU, AIGRU       scale = 1,      floor = 0        Eq. (6); AIGRU feeds it a_t * i_t, Eq. (10)
    AGRU             scale = a_t,    floor = 0, u = 1 Eq. (11): a_t in the place of the update gate
    AUGRU            scale = a_t,    floor = 0        Eqs. (12), (13)
    padding          scale = 0,      floor = 0        the state passes through, bit for bit

The update gate follows the paper: it *writes* (in TensorFlow's own cells it keeps). A floor is for
cells that keep less than the paper's, such as the authors' own (`dgin_tf.released.recurrent`).

`recurrence` is the plain loop; layers run `dgin_tf.ops.fast.recurrence`, which gives the same.
"""

from typing import NamedTuple

import tensorflow as tf


class RecurrentWeights(NamedTuple):
    """Weights of the product with the state; gates side by side: update, reset, candidate.

    Attributes:
      kernel: U^u, U^r, U^h, [units, 3 units]; without an update gate [units, 2 units].
      bias: added to the product with the state, [3 units] or [2 units], or None. PyTorch's cells
        have one; the papers' and TensorFlow's do not.
      reset_after: whether the reset gate acts on the product U^h h (Eq. 5) or on the state before
        it. Only the former can have a bias.
    """

    kernel: tf.Tensor
    bias: tf.Tensor | None = None
    reset_after: bool = True


class Gates(NamedTuple):
    """Gates of one step, each [..., units]; `update` is None where the cell has none.

    `recurrent` is what the reset gate multiplies: U^h h + b, or h itself where reset comes first.
    """

    update: tf.Tensor | None
    reset: tf.Tensor
    candidate: tf.Tensor
    recurrent: tf.Tensor


def recurrent_gates(inputs: tf.Tensor, state: tf.Tensor, weights: RecurrentWeights) -> Gates:
    """Gates of a GRU, Eqs. (3)-(5).

    Args:
      inputs: W i_t + b, gates side by side, [..., 3 units] (or 2), broadcasting against `state`.
      state: h_{t-1}, [..., units].
      weights: recurrent weights.
    """
    units = weights.kernel.shape[0]
    if weights.reset_after:
        product = flat_matmul(state, weights.kernel)
        if weights.bias is not None:
            product += weights.bias
        gates = tf.sigmoid(inputs[..., :-units] + product[..., :-units])  # Eqs. (3), (4)
        reset, recurrent = gates[..., -units:], product[..., -units:]
        candidate = tf.tanh(inputs[..., -units:] + reset * recurrent)  # Eq. (5)
    else:
        product = flat_matmul(state, weights.kernel[:, :-units])
        gates = tf.sigmoid(inputs[..., :-units] + product)
        reset, recurrent = gates[..., -units:], state
        product = flat_matmul(reset * state, weights.kernel[:, -units:])
        candidate = tf.tanh(inputs[..., -units:] + product)
    has_update = weights.kernel.shape[1] == 3 * units
    return Gates(gates[..., :units] if has_update else None, reset, candidate, recurrent)


def gated_step(
    inputs: tf.Tensor,
    scale: tf.Tensor,
    floor: tf.Tensor | None,
    state: tf.Tensor,
    weights: RecurrentWeights,
) -> tf.Tensor:
    """One step of the cell that all recurrences here are cases of.

    Args:
      inputs: W i_t + b, [..., 3 units] (or 2 units, without update gate).
      scale: factor of the update gate, [..., 1]: one for a GRU, Eqs. (3)-(6); attention a_t for an
        AUGRU, Eqs. (12), (13), and for an AGRU, Eq. (11), which has no gate beside it; 0 (with
        no floor) keeps the state exactly.
      floor: share that is written whatever the update gate says, [..., 1], or None for nothing.
      state: h_{t-1}, [..., units].
      weights: recurrent weights.

    Returns:
      h_t, [..., units].
    """
    gates = recurrent_gates(inputs, state, weights)
    write = write_gate(gates.update, scale, floor)
    return (1.0 - write) * state + write * gates.candidate


def write_gate(update: tf.Tensor | None, scale: tf.Tensor, floor: tf.Tensor | None) -> tf.Tensor:
    """Share of the candidate that enters the state, [..., units], or [..., 1] without update gate."""
    write = scale if update is None else scale * update
    return write if floor is None else write + floor


def gru_step(inputs: tf.Tensor, state: tf.Tensor, weights: RecurrentWeights) -> tf.Tensor:
    """One GRU step, Eqs. (3)-(6): `inputs` W i_t + b [users, 3 units], `state` [users, units]."""
    return gated_step(inputs, tf.ones_like(state[..., :1]), None, state, weights)


def recurrence(
    inputs: tf.Tensor,
    gate: tuple[tf.Tensor, tf.Tensor | None],
    initial_state: tf.Tensor,
    weights: RecurrentWeights,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Runs the cell along time, for a known number of steps.

    Args:
      inputs: W i_t + b, [users, time, 3 units] (or 2 units) where the candidates of a user share
        them, else [users, candidates, time, 3 units].
      gate: `scale` and `floor` (or None), each [users, candidates, time].
      initial_state: h_0, [users, candidates, units].
      weights: recurrent weights.

    Returns:
      States [users, candidates, time, units], and the last one, [users, candidates, units].
    """
    if inputs.shape.rank == 3:
        inputs = inputs[:, tf.newaxis]  # [users, 1, time, 3 units], broadcast over candidates
    scale = gate[0][..., tf.newaxis]
    floor = None if gate[1] is None else gate[1][..., tf.newaxis]
    states = [initial_state]
    for t in range(inputs.shape[2]):
        floor_t = None if floor is None else floor[:, :, t]
        states.append(gated_step(inputs[:, :, t], scale[:, :, t], floor_t, states[-1], weights))
    return tf.stack(states, 2)[:, :, 1:], states[-1]


def flat_matmul(values: tf.Tensor, kernel: tf.Tensor, transpose: bool = False) -> tf.Tensor:
    """Product over the last axis: one flat matmul, also for the [candidates, users, units] state."""
    if values.shape.rank == 2:
        return tf.matmul(values, kernel, transpose_b=transpose)
    flat = tf.reshape(values, [-1, values.shape[-1]])
    product = tf.matmul(flat, kernel, transpose_b=transpose)
    width = kernel.shape[0 if transpose else 1]
    return tf.reshape(product, tf.concat([tf.shape(values)[:-1], [width]], 0))
