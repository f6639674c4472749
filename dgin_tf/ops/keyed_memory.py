"""The memory of feature-level RUM (Chen et al., WSDM 2018), as formulas."""

import dataclasses

import tensorflow as tf

from dgin_tf.ops import memory as ops
from dgin_tf.ops.turing import hold_padding


def key_weights(items: tf.Tensor, keys: tf.Tensor, strength: float) -> tf.Tensor:
    """z = softmax(beta q_i^T f_k).

    Args:
      items: q_i, [..., dim].
      keys: f_k, [slots, dim].
      strength: beta.

    Returns:
      [..., slots].
    """
    return ops.address(tf.tensordot(items, keys, [[-1], [1]]), strength)


@dataclasses.dataclass(frozen=True)
class KeyedStep:
    """The step of a fold, see `dgin_tf.ops.folding`: an event erases and adds where its keys are.

    State: `memory` [users, slots, dim].
    Values: the event q_i [users, dim] and whether it is real, one or zero [users].
    Weights: `keys` [slots, dim]; `erase/*` and `addition/*`, a kernel and a bias each.

    Attributes:
      strength: beta.
    """

    strength: float = 1.0

    def __call__(
        self,
        state: dict[str, tf.Tensor],
        values: tuple[tf.Tensor, ...],
        weights: dict[str, tf.Tensor],
    ) -> dict[str, tf.Tensor]:
        """The state after the event."""
        event, real = values
        chosen = key_weights(event, weights["keys"], self.strength)
        erase = tf.sigmoid(event @ weights["erase/kernel"] + weights["erase/bias"])
        addition = tf.tanh(event @ weights["addition/kernel"] + weights["addition/bias"])
        memory = ops.write(state["memory"], chosen, erase, addition)
        return {"memory": hold_padding(memory, state["memory"], real)}
