"""Memories of a fixed size as layers: weights, a state, and a loop over the events."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import KernelLayer
from dgin_tf.layers.events import History, State
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.ops.compiling import should_compile
from dgin_tf.ops.fast.scan import fast_scan
from dgin_tf.ops.ntm import GRUWeights, LinearWeights, Step


class RecurrentMemory(KernelLayer):
    """A recurrent layer whose state is a dict of tensors that does not grow with the history.

    Subclasses build weights and give the step, its weights and the state before any event. States add
    up over time, so they and all weights stay float32 under a half-precision policy.

    Example:

      >>> def add(state, values, weights):
      ...     event, real = values
      ...     return {"sum": state["sum"] + real[:, tf.newaxis] * event}
      >>> class Sum(RecurrentMemory):
      ...     step = staticmethod(add)
      ...     def step_weights(self):
      ...         return ()
      ...     def initial_state(self, users):
      ...         return {"sum": tf.zeros([users, 3])}
      >>> state, _ = Sum()(tf.ones([2, 7, 3]))
      >>> state["sum"][0].numpy().tolist()
      [7.0, 7.0, 7.0]
    """

    step: Step
    """Reads one event, see `dgin_tf.ops.ntm.scan`; subclasses set it."""

    def step_weights(self) -> Any:
        """The weights of the step, as tensors."""
        raise NotImplementedError

    def initial_state(self, users: tf.Tensor | int) -> State:
        """The state before any event, name -> [users, ...]."""
        raise NotImplementedError

    @property
    def trace_shapes(self) -> dict[str, list[int]]:
        """Shapes, without users, of a step's results beyond the state, which `traces` may name."""
        return {}

    def call(
        self,
        inputs: tf.Tensor,
        mask: tf.Tensor | None = None,
        initial_state: State | None = None,
        traces: Sequence[str] = (),
        training: bool = False,
    ) -> tuple[State, State]:
        """Reads a sequence of events.

        Args:
          inputs: e_t, [users, time, event dim].
          mask: True where the event is real, bool [users, time]; None where all are.
          initial_state: a state to go on from, in which other names are ignored; None for the one
            before any event.
          traces: names of the results to return for every step.
          training: whether this is a training step, which XLA may compile and whose forward pass
            keeps what the gradient needs.

        Returns:
          The state after the last event, name -> [users, ...], and the traces, name -> [users, time,
          ...].
        """
        inputs = tf.cast(inputs, self._state_dtype)
        if mask is None:
            mask = tf.ensure_shape(tf.ones(tf.shape(inputs)[:2], tf.bool), inputs.shape[:2])
        state = self.initial_state(tf.shape(inputs)[0])
        names = tuple(state)
        if initial_state is not None:
            state = {name: initial_state[name] for name in names}
        state = {name: tf.cast(value, self._state_dtype) for name, value in state.items()}
        # Results that are not of the state join it, from where all traces are taken.
        for name in set(traces) - set(state):
            shape = tf.concat([tf.shape(inputs)[:1], self.trace_shapes[name]], 0)
            state[name] = tf.zeros(shape, self._state_dtype)
        state = {
            name: tf.ensure_shape(value, [inputs.shape[0], *value.shape[1:]])
            for name, value in state.items()
        }
        last, histories = fast_scan(
            self.step,
            state,
            (inputs, tf.cast(mask, inputs.dtype)),
            self.step_weights(),
            traces,
            keep_states=training,
            jit_compile=should_compile(inputs.shape[0], training),
        )
        return {name: last[name] for name in names}, histories

    @property
    def _state_dtype(self) -> tf.DType:
        return tf.float64 if self.compute_dtype == "float64" else tf.float32


class _MemoryEncoder(InterestEncoder):
    """An encoder whose state is a memory; subclasses set `memory` and read it by a candidate."""

    memory: RecurrentMemory

    def encode(self, history: History, training: bool = False) -> State:
        """Reads the events into the memory as it is before any."""
        return self.memory(history.events, history.mask, training=training)[0]

    def update(self, state: State, history: History) -> State:
        """Reads newer events into a stored memory."""
        return self.memory(history.events, history.mask, state)[0]


def add_gru(
    layer: KernelLayer,
    dim: int,
    units: int,
    prefix: str = "",
    recurrent_initializer: Any = "orthogonal",
    bias_initializer: Any = "zeros",
) -> GRUWeights:
    """Adds the weights of a GRU to a layer, by whose arguments the kernel starts.

    Args:
      layer: owns the variables.
      dim, units: widths of inputs and state.
      prefix: of the variables' names.
      recurrent_initializer, bias_initializer: of recurrent kernel and bias.
    """
    width, recurrent = 3 * units, prefix + "recurrent_kernel"
    return GRUWeights(
        layer.add_kernel(prefix + "kernel", [dim, width], experimental_autocast=False),
        layer.add_float_weight(recurrent, [units, width], recurrent_initializer),
        layer.add_float_weight(prefix + "bias", [width], bias_initializer),
    )


def add_linear(layer: KernelLayer, dim: int, units: int, prefix: str = "") -> LinearWeights:
    """Adds kernel and bias of a linear layer, as `add_gru`."""
    return LinearWeights(
        layer.add_kernel(prefix + "kernel", [dim, units], experimental_autocast=False),
        layer.add_float_weight(prefix + "bias", [units], "zeros"),
    )


def repeat_for_users(value: tf.Tensor, users: tf.Tensor | int) -> tf.Tensor:
    """[...] -> [users, ...]."""
    return tf.repeat(value[tf.newaxis], users, axis=0)
