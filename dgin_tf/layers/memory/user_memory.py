"""Feature-level user memory, RUM (Chen et al., "Sequential recommendation with user memory networks",
WSDM 2018): global feature keys say which slots of a user's memory an item is about.

MIMN's comparison replaces this by a Turing machine without keys, `ReleasedMemoryInterest`.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.events import History, State, Target
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.memory.folded import FoldedMemory
from dgin_tf.ops import memory as ops
from dgin_tf.ops.keyed_memory import KeyedStep, key_weights

MEMORY = "memory"


@tf.keras.utils.register_keras_serializable("dgin_tf")
class KeyedMemory(FoldedMemory):
    """Keys f_1..f_K shared by all users, and the layers that erase and add.

    State: `memory` [users, slots, dim], zero before any event, dim being the events' width.

    Args:
      slots: K.
      strength: beta, how sharply an item chooses among the keys.
    """

    def __init__(self, slots: int, strength: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.slots = slots
        self.strength = strength

    @property
    def step(self) -> KeyedStep:
        return KeyedStep(self.strength)

    def build(self, input_shape: Any) -> None:
        self.dim = tf.TensorShape(input_shape)[-1]
        self.add_named("keys", [self.slots, self.dim], tf.keras.initializers.RandomNormal(0, 0.5))
        self.add_linear("erase", self.dim, self.dim)
        self.add_linear("addition", self.dim, self.dim)
        super().build(input_shape)

    def initial_state(self, users: tf.Tensor | int) -> State:
        """A memory of zeros."""
        return {MEMORY: tf.zeros([users, self.slots, self.dim], self._state_dtype)}

    def read(self, memory: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What candidates read: p_m = sum_k z_k m_k.

        Args:
          memory: [users, slots, dim].
          target: q_i, [users, candidates, dim].

        Returns:
          p_m [users, candidates, dim] and z [users, candidates, slots].
        """
        keys = tf.convert_to_tensor(self.named("keys"))
        weights = key_weights(tf.cast(target, keys.dtype), keys, self.strength)
        return ops.read(weights, memory), weights

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "slots": self.slots, "strength": self.strength}


@tf.keras.utils.register_keras_serializable("dgin_tf")
class UserMemory(InterestEncoder):
    """What a candidate reads of its user's memory.

    State: as of `KeyedMemory`.

    Args:
      memory: reads the events.
    """

    def __init__(self, memory: KeyedMemory, **kwargs: Any):
        super().__init__(**kwargs)
        self.memory = tf.keras.layers.deserialize(memory) if isinstance(memory, dict) else memory

    def encode(self, history: History, training: bool = False) -> State:
        """Writes the events into an empty memory."""
        return self.memory(history.events, history.mask, training=training)[0]

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """`interest` p_m [users, candidates, dim], `target_weights` [users, candidates, slots]."""
        del training
        found, weights = self.memory.read(state[MEMORY], target.embedding)
        return {"interest": tf.cast(found, target.embedding.dtype), "target_weights": weights}

    def update(self, state: State, history: History) -> State:
        """Writes newer events into a stored memory."""
        return self.memory(history.events, history.mask, state)[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "memory": tf.keras.layers.serialize(self.memory)}
