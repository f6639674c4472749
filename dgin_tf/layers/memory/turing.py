"""The left half of MIMN (Pi et al., KDD 2019, figure 3): events in, a memory of a fixed size out.

The paper leaves the controller open. As in the released code it is a GRU that reads the event and
what was last read of the memory; a linear layer makes of its state the two keys, and the erase and
add vectors. "Every slot of memory is randomly initialized" (section 5.4), here to weights that learn.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.events import State
from dgin_tf.layers.memory.folded import FoldedMemory, for_each_user
from dgin_tf.layers.memory.induction import MemoryInduction
from dgin_tf.layers.memory.utilization import UtilizationRegularization
from dgin_tf.ops.turing import (
    CHANNELS,
    CONTROLLER,
    MEMORY,
    READ,
    READ_WEIGHTS,
    USAGE,
    WRITE_WEIGHTS,
    TuringStep,
)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class TuringMemory(FoldedMemory):
    """A Neural Turing Machine of few slots, with balanced writing and channels where wanted.

    State: as of `TuringStep`; `usage` sums to the number of events read.

    Args:
      slots: m.
      dim: width of a slot.
      units: width of the controller; None for that of a slot.
      utilization: balances the writing, Eqs. (5)-(8), or None.
      induction: follows every slot by a channel, Eq. (9), or None.

    Raises:
      ValueError: an event updates more channels than there are.
    """

    def __init__(
        self,
        slots: int,
        dim: int,
        units: int | None = None,
        utilization: UtilizationRegularization | None = None,
        induction: MemoryInduction | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        deserialize = tf.keras.layers.deserialize
        if isinstance(utilization, dict):
            utilization = deserialize(utilization)
        if isinstance(induction, dict):
            induction = deserialize(induction)
        if induction is not None and induction.k > slots:
            raise ValueError(
                f"an event updates at most as many channels as there are slots, {slots}; got "
                f"k={induction.k}."
            )
        self.slots = slots
        self.dim = dim
        self.units = units
        self.utilization = utilization
        self.induction = induction

    @property
    def step(self) -> TuringStep:
        return TuringStep(
            balances=self.utilization is not None,
            top_k=0 if self.induction is None else self.induction.k,
        )

    def build(self, input_shape: Any) -> None:
        event_dim, units = tf.TensorShape(input_shape)[-1], self.units or self.dim
        self.add_gru("controller", event_dim + self.dim, units)
        self.add_linear("instructions", units, 4 * self.dim)
        self.first_memory = self.add_weight(
            "first_memory",
            [self.slots, self.dim],
            initializer=tf.keras.initializers.RandomNormal(0, 0.5),
            experimental_autocast=False,
        )
        if self.utilization is not None and not self.utilization.built:
            self.utilization.build([None, self.slots])
        if self.induction is not None:
            self.induction.build_for(event_dim, self.dim)
        super().build(input_shape)

    def initial_state(self, users: tf.Tensor | int) -> State:
        """The learned memory, and zeros."""
        dtype = self.first_memory.dtype
        state = {
            MEMORY: tf.convert_to_tensor(self.first_memory),
            CONTROLLER: tf.zeros([self.units or self.dim], dtype),
            READ: tf.zeros([self.dim], dtype),
            USAGE: tf.zeros([self.slots], dtype),
        }
        if self.induction is not None:
            state[CHANNELS] = tf.zeros([self.slots, self.induction.units], dtype)
        return {name: for_each_user(value, users) for name, value in state.items()}

    @property
    def trace_shapes(self) -> dict[str, list[int]]:
        return {READ_WEIGHTS: [self.slots], WRITE_WEIGHTS: [self.slots]}

    def tensors(self) -> dict[str, tf.Tensor]:
        """The weights that steps share, those of the parts among them."""
        tensors = super().tensors()
        if self.utilization is not None:
            tensors["transfer"] = tf.convert_to_tensor(self.utilization.kernel)
        return tensors | ({} if self.induction is None else self.induction.tensors())

    def get_config(self) -> dict[str, Any]:
        serialize = tf.keras.layers.serialize
        return {
            **super().get_config(),
            "slots": self.slots,
            "dim": self.dim,
            "units": self.units,
            "utilization": None if self.utilization is None else serialize(self.utilization),
            "induction": None if self.induction is None else serialize(self.induction),
        }
