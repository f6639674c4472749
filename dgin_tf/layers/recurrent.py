"""GRU, AIGRU, AGRU and AUGRU of DIEN (Zhou et al., 2019), Eqs. (3)-(6) and (10)-(13), as layers.

The formulas are in `dgin_tf.ops.recurrence`; a layer here is its weights. The GRU reads one history
per user. The other three read the interest states of a user once, and evolve them for every
candidate under that candidate's attention scores: the product with the input kernel is computed
once per user, however many candidates there are.

The cells of the authors' code are subclasses in `dgin_tf.released.recurrent`.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import KernelLayer
from dgin_tf.ops.compiling import should_compile
from dgin_tf.ops.fast.recurrence import fast_recurrence
from dgin_tf.ops.recurrence import RecurrentWeights


class _GatedRecurrence(KernelLayer):
    """Weights of a gated recurrence and the projection of its inputs.

    Args:
      units: width of the state, n_H.
      reset_after: whether the reset gate acts after the recurrent product, as Eq. (5) prints it.
      recurrent_bias: whether the recurrent product has a bias of its own, as PyTorch's cells do;
        only with `reset_after`.
      kernel_initializer, recurrent_initializer: of the input kernel and the recurrent kernel.
      kernel_regularizer: of the input kernel.
      jit_compile: whether XLA compiles the loop, anew for each shape; None for the rule of
        `dgin_tf.ops.compiling`.

    Raises:
      ValueError: a recurrent bias without `reset_after`.
    """

    has_update_gate = True

    def __init__(
        self,
        units: int,
        reset_after: bool = True,
        recurrent_bias: bool = False,
        recurrent_initializer: Any = "orthogonal",
        jit_compile: bool | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if recurrent_bias and not reset_after:
            raise ValueError(
                "recurrent_bias needs reset_after=True: with the reset gate before the product a "
                "second bias would only add to the first."
            )
        self.units = units
        self.reset_after = reset_after
        self.recurrent_bias = recurrent_bias
        self.recurrent_initializer = tf.keras.initializers.get(recurrent_initializer)
        self.jit_compile = jit_compile

    def build(self, input_shape: Any) -> None:
        # Gates side by side: update (where there is one), reset, candidate.
        width = self.units * (3 if self.has_update_gate else 2)
        self._kernel = self.add_kernel("kernel", [input_shape[-1], width])
        self._bias = self.add_float_weight("bias", [width], self._initial_bias)
        self._recurrent_kernel = self.add_float_weight(
            "recurrent_kernel", [self.units, width], self.recurrent_initializer
        )
        self._recurrent_bias = None
        if self.recurrent_bias:
            self._recurrent_bias = self.add_float_weight("recurrent_bias", [width], "zeros")
        super().build(input_shape)

    @property
    def _state_dtype(self) -> tf.DType:
        """States add up over time, so they stay float32 under a half-precision policy."""
        return tf.float64 if self.compute_dtype == "float64" else tf.float32

    def _initial_bias(self, shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        return tf.zeros(shape, dtype)

    def _project(self, inputs: tf.Tensor, scale: tf.Tensor | None = None) -> tf.Tensor:
        """W (scale * i_t) + b: [users, time, gates], or [users, candidates, time, gates] if scaled."""
        projected_inputs = tf.cast(tf.tensordot(inputs, self._kernel, 1), self._state_dtype)
        if scale is not None:
            # A factor of the inputs is one of their projection: one product for all candidates.
            projected_inputs = projected_inputs[:, tf.newaxis] * scale[..., tf.newaxis]
        return projected_inputs + self._bias

    def _run(
        self,
        projected_inputs: tf.Tensor,
        gate: tuple[tf.Tensor, tf.Tensor | None],
        initial_state: tf.Tensor | None,
        return_states: bool,
        training: bool,
    ) -> tuple[Any, tf.Tensor]:
        if initial_state is None:
            shape = tf.concat([tf.shape(gate[0])[:2], [self.units]], 0)
            initial_state = tf.ensure_shape(
                tf.zeros(shape, self._state_dtype), [*gate[0].shape[:2], self.units]
            )
        kernel, bias = tf.convert_to_tensor(self._recurrent_kernel), self._recurrent_bias
        bias = None if bias is None else tf.convert_to_tensor(bias)
        weights = RecurrentWeights(kernel, bias, self.reset_after)
        jit_compile = self.jit_compile
        if jit_compile is None:
            jit_compile = should_compile(gate[0].shape[:2].num_elements(), training)
        states, last = fast_recurrence(
            projected_inputs,
            gate,
            tf.cast(initial_state, self._state_dtype),
            weights,
            return_states=return_states,
            jit_compile=jit_compile,
        )
        if states is not None:
            states = tf.cast(states, self.compute_dtype)
        return states, tf.cast(last, self.compute_dtype)


class GRU(_GatedRecurrence):
    """The interest extractor's GRU, Eqs. (3)-(6); h_t is the interest state after event t.

    Keras's own GRU keeps where this update gate writes, and its two biases train where Eq. (5) has
    one; with masks on the left it falls back to a slow loop.

    Example:

      >>> states, last = GRU(4)(tf.random.normal([2, 5, 3]))
      >>> states.shape, last.shape
      (TensorShape([2, 5, 4]), TensorShape([2, 4]))
    """

    def call(
        self,
        inputs: tf.Tensor,
        mask: tf.Tensor | None = None,
        initial_state: tf.Tensor | None = None,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Calculates the interest states of a history.

        Args:
          inputs: i_t, [users, time, dim].
          mask: True where the step is real, bool [users, time]; padding, on whichever side, passes
            the state through. None where all are.
          initial_state: h_0, [users, units]; zeros where None.
          training: whether this is a training step, which XLA may compile; see `jit_compile`.

        Returns:
          All states [users, time, units] and the last one [users, units].
        """
        if mask is None:
            mask = tf.ones(tf.shape(inputs)[:2], tf.bool)
            mask = tf.ensure_shape(mask, inputs.shape[:2])
        scale = tf.cast(mask, self._state_dtype)[:, tf.newaxis]
        if initial_state is not None:
            initial_state = initial_state[:, tf.newaxis]
        states, last = self._run(
            self._project(inputs), (scale, None), initial_state, True, training
        )
        return states[:, 0], last[:, 0]


class _InterestEvolvingCell(_GatedRecurrence):
    """A recurrence over a user's interest states under each candidate's attention scores."""

    def call(
        self,
        inputs: tf.Tensor,
        scores: tf.Tensor,
        mask: tf.Tensor | None = None,
        initial_state: tf.Tensor | None = None,
        return_states: bool = False,
        training: bool = False,
    ) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """Evolves the interests of every user towards each of the candidates.

        Args:
          inputs: interest states i'_t = h_t, [users, time, dim].
          scores: attention a_t in [0, 1], [users, candidates, time].
          mask: True where the event is real, bool [users, time]; None where all are.
          initial_state: h'_0, [users, candidates, units]; zeros where None.
          return_states: whether all states are wanted.
          training: whether this is a training step, which XLA may compile; see `jit_compile`.

        Returns:
          The final interest h'_T, [users, candidates, units]; with `return_states` first all
          states, [users, candidates, time, units].
        """
        scores = tf.cast(scores, self._state_dtype)
        if mask is None:
            mask = tf.ones_like(scores[:, :1], tf.bool)[:, 0]
        mask = tf.cast(mask, scores.dtype)[:, tf.newaxis]
        projected_inputs, gate = self._steps(inputs, scores, mask)
        states, last = self._run(projected_inputs, gate, initial_state, return_states, training)
        return (states, last) if return_states else last

    def _steps(
        self, inputs: tf.Tensor, scores: tf.Tensor, mask: tf.Tensor
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor | None]]:
        """Projected inputs, and scale and floor of the update gate [users, candidates, time].

        Args:
          inputs: [users, time, dim].
          scores: [users, candidates, time].
          mask: ones and zeros, [users, 1, time].
        """
        return self._project(inputs), (scores * mask, None)


class AIGRU(_InterestEvolvingCell):
    """GRU with attentional input, Eq. (10): i'_t = a_t h_t.

    A zero score still moves the state, through biases and the recurrent product; that is the
    weakness which the paper's AUGRU removes.

    Example:

      >>> layer = AIGRU(4)
      >>> layer(tf.random.normal([2, 5, 3]), tf.random.uniform([2, 7, 5])).shape
      TensorShape([2, 7, 4])
    """

    def _steps(self, inputs, scores, mask):
        return self._project(inputs, scores), (mask * tf.ones_like(scores), None)


class AGRU(_InterestEvolvingCell):
    """Attention based GRU, Eq. (11): a_t takes the place of the update gate, which has no weights.

    Example:

      >>> layer = AGRU(4)
      >>> layer(tf.random.normal([2, 5, 3]), tf.random.uniform([2, 7, 5])).shape
      TensorShape([2, 7, 4])
    """

    has_update_gate = False


class AUGRU(_InterestEvolvingCell):
    """GRU with attentional update gate, Eqs. (12), (13): a_t scales every dimension of the gate.

    With softmax scores over a hundred events a_t is about 0.01 and the state moves little.

    Example:

      >>> layer = AUGRU(4)
      >>> layer(tf.random.normal([2, 5, 3]), tf.random.uniform([2, 7, 5])).shape
      TensorShape([2, 7, 4])
    """
