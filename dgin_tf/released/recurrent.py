"""The recurrent cells of DIEN's released code (mouna99/dien, TensorFlow 1).

Three things differ from the paper's cells in `dgin_tf.layers.recurrent`: the reset gate acts on the
state before the recurrent product (Eq. 5 prints it after), gate biases start at one, and AUGRU's
attention scales the keep gate. The released AGRU allocates weights of an update gate that nothing
reads; this one does not.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.recurrent import AGRU, AIGRU, AUGRU, GRU, _GatedRecurrence


class _TensorFlow1Cell(_GatedRecurrence):
    """Defaults and initial biases of TensorFlow 1's GRUCell."""

    def __init__(
        self,
        units: int,
        reset_after: bool = False,
        recurrent_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(
            units, reset_after=reset_after, recurrent_initializer=recurrent_initializer, **kwargs
        )

    def _initial_bias(self, shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        return gate_biases(self.units, self.has_update_gate, dtype)


def gate_biases(units: int, has_update_gate: bool = True, dtype: Any = None) -> tf.Tensor:
    """Initial biases of update, reset and candidate, [3 units]; [2 units] without an update gate.

    TensorFlow's gates start at one. Its update gate keeps, and ours writes: one becomes minus one.
    """
    ones = tf.ones([units], dtype)
    update = [-ones] if has_update_gate else []
    return tf.concat([*update, ones, tf.zeros([units], dtype)], 0)


class ReleasedGRU(_TensorFlow1Cell, GRU):
    """GRUCell of TensorFlow 1, the released interest extractor.

    Example:

      >>> states, last = ReleasedGRU(4)(tf.random.normal([2, 5, 3]))
      >>> states.shape, last.shape
      (TensorShape([2, 5, 4]), TensorShape([2, 4]))
    """


class ReleasedAIGRU(_TensorFlow1Cell, AIGRU):
    """Eq. (10) with a GRUCell of TensorFlow 1.

    Example:

      >>> layer = ReleasedAIGRU(4)
      >>> layer(tf.random.normal([2, 5, 3]), tf.random.uniform([2, 7, 5])).shape
      TensorShape([2, 7, 4])
    """


class ReleasedAGRU(_TensorFlow1Cell, AGRU):
    """The released QAAttGRUCell, Eq. (11).

    Example:

      >>> layer = ReleasedAGRU(4)
      >>> layer(tf.random.normal([2, 5, 3]), tf.random.uniform([2, 7, 5])).shape
      TensorShape([2, 7, 4])
    """


class ReleasedAUGRU(_TensorFlow1Cell, AUGRU):
    """The released VecAttGRUCell, whose attention scales the keep gate: (1 - a_t)(1 - u_t).

    At a_t = 0 it is a plain GRU step, where the paper's AUGRU leaves the state as it is.

    Example:

      >>> layer = ReleasedAUGRU(4)
      >>> layer(tf.random.normal([2, 5, 3]), tf.random.uniform([2, 7, 5])).shape
      TensorShape([2, 7, 4])
    """

    def _steps(self, inputs, scores, mask):
        return self._project(inputs), keep_gate(scores * mask, mask)


def keep_gate(scores: tf.Tensor, mask: tf.Tensor | float = 1.0) -> tuple[tf.Tensor, tf.Tensor]:
    """Scale and floor of an update gate u for which 1 - write = (1 - a_t)(1 - u).

    Args:
      scores: a_t of any shape, zero where masked.
      mask: ones, and zeros where the state is to pass through; broadcasts to `scores`.
    """
    return mask - scores, scores
