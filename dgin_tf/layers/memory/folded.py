"""What memories of a fixed size share: weights by name, a state, and a fold over the events."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.events import State
from dgin_tf.ops import folding
from dgin_tf.ops.compiling import should_compile


class FoldedMemory(tf.keras.layers.Layer):
    """A recurrent layer whose state is a dict of tensors that does not grow with the history.

    Subclasses build their weights by `add_named`, and give the step, the state before any event and
    what a step reads. States add up over time, so they and all weights stay float32 under a
    half-precision policy.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._named: dict[str, tf.Variable] = {}

    @property
    def step(self) -> folding.Step:
        """The step of the fold."""
        raise NotImplementedError

    def initial_state(self, users: tf.Tensor | int) -> State:
        """The state before any event, name -> [users, ...]."""
        raise NotImplementedError

    @property
    def trace_shapes(self) -> dict[str, list[int]]:
        """Shapes, without users, of what a step computes beyond the state and `traced` may name."""
        return {}

    def call(
        self,
        inputs: tf.Tensor,
        mask: tf.Tensor | None = None,
        initial_state: State | None = None,
        traced: Sequence[str] = (),
        training: bool = False,
    ) -> tuple[State, State]:
        """Reads a sequence of events.

        Args:
          inputs: e_t, [users, time, event dim].
          mask: True where the event is real, bool [users, time]; None where all are.
          initial_state: a state to go on from, in which other names are ignored; None for the one
            before any event.
          traced: names of what is wanted after every step.
          training: whether this is a step of training, whose graphs XLA may compile and whose forward
            pass keeps what the gradient needs.

        Returns:
          The state after the last event, name -> [users, ...], and the traces, name -> [users, time,
          ...].
        """
        inputs = tf.cast(inputs, self._state_dtype)
        if mask is None:
            mask = tf.ensure_shape(tf.ones(tf.shape(inputs)[:2], tf.bool), inputs.shape[:2])
        sequences = inputs, tf.cast(mask, inputs.dtype)
        state = self.initial_state(tf.shape(inputs)[0])
        names = tuple(state)
        if initial_state is not None:
            state = {name: initial_state[name] for name in names}
        state = {name: tf.cast(value, self._state_dtype) for name, value in state.items()}
        for name in set(traced) - set(state):
            shape = tf.concat([tf.shape(inputs)[:1], self.trace_shapes[name]], 0)
            state[name] = tf.zeros(shape, self._state_dtype)
        state = {
            name: tf.ensure_shape(value, [inputs.shape[0], *value.shape[1:]])
            for name, value in state.items()
        }
        last, traces = folding.fold(
            self.step,
            state,
            sequences,
            self.tensors(),
            traced=traced,
            keeps_states=training,
            jit_compile=should_compile(inputs.shape[0], training),
        )
        return {name: last[name] for name in names}, traces

    def tensors(self) -> dict[str, tf.Tensor]:
        """The weights that steps share, by name."""
        return {name: tf.convert_to_tensor(value) for name, value in self._named.items()}

    def named(self, name: str) -> tf.Variable:
        """One of the weights that steps share."""
        return self._named[name]

    def add_named(self, name: str, shape: Sequence[int], initializer: Any, **kwargs: Any) -> None:
        """Adds a weight that steps share."""
        self._named[name] = self.add_weight(
            name, shape, initializer=initializer, experimental_autocast=False, **kwargs
        )

    def add_gru(self, name: str, dim: int, units: int, released: bool = False) -> None:
        """Adds the three weights of a GRU; initial values as in `dgin_tf.layers.recurrent`."""
        recurrent = "glorot_uniform" if released else "orthogonal"
        self.add_named(f"{name}/kernel", [dim, 3 * units], "glorot_uniform")
        self.add_named(f"{name}/recurrent_kernel", [units, 3 * units], recurrent)
        bias = tf.keras.initializers.Zeros()
        if released:  # gate biases of 1, where the update gate keeps
            bias = _constant([-1.0] * units + [1.0] * units + [0.0] * units)
        self.add_named(f"{name}/bias", [3 * units], bias)

    def add_linear(self, name: str, dim: int, units: int) -> None:
        """Adds kernel and bias of a linear layer."""
        self.add_named(f"{name}/kernel", [dim, units], "glorot_uniform")
        self.add_named(f"{name}/bias", [units], "zeros")

    @property
    def _state_dtype(self) -> tf.DType:
        return tf.float64 if self.compute_dtype == "float64" else tf.float32


def for_each_user(value: tf.Tensor, users: tf.Tensor | int) -> tf.Tensor:
    """The same for every user: [...] -> [users, ...]."""
    return tf.repeat(value[tf.newaxis], users, axis=0)


def _constant(values: list[float]) -> Any:
    return lambda shape, dtype=None, **kwargs: tf.constant(values, dtype, shape)
