"""The memory of MIMN (Pi et al., KDD 2019), Eqs. (1)-(9), as formulas, in the paper's order.

A user's memory M is a few slots that are addressed by what they hold (1, 2), read as a weighted sum
(3) and written by erasing and adding (4). Writing is balanced between the slots by the use that was
made of them (5-8), and every slot has a channel that follows how its interest evolves (9).
"""

import tensorflow as tf

from dgin_tf.ops.recurrence import RecurrentWeights, gru_step

FEW_HEADS = 8


def cosine(keys: tf.Tensor, memory: tf.Tensor) -> tf.Tensor:
    """K(k, M(i)), Eq. (2).

    Args:
      keys: k, [users, heads, dim]; heads are candidates where those read.
      memory: M, [users, slots, dim].

    Returns:
      [users, heads, slots]; zero for a key or a slot of zeros. The released code adds 1e-8 to the
      product of the norms, and so does this one.
    """
    norms = _norm(keys)[..., tf.newaxis] * _norm(memory)[:, tf.newaxis]
    return _inner_products(keys, memory) / (norms + 1e-8)


def address(similarity: tf.Tensor, sharpness: tf.Tensor | float = 1.0) -> tf.Tensor:
    """Weights of the slots, Eq. (1): softmax over the last axis; `sharpness` is the release's beta."""
    return tf.nn.softmax(sharpness * similarity)


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
    erased = _outer(weights, erase)  # E_t
    return (1.0 - erased) * memory + _outer(weights, addition)


def transfer(usage: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """P_t = softmax(W_g g), Eq. (5), one distribution over slots for every slot.

    g_t would hold the very weights that P_t is for; the use until the event before stands for it.

    Args:
      usage: g_{t-1}, [users, slots].
      kernel: W_g, [slots, slots * slots].

    Returns:
      [users, slots, slots]; rows sum to one.
    """
    slots = usage.shape[-1]
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


def shift_and_sharpen(weights: tf.Tensor, shift: tf.Tensor, power: tf.Tensor) -> tf.Tensor:
    """What the released code does in the place of Eqs. (5), (6): a Neural Turing Machine's shift.

    Args:
      weights: w, [users, slots].
      shift: distribution over offsets 0, 1, ..., s, -s, ..., -1, [users, 2 s + 1].
      power: gamma >= 1, [users, 1].

    Returns:
      (sum_o shift(o) w(i - o)) ** gamma, normalized, [users, slots].
    """
    reach = (shift.shape[-1] - 1) // 2
    offsets = [*range(reach + 1), *range(-reach, 0)]
    moved = tf.stack([tf.roll(weights, offset, axis=-1) for offset in offsets], -1)
    sharpened = tf.reduce_sum(moved * shift[:, tf.newaxis], -1) ** power
    return sharpened / tf.reduce_sum(sharpened, -1, keepdims=True)


def top_channels(weights: tf.Tensor, k: int) -> tf.Tensor:
    """The k channels that were read most; of equals the first.

    Args:
      weights: w^r_t, [users, slots].
      k: how many, at most the number of slots.

    Returns:
      Ones and zeros in the type of `weights`, one row a chosen channel, [users, k, slots].
    """
    # Every slot's rank by comparison with the few others: top_k is a sort, which costs more than all
    # else in a step.
    mine, others = weights[:, :, tf.newaxis], weights[:, tf.newaxis]
    slots = tf.range(weights.shape[-1])
    is_before = slots < slots[:, tf.newaxis]
    beaten = (others > mine) | ((others == mine) & is_before)
    rank = tf.reduce_sum(tf.cast(beaten, tf.int32), -1)
    return tf.cast(rank[:, tf.newaxis] == tf.range(k)[:, tf.newaxis], weights.dtype)


def induce(
    channels: tf.Tensor,
    inputs: tf.Tensor,
    chosen: tf.Tensor,
    weights: RecurrentWeights,
) -> tf.Tensor:
    """S_t, Eq. (9): one GRU for all channels, and a step of it for those that were chosen.

    Args:
      channels: S_{t-1}, [users, slots, units].
      inputs: W [M_t(i), e_t] + b of the chosen channels, [users, k, 3 units].
      chosen: as `top_channels` gives it, [users, k, slots].
      weights: recurrent weights of the GRU.

    Returns:
      [users, slots, units]; channels that were not chosen are unchanged, bit for bit.
    """
    # Products with rows of a single one: exact, and their gradients are products too, no scatter.
    stepped = gru_step(inputs, _mixtures(chosen, channels), weights)
    is_chosen = tf.reduce_sum(chosen, 1)[..., tf.newaxis] > 0
    return tf.where(is_chosen, _mixtures(tf.linalg.matrix_transpose(chosen), stepped), channels)


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
    """Whether there are so few heads that a product of matrices, a call for every user, costs more."""
    return heads.shape[1] is not None and heads.shape[1] <= FEW_HEADS


def _norm(values: tf.Tensor) -> tf.Tensor:
    """Length along the last axis; the gradient at a vector of zeros is zero, not a quotient of zeros."""
    return tf.sqrt(tf.maximum(tf.reduce_sum(tf.square(values), -1), 1e-24))


def _outer(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """[users, slots] and [users, dim] -> [users, slots, dim]."""
    return weights[:, :, tf.newaxis] * values[:, tf.newaxis]
