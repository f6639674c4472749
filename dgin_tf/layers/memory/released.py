"""MIMN and the feature-level RUM as the authors' released code computes them (UIC-Paper/MIMN).

The formulas are in `dgin_tf.ops.released_memory`. The release pads on the left and reads padding
like events of zeros, or sets the state back after each; here histories are moved to the right end
first, so that both paddings give what theirs gives. Use and reads take part in padded steps, so that
no stream of real events ends in the state of a padded batch: there is no `update`.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from dgin_tf.layers.auxiliary_loss import AuxiliaryLoss
from dgin_tf.layers.events import History, State, Target
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.memory.folded import FoldedMemory, for_each_user
from dgin_tf.layers.target_attention import ActivationUnit, TargetAttention, attend
from dgin_tf.ops import memory as ops
from dgin_tf.ops.event_order import padding_first
from dgin_tf.ops.released_memory import (
    CHANNEL_OUTPUT,
    CHANNELS,
    CLEARED,
    CONTROLLER,
    MEMORY,
    OUTPUT,
    READ,
    READ_WEIGHTS,
    USAGE,
    WRITE_WEIGHTS,
    WRITTEN,
    ReleasedStep,
)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ReleasedTuringMemory(FoldedMemory):
    """The released cell and its loop over time.

    State: as of `ReleasedStep`.

    Args:
      step: the settings of the cell.
      slots: m.
      units: width of the controller.
      output_units: width of a step's output; None for the controller's.
    """

    def __init__(
        self,
        step: ReleasedStep,
        slots: int = 4,
        units: int = 32,
        output_units: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._step = ReleasedStep(**step) if isinstance(step, dict) else step
        self.slots = slots
        self.units = units
        self.output_units = output_units

    @property
    def step(self) -> ReleasedStep:
        return self._step

    def build(self, input_shape: Any) -> None:
        step, dim = self._step, self._step.dim
        event_dim = tf.TensorShape(input_shape)[-1]
        said = self.units + (self.slots if step.balances else 0)
        reads = step.read_heads * dim
        self.add_gru("controller", event_dim + reads, self.units, released=True)
        self.add_linear("instructions", said, step.instructions_width)
        if step.keyed:
            self.add_linear("output", self.units + reads, self.output_units or self.units)
            self.add_named("keys", [self.slots, dim], tf.keras.initializers.RandomNormal(0, 0.5))
        if step.induces:
            self.add_gru("induction", event_dim + dim, dim, released=True)
        # Before a tanh each; slots differ so little that what is written must tell them apart.
        self.first_memory = self.add_weight(
            "first_memory",
            [self.slots, dim],
            initializer=tf.keras.initializers.RandomNormal(0, 1e-5),
            trainable=False,
            experimental_autocast=False,
        )
        self.first_read = self.add_weight(
            "first_read",
            [step.read_heads, dim],
            initializer="glorot_uniform",
            experimental_autocast=False,
        )
        super().build(input_shape)

    def initial_state(self, users: tf.Tensor | int) -> State:
        """Memory and reads as they were made, all else zero."""
        memory, read = tf.tanh(self.first_memory), tf.tanh(self.first_read)
        zeros = {
            CONTROLLER: [self.units],
            USAGE: [self.slots],
            WRITTEN: memory.shape,
            **(
                {CHANNELS: memory.shape, CHANNEL_OUTPUT: memory.shape} if self._step.induces else {}
            ),
        }
        state = {name: tf.zeros(shape, memory.dtype) for name, shape in zeros.items()}
        state |= {MEMORY: memory, READ: tf.reshape(read, [-1])}
        return {name: for_each_user(value, users) for name, value in state.items()}

    @property
    def trace_shapes(self) -> dict[str, list[int]]:
        return {
            OUTPUT: [(self.output_units or self.units) if self._step.keyed else self.units],
            READ_WEIGHTS: [self._step.read_heads, self.slots],
            WRITE_WEIGHTS: [self._step.write_heads, self.slots],
        }

    def tensors(self) -> dict[str, tf.Tensor]:
        """The weights that steps share, and what padded steps set the state back to."""
        tensors = super().tensors()
        if self._step.clears:
            state = self.initial_state(1)
            tensors |= {f"initial/{name}": state[name] for name in CLEARED if name in state}
        return tensors

    def read_out(self, state: State, target: tf.Tensor) -> tf.Tensor:
        """What the cell would say to each candidate, were it the next event.

        Args:
          state: as `call` gives it.
          target: [users, candidates, event dim].

        Returns:
          [users, candidates, output units].
        """
        users, candidates = tf.shape(target)[0], tf.shape(target)[1]
        rows = {name: tf.repeat(state[name], candidates, axis=0) for name in self._looked_at}
        events = tf.reshape(target, [-1, target.shape[-1]])
        found = self._step.look(rows, tf.cast(events, self._state_dtype), self.tensors())[OUTPUT]
        return tf.reshape(found, [users, candidates, found.shape[-1]])

    _looked_at = (MEMORY, CONTROLLER, READ, USAGE)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "step": dataclasses.asdict(self._step),
            "slots": self.slots,
            "units": self.units,
            "output_units": self.output_units,
        }


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ReleasedMemoryInterest(InterestEncoder):
    """What the released heads read of the cell: MIMN's and, for a cell without slot keys, RUM's.

    MIMN: [read-out with the target, attention over the channels' outputs of the last step, mean over
    slots of what was written times the target]. RUM: [last controller state, attention over M].

    State: as of `ReleasedTuringMemory`.

    Args:
      memory: the cell.
      utilization_weight: lambda of the regularization, where the cell balances its writing.
      auxiliary_loss: supervision of the steps' outputs by what comes next, or None.
    """

    def __init__(
        self,
        memory: ReleasedTuringMemory,
        utilization_weight: float = 1e-3,
        auxiliary_loss: AuxiliaryLoss | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if isinstance(memory, dict):
            memory = tf.keras.layers.deserialize(memory)
        if isinstance(auxiliary_loss, dict):
            auxiliary_loss = tf.keras.layers.deserialize(auxiliary_loss)
        self.memory = memory
        self.utilization_weight = utilization_weight
        self.auxiliary_loss = auxiliary_loss
        self.attention: Any = None
        if memory.step.induces or not memory.step.keyed:
            unit = ActivationUnit((80, 40), "sigmoid", name="unit", dtype=self.dtype_policy)
            self.attention = TargetAttention(
                unit, softmax=True, name="attention", dtype=self.dtype_policy
            )
        self.auxiliary_loss_names = (
            *(["utilization"] if memory.step.balances else []),
            *([] if auxiliary_loss is None else ["auxiliary"]),
        )

    def encode(self, history: History, training: bool = False) -> State:
        """Reads the history, padding first and like events of zeros."""
        events, mask = padding_first(history.events, history.mask)
        return self.memory(events, mask, training=training)[0]

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """See the class; `interest` [users, candidates, dim], `attention` [users, candidates, slots]."""
        embedding = target.embedding
        found = {}
        if self.memory.step.keyed:
            parts = [self.memory.read_out(state, embedding)]
            if self.memory.step.induces:
                found["attention"], attended = self._attend(state[CHANNEL_OUTPUT], target, training)
                parts.append(attended)
            written = tf.reduce_mean(state[WRITTEN], 1)[:, tf.newaxis]
            parts.append(tf.cast(written, embedding.dtype) * embedding)
        else:
            last = tf.repeat(state[CONTROLLER][:, tf.newaxis], tf.shape(embedding)[1], axis=1)
            found["attention"], attended = self._attend(state[MEMORY], target, training)
            parts = [last, attended]
        parts = [tf.cast(part, embedding.dtype) for part in parts]
        return {"interest": tf.concat(parts, -1), **found}

    def auxiliary_losses(self, state: State, history: History) -> dict[str, tf.Tensor]:
        """`utilization` and `auxiliary` [users], weighted, where there are such losses."""
        losses = {}
        if self.memory.step.balances:
            usage = state[USAGE]
            # The release takes the mean over users and slots, and divides by both once more.
            count = tf.cast(usage.shape[-1] ** 2 * tf.shape(usage)[0], usage.dtype)
            variance = ops.utilization_variance(usage)
            losses["utilization"] = self.utilization_weight * variance / count
        if self.auxiliary_loss is not None and history.negatives is not None:
            events, mask = padding_first(history.events, history.mask)
            negatives, _ = padding_first(history.negatives, history.mask)
            _, traces = self.memory(events, mask, traced=[OUTPUT])
            # The state of the padding before the first event has to foresee it too.
            pairs = mask | tf.concat([mask[:, 1:], tf.zeros_like(mask[:, :1])], 1)
            losses["auxiliary"] = self.auxiliary_loss(traces[OUTPUT], events, negatives, pairs)
        return losses

    def _attend(
        self, values: tf.Tensor, target: Target, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Attention of the candidates over slots or channels, and what they read."""
        values = tf.cast(values, target.embedding.dtype)
        slots = tf.ones(tf.shape(values)[:2], tf.bool)
        weights = self.attention(
            target.embedding, values, slots, query_mask=target.mask, training=training
        )
        return weights, attend(weights, values)

    def get_config(self) -> dict[str, Any]:
        serialize, loss = tf.keras.layers.serialize, self.auxiliary_loss
        return {
            **super().get_config(),
            "memory": serialize(self.memory),
            "utilization_weight": self.utilization_weight,
            "auxiliary_loss": None if loss is None else serialize(loss),
        }
