"""One event read into MIMN's state (Pi et al., KDD 2019, sections 4.2 to 4.4): the order of things.

The controller reads the event and what it last read of the memory, and says where to write and what
(Eqs. 1, 2, 4), balanced by the use of the slots (5, 6); the memory so written, M_t, is read (1-3),
and the channels that were read most take in what their slots now hold (9).
"""

import dataclasses

import tensorflow as tf

from dgin_tf.ops import memory as ops
from dgin_tf.ops.recurrence import RecurrentWeights, gru_step

MEMORY = "memory"
CONTROLLER = "controller"
READ = "read"
USAGE = "usage"
CHANNELS = "channels"
READ_WEIGHTS = "read_weights"
WRITE_WEIGHTS = "write_weights"


@dataclasses.dataclass(frozen=True)
class TuringStep:
    """The step of a fold, see `dgin_tf.ops.folding`.

    State: `memory` M [users, slots, dim]; `controller` [users, units]; `read` r [users, dim];
    `usage` g [users, slots]; with an induction unit `channels` S [users, slots, channel units].
    Values: the event e_t [users, event dim] and whether it is real, one or zero [users].
    Weights: `controller/*` and `induction/*` with kernel, recurrent_kernel and bias of a GRU;
    `instructions/kernel` and `instructions/bias`; `transfer` W_g.

    Attributes:
      balances: whether writing is balanced, Eqs. (5), (6).
      top_k: how many channels a step updates; 0 for no induction unit.
    """

    balances: bool = False
    top_k: int = 0

    def __call__(
        self,
        state: dict[str, tf.Tensor],
        values: tuple[tf.Tensor, ...],
        weights: dict[str, tf.Tensor],
    ) -> dict[str, tf.Tensor]:
        """The state after the event, and its `read_weights` and `write_weights` [users, slots]."""
        event, real = values
        memory, usage = state[MEMORY], state[USAGE]
        seen = tf.concat([event, state[READ]], -1)
        controller = gru(seen, state[CONTROLLER], weights, "controller")
        instructions = controller @ weights["instructions/kernel"] + weights["instructions/bias"]
        write_key, read_key, erase, addition = tf.split(instructions, 4, -1)

        write_weights = self._address(write_key, memory)  # w^w_t: what is written is not there yet
        if self.balances:
            matrix = ops.transfer(usage, weights["transfer"])
            write_weights = ops.rebalance(write_weights, matrix)
        memory = ops.write(memory, write_weights, tf.sigmoid(erase), tf.tanh(addition))
        read_weights = self._address(read_key, memory)  # w^r_t, of M_t
        after = {
            MEMORY: memory,
            CONTROLLER: controller,
            READ: ops.read(read_weights[:, tf.newaxis], memory)[:, 0],
            USAGE: usage + write_weights,
        }
        if self.top_k:
            after[CHANNELS] = induction(
                state[CHANNELS], memory, event, read_weights, weights, self.top_k
            )
        after = {name: hold_padding(value, state[name], real) for name, value in after.items()}
        return {**after, READ_WEIGHTS: read_weights, WRITE_WEIGHTS: write_weights}

    def _address(self, key: tf.Tensor, memory: tf.Tensor) -> tf.Tensor:
        return ops.address(ops.cosine(tf.tanh(key)[:, tf.newaxis], memory))[:, 0]


def induction(
    channels: tf.Tensor,
    memory: tf.Tensor,
    event: tf.Tensor,
    read_weights: tf.Tensor,
    weights: dict[str, tf.Tensor],
    k: int,
    reset_after: bool = True,
) -> tf.Tensor:
    """The step of the induction unit, Eq. (9), for the k channels that were read most.

    Args:
      channels: S_{t-1}, [users, slots, units].
      memory: M_t, [users, slots, dim].
      event: e_t, [users, event dim].
      read_weights: w^r_t, [users, slots].
      weights: `induction/kernel` for [e_t, M_t(i)], `induction/recurrent_kernel`, `induction/bias`.
      k: number of channels.
      reset_after: see `RecurrentWeights`.
    """
    chosen = ops.top_channels(read_weights, k)
    events = tf.repeat(event[:, tf.newaxis], k, axis=1)
    inputs = tf.concat([events, tf.matmul(chosen, memory)], -1)
    projected = tf.tensordot(inputs, weights["induction/kernel"], 1) + weights["induction/bias"]
    recurrent = RecurrentWeights(weights["induction/recurrent_kernel"], None, reset_after)
    return ops.induce(channels, projected, chosen, recurrent)


def gru(
    inputs: tf.Tensor,
    state: tf.Tensor,
    weights: dict[str, tf.Tensor],
    name: str,
    reset_after: bool = True,
) -> tf.Tensor:
    """One step of the GRU whose weights have a name: [users, dim], [users, units] -> [users, units]."""
    projected = inputs @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
    recurrent = RecurrentWeights(weights[f"{name}/recurrent_kernel"], None, reset_after)
    return gru_step(projected, state, recurrent)


def hold_padding(new: tf.Tensor, old: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """`new` where `real` [users] is one, and else `old`, bit for bit."""
    shape = tf.concat([tf.shape(real), tf.ones([new.shape.rank - 1], tf.int32)], 0)
    return tf.where(tf.reshape(real, shape) > 0, new, old)
