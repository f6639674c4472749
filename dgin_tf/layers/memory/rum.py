"""Feature-level user memory, RUM (Chen et al., "Sequential recommendation with user memory networks",
WSDM 2018): global feature keys say which slots of a user's memory an item is about.

MIMN's comparison replaces this by a Turing machine without keys, see `dgin_tf.released.memory`.
"""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from dgin_tf.layers.configured import as_layer
from dgin_tf.layers.events import State, Target
from dgin_tf.layers.memory.recurrent_memory import RecurrentMemory, _MemoryEncoder, add_linear
from dgin_tf.ops import ntm
from dgin_tf.ops.ntm import MEMORY, LinearWeights, Tensors, hold_padding, linear


def key_weights(items: tf.Tensor, keys: tf.Tensor, strength: float) -> tf.Tensor:
    """z = softmax(beta q_i^T f_k).

    Args:
      items: q_i, [..., dim].
      keys: f_k, [slots, dim].
      strength: beta.

    Returns:
      [..., slots].
    """
    return ntm.address(tf.tensordot(items, keys, [[-1], [1]]), strength)


class RUMWeights(NamedTuple):
    """Keys [slots, dim], and the layers of the erase and the add vector."""

    keys: tf.Tensor
    erase: LinearWeights
    addition: LinearWeights


@dataclasses.dataclass(frozen=True)
class RUMStep:
    """One event written into the memory, where its keys are; see `dgin_tf.ops.ntm.scan`.

    State: `memory` [users, slots, dim].
    Values: the event q_i [users, dim], and one where it is real or zero [users].

    Attributes:
      strength: beta.
    """

    strength: float = 1.0

    def __call__(
        self, state: Tensors, values: tuple[tf.Tensor, ...], weights: RUMWeights
    ) -> Tensors:
        """The state after the event."""
        event, real = values
        write_weights = key_weights(event, weights.keys, self.strength)
        erase = tf.sigmoid(linear(event, weights.erase))
        addition = tf.tanh(linear(event, weights.addition))
        memory = ntm.write(state[MEMORY], write_weights, erase, addition)
        return {MEMORY: hold_padding(memory, state[MEMORY], real)}


class KeyedMemory(RecurrentMemory):
    """Keys f_1..f_K shared by all users, and the layers that erase and add.

    State: `memory` [users, slots, dim], zero before any event, dim being the events' width.

    Args:
      slots: K.
      strength: beta, the sharpness of an item's choice among the keys.
      key_initializer: None for N(0, 0.5).
      kernel_initializer, kernel_regularizer: of the layers' kernels.

    Example:

      >>> state, _ = KeyedMemory(slots=3)(tf.random.normal([2, 7, 4]))
      >>> state["memory"].shape
      TensorShape([2, 3, 4])
    """

    def __init__(
        self,
        slots: int,
        strength: float = 1.0,
        key_initializer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.slots = slots
        self.strength = strength
        get = tf.keras.initializers.get
        self.key_initializer = get(key_initializer or tf.keras.initializers.RandomNormal(0, 0.5))
        self.step = RUMStep(strength)

    def build(self, input_shape: Any) -> None:
        self.dim = dim = tf.TensorShape(input_shape)[-1]
        self.keys = self.add_float_weight("keys", [self.slots, dim], self.key_initializer)
        self.erase = add_linear(self, dim, dim, "erase/")
        self.addition = add_linear(self, dim, dim, "addition/")
        super().build(input_shape)

    def step_weights(self) -> RUMWeights:
        """The weights of the step."""
        return RUMWeights(
            tf.convert_to_tensor(self.keys),
            LinearWeights(*map(tf.convert_to_tensor, self.erase)),
            LinearWeights(*map(tf.convert_to_tensor, self.addition)),
        )

    def initial_state(self, users: tf.Tensor | int) -> State:
        """A memory of zeros."""
        return {MEMORY: tf.zeros([users, self.slots, self.dim], self._state_dtype)}

    def read(self, memory: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """A candidate's reading of the memory: p_m = sum_k z_k m_k.

        Args:
          memory: [users, slots, dim].
          target: q_i, [users, candidates, dim].

        Returns:
          p_m [users, candidates, dim] and z [users, candidates, slots].
        """
        keys = tf.convert_to_tensor(self.keys)
        weights = key_weights(tf.cast(target, keys.dtype), keys, self.strength)
        return ntm.read(weights, memory), weights


class UserMemory(_MemoryEncoder):
    """A user's memory under global keys, read by a candidate.

    State: as of `KeyedMemory`.

    Args:
      memory: reads the events.

    Example:

      >>> events, mask = tf.random.normal([2, 7, 4]), tf.ones([2, 7], tf.bool)
      >>> encoder = UserMemory(KeyedMemory(slots=3))
      >>> encoder(tf.random.normal([2, 5, 4]), (events, mask))["interest"].shape
      TensorShape([2, 5, 4])
    """

    def __init__(self, memory: KeyedMemory, **kwargs: Any):
        super().__init__(**kwargs)
        self.memory = as_layer(memory)

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """`interest` p_m [users, candidates, dim], `target_weights` [users, candidates, slots]."""
        reading, weights = self.memory.read(state[MEMORY], target.embedding)
        return {"interest": tf.cast(reading, target.embedding.dtype), "target_weights": weights}
