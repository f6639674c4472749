"""The memory of MIMN (Pi et al., KDD 2019), Eqs. (1)-(9), as formulas, in the paper's order.

A user's memory M is a few slots that are addressed by their contents (1, 2), read as a weighted sum
(3) and written by erasing and adding (4). Writing is balanced between the slots by their use so far
(5-8), and every slot has a channel that follows how its interest evolves (9). `NTMStep` puts these
together for one event, and `scan` runs any step over the events, as plainly as it can be said; layers
run `dgin_tf.ops.fast.scan`, which gives the same.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from dgin_tf.ops.recurrence import RecurrentWeights, flat_matmul, gru_step

Tensors: TypeAlias = dict[str, tf.Tensor]
Step: TypeAlias = Callable[[Tensors, tuple[tf.Tensor, ...], Any], Tensors]

MEMORY, CONTROLLER, READ = "memory", "controller", "read"
USAGE, CHANNELS = "usage", "channels"
READ_WEIGHTS, WRITE_WEIGHTS = "read_weights", "write_weights"

FEW_HEADS = 8


def cosine(keys: tf.Tensor, memory: tf.Tensor) -> tf.Tensor:
    """Cosine similarity K(k, M(i)) of keys and slots, Eq. (2).

    Args:
      keys: k, [users, heads, dim]; heads are candidates where those read.
      memory: M, [users, slots, dim].

    Returns:
      [users, heads, slots]; zero for a key or a slot of zeros. The released code adds 1e-8 to the
      product of the norms, and so does this one.
    """
    # Outer product of the norms, [users, heads, slots].
    norms = _norm(keys)[..., tf.newaxis] * _norm(memory)[:, tf.newaxis]
    return _inner_products(keys, memory) / (norms + 1e-8)


def address(similarity: tf.Tensor, sharpness: tf.Tensor | float = 1.0) -> tf.Tensor:
    """Weights of the slots, Eq. (1): softmax over the last axis.

    The paper has no `sharpness` beta. Cosines lie in [-1, 1], so that without it no weight of 8 slots
    exceeds e / (e + 7 / e) = .51.
    """
    return tf.nn.softmax(sharpness * similarity)


def learned_sharpness(outputs: tf.Tensor) -> tf.Tensor:
    """beta = 2 (softplus + 1) of a linear layer's outputs, as in the released code."""
    return 2.0 * (tf.nn.softplus(outputs) + 1.0)


def read(weights: tf.Tensor, memory: tf.Tensor) -> tf.Tensor:
    """r, Eq. (3): [users, heads, slots] and [users, slots, dim] -> [users, heads, dim]."""
    return _mixtures(weights, memory)


def write(
    memory: tf.Tensor, weights: tf.Tensor, erase: tf.Tensor, addition: tf.Tensor
) -> tf.Tensor:
    """M_t, Eq. (4).

    Args:
      memory: M_{t-1}, [users, slots, dim].
      weights: w^w_t, [users, slots].
      erase: e_t in (0, 1), [users, dim].
      addition: a_t, [users, dim].
    """
    erasure = _outer(weights, erase)  # E_t, [users, slots, dim]
    return (1.0 - erasure) * memory + _outer(weights, addition)


def transfer(usage: tf.Tensor, kernel: tf.Tensor, normalize: bool = False) -> tf.Tensor:
    """P_t = softmax(W_g g), Eq. (5), one distribution over slots for every slot.

    g_t would hold the very weights that P_t is for; the use until the event before stands for it.

    Args:
      usage: g_{t-1}, [users, slots].
      kernel: W_g, [slots, slots * slots].
      normalize: whether g is divided by the number of events so far, which is its sum. As printed,
        the logits grow with the history and P_t saturates.

    Returns:
      [users, slots, slots]; rows sum to one.
    """
    slots = usage.shape[-1]
    if normalize:
        usage /= tf.maximum(tf.reduce_sum(usage, -1, keepdims=True), 1.0)
    return tf.nn.softmax(tf.reshape(tf.matmul(usage, kernel), [-1, slots, slots]))


def rebalance(weights: tf.Tensor, transfer_matrix: tf.Tensor) -> tf.Tensor:
    """w^w P, Eq. (6): [users, slots] and [users, slots, slots] -> [users, slots]."""
    return _mixtures(weights[:, tf.newaxis], transfer_matrix)[:, 0]


def utilization_variance(usage: tf.Tensor) -> tf.Tensor:
    """Sum over slots of the squared deviation of their use from its mean, Eq. (8) without lambda.

    Args:
      usage: g_T, the sum over time of the write weights, Eq. (7), [users, slots].

    Returns:
      [users]; zero where all slots were written alike.
    """
    deviation = usage - tf.reduce_mean(usage, -1, keepdims=True)
    return tf.reduce_sum(tf.square(deviation), -1)


class GRUWeights(NamedTuple):
    """Weights of a GRU; gates side by side: update, reset, candidate.

    Attributes:
      kernel: [dim, 3 units].
      recurrent_kernel: [units, 3 units].
      bias: [3 units].
    """

    kernel: tf.Tensor
    recurrent_kernel: tf.Tensor
    bias: tf.Tensor


class LinearWeights(NamedTuple):
    """A kernel [dim, units] and a bias [units]."""

    kernel: tf.Tensor
    bias: tf.Tensor


def gru(
    inputs: tf.Tensor, state: tf.Tensor, weights: GRUWeights, reset_after: bool = True
) -> tf.Tensor:
    """One step of a GRU, [..., dim] and [..., units] -> [..., units]; see `RecurrentWeights`."""
    projected_inputs = flat_matmul(inputs, weights.kernel) + weights.bias
    recurrent_weights = RecurrentWeights(weights.recurrent_kernel, None, reset_after)
    return gru_step(projected_inputs, state, recurrent_weights)


def linear(inputs: tf.Tensor, weights: LinearWeights) -> tf.Tensor:
    """[users, dim] -> [users, units]."""
    return inputs @ weights.kernel + weights.bias


def top_channels(weights: tf.Tensor, k: int) -> tf.Tensor:
    """Selection of the k channels that were read most; of equals the first.

    Args:
      weights: w^r_t, [users, slots].
      k: how many, at most the number of slots.

    Returns:
      Ones and zeros in the type of `weights`, one row for each selected channel, [users, k, slots].
    """
    # Every slot's rank by comparison with the few others: top_k is a sort, which costs more than all
    # else in a step.
    own, others = weights[:, :, tf.newaxis], weights[:, tf.newaxis]
    slots = tf.range(weights.shape[-1])
    is_before = slots < slots[:, tf.newaxis]
    is_above = (others > own) | ((others == own) & is_before)  # [users, slots, others]
    rank = tf.reduce_sum(tf.cast(is_above, tf.int32), -1)
    return tf.cast(rank[:, tf.newaxis] == tf.range(k)[:, tf.newaxis], weights.dtype)


def induce(
    channels: tf.Tensor,
    memory: tf.Tensor,
    event: tf.Tensor,
    selection: tf.Tensor,
    weights: GRUWeights,
    reset_after: bool = True,
) -> tf.Tensor:
    """S_t, Eq. (9): one GRU for all channels, and a step of it for those that are selected.

    Args:
      channels: S_{t-1}, [users, slots, units].
      memory: M_t, [users, slots, dim].
      event: e_t, [users, event dim].
      selection: channels that take a step, see `top_channels`, [users, k, slots].
      weights: of the GRU, whose inputs are [e_t, M_t(i)].
      reset_after: see `RecurrentWeights`.

    Returns:
      [users, slots, units]; channels that are not selected are unchanged, bit for bit.
    """
    # Products with rows of a single one: exact, and their gradients are products too, no scatter.
    events = tf.repeat(event[:, tf.newaxis], selection.shape[1], axis=1)
    inputs = tf.concat([events, tf.matmul(selection, memory)], -1)  # [users, k, event dim + dim]
    steps = gru(inputs, _mixtures(selection, channels), weights, reset_after)
    is_selected = tf.reduce_sum(selection, 1)[..., tf.newaxis] > 0  # [users, slots, 1]
    return tf.where(is_selected, _mixtures(tf.linalg.matrix_transpose(selection), steps), channels)


class NTMWeights(NamedTuple):
    """Weights of `NTMStep`.

    Attributes:
      controller: of a GRU that reads [e_t, r_{t-1}].
      instructions: from the controller's state to the two keys, erase and add vectors, and the two
        keys' sharpness where it is learned, [units, 4 dim] or [units, 4 dim + 2].
      transfer: W_g, [slots, slots * slots], or None for writing that is not balanced.
      induction: of the channels' GRU, or None for no induction unit.
    """

    controller: GRUWeights
    instructions: LinearWeights
    transfer: tf.Tensor | None = None
    induction: GRUWeights | None = None


@dataclasses.dataclass(frozen=True)
class NTMStep:
    """One event read into MIMN's state (sections 4.2 to 4.4).

    The controller reads the event and what was last read of the memory, and says where to write and
    what (Eqs. 1, 2, 4), balanced by the use of the slots (5, 6); the memory so written, M_t, is read
    (1-3), and the channels that were read most take a step on what their slots now hold (9).

    State: `memory` M [users, slots, dim]; `controller` [users, units]; `read` r [users, dim];
    `usage` g [users, slots]; with an induction unit `channels` S [users, slots, channel units].
    Values: the event e_t [users, event dim], and one where it is real or zero [users].

    Attributes:
      top_k: channels that an event updates.
      sharpness: beta of both heads, see `address`; None for learned ones, see `learned_sharpness`.
      normalizes_usage: see `transfer`.
      stops_gradient: whether `usage` has a gradient into W_g alone, through P_t.
    """

    top_k: int = 1
    sharpness: float | None = 1.0
    normalizes_usage: bool = False
    stops_gradient: bool = False

    def __call__(
        self, state: Tensors, values: tuple[tf.Tensor, ...], weights: NTMWeights
    ) -> Tensors:
        """The state after the event, and its `read_weights` and `write_weights` [users, slots]."""
        event, real = values
        memory, usage = state[MEMORY], state[USAGE]
        inputs = tf.concat([event, state[READ]], -1)  # [users, event dim + dim]
        controller = gru(inputs, state[CONTROLLER], weights.controller)
        instructions = linear(controller, weights.instructions)  # [users, 4 dim (+ 2)]
        betas = [self.sharpness] * 2  # of writing and reading
        if self.sharpness is None:
            instructions, outputs = tf.split(instructions, [4 * memory.shape[-1], 2], -1)
            betas = tf.split(
                learned_sharpness(outputs)[..., tf.newaxis], 2, 1
            )  # [users, 1, 1] each
        write_key, read_key, erase, addition = tf.split(instructions, 4, -1)

        # w^w_t is addressed in M_{t-1}: the event is not in the memory yet.
        original = self._address(write_key, memory, betas[0])
        write_weights = slot_use = original
        if weights.transfer is not None:
            # Eqs. (5), (6); the use of the slots does not know this write yet, see `transfer`.
            transfer_matrix = transfer(usage, weights.transfer, self.normalizes_usage)
            write_weights = slot_use = rebalance(original, transfer_matrix)
            if self.stops_gradient:
                slot_use = rebalance(tf.stop_gradient(original), transfer_matrix)
        memory = write(memory, write_weights, tf.sigmoid(erase), tf.tanh(addition))
        read_weights = self._address(read_key, memory, betas[1])  # w^r_t, of M_t
        after = {
            MEMORY: memory,
            CONTROLLER: controller,
            READ: read(read_weights[:, tf.newaxis], memory)[:, 0],
            USAGE: usage + slot_use,
        }
        if weights.induction is not None:
            selection = top_channels(read_weights, self.top_k)
            after[CHANNELS] = induce(state[CHANNELS], memory, event, selection, weights.induction)
        # Padding passes the whole state through, so that a stream and a padded batch agree.
        after = {name: hold_padding(value, state[name], real) for name, value in after.items()}
        return {**after, READ_WEIGHTS: read_weights, WRITE_WEIGHTS: write_weights}

    def _address(self, key: tf.Tensor, memory: tf.Tensor, sharpness: Any) -> tf.Tensor:
        return address(cosine(tf.tanh(key)[:, tf.newaxis], memory), sharpness)[:, 0]


def hold_padding(new: tf.Tensor, old: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """`new` where `real` [users] is one, and else `old`, bit for bit."""
    shape = tf.concat([tf.shape(real), tf.ones([new.shape.rank - 1], tf.int32)], 0)
    return tf.where(tf.reshape(real, shape) > 0, new, old)


def scan(
    step: Step,
    state: Tensors,
    sequences: Sequence[tf.Tensor],
    weights: Any,
    traces: Sequence[str] = (),
) -> tuple[Tensors, Tensors]:
    """Runs a step along time, for a known number of steps.

    Args:
      step: `step(state, values, weights)` gives the state after the event; further results of other
        names are dropped.
      state: before the first step, each [users, ...].
      sequences: the values that steps read, each [users, time, ...].
      weights: shared by all steps.
      traces: names of the state whose values after every step are returned.

    Returns:
      The state after the last step, and name -> [users, time, ...] of `traces`.
    """
    history: dict[str, list[tf.Tensor]] = {name: [] for name in traces}
    for t in range(sequences[0].shape[1]):
        after = step(state, tuple(sequence[:, t] for sequence in sequences), weights)
        state = {name: after[name] for name in state}
        for name, values in history.items():
            values.append(state[name])
    return state, {name: tf.stack(values, 1) for name, values in history.items()}


def _inner_products(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """[users, heads, dim] and [users, slots, dim] -> [users, heads, slots]."""
    if _are_few(left):
        return tf.reduce_sum(left[:, :, tf.newaxis] * right[:, tf.newaxis], -1)
    return tf.matmul(left, right, transpose_b=True)


def _mixtures(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """[users, heads, slots] and [users, slots, dim] -> [users, heads, dim]."""
    if _are_few(weights):
        return tf.reduce_sum(weights[..., tf.newaxis] * values[:, tf.newaxis], 2)
    return tf.matmul(weights, values)


def _are_few(heads: tf.Tensor) -> bool:
    """True for so few heads that a product of matrices, a call for every user, costs more."""
    return heads.shape[1] is not None and heads.shape[1] <= FEW_HEADS


def _norm(values: tf.Tensor) -> tf.Tensor:
    """Length along the last axis; the gradient at a vector of zeros is zero, not a quotient of zeros."""
    return tf.sqrt(tf.maximum(tf.reduce_sum(tf.square(values), -1), 1e-24))


def _outer(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """[users, slots] and [users, dim] -> [users, slots, dim]."""
    return weights[:, :, tf.newaxis] * values[:, tf.newaxis]
