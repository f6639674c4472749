"""Target attention of DIN (Zhou et al., 2018): how much of a history speaks for a candidate.

DIN, Eq. (3): the interest in candidate A is v_U(A) = sum_j a(e_j, v_A) e_j. The activation unit a(.)
is a small network on [v_A, e_j, v_A - e_j, v_A * e_j] that ends in one number. The paper leaves the
weights as they are, so that their sum carries the intensity of the interest; the released code takes
a softmax over time, which forgets it. The paper's text calls the interaction an "out product"; its
figure and every implementation take the element-wise product, and so does this one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.activations import (
    ActivationSpec,
    PReLU,
    activation_config,
    make_activation,
)
from dgin_tf.layers.events import History, State, Target
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.ops import masking


def pairwise_dense(
    query: tf.Tensor, keys: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor
) -> tf.Tensor:
    """[q, k, q - k, q * k] @ kernel + bias for every pair of a query and a key of one user.

    The kernel's four blocks W_q, W_k, W_d, W_p let the product be regrouped as

        k (W_k - W_d + diag(q) W_p) + q (W_q + W_d) + bias,

    one matrix per candidate for all of its user's events, so that nothing of width 4 dim is built.
    What stands behind k is the same for all events; it becomes a last row of that matrix, against a
    last column of ones in k, so that neither it nor its gradient passes over the result again.

    Args:
      query: [users, candidates, dim].
      keys: [users, time, dim].
      kernel: [4 * dim, units], rows in the order q, k, q - k, q * k.
      bias: [units].

    Returns:
      [users, candidates, time, units].
    """
    query_rows, key_rows, difference_rows, product_rows = tf.split(kernel, 4)
    by_candidate = (key_rows - difference_rows) + query[..., tf.newaxis] * product_rows
    constant = tf.matmul(query, query_rows + difference_rows) + bias
    by_candidate = tf.concat([by_candidate, constant[:, :, tf.newaxis]], axis=2)
    keys = tf.concat([keys, tf.ones_like(keys[..., :1])], axis=-1)
    return tf.matmul(keys[:, tf.newaxis], by_candidate)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ActivationUnit(tf.keras.layers.Layer):
    """DIN's a(e_j, v_A), figure 2: [q, k, q - k, q * k] -> hidden layers -> one number.

    The first layer's weights are one kernel [4 * dim, units] as in every published implementation,
    but the product is computed without the four-fold features (see `pairwise_dense`).

    Args:
      units: widths of the hidden layers. The paper's figure has (36,), the released code (80, 40).
      activation: of the hidden layers, see `make_activation`. The paper has PReLU or Dice, the
        released code "sigmoid".

    Raises:
      ValueError: `units` is empty, or query and keys have different widths.
    """

    def __init__(
        self, units: Sequence[int] = (36,), activation: ActivationSpec = "dice", **kwargs: Any
    ):
        super().__init__(**kwargs)
        if not units:
            raise ValueError("ActivationUnit needs at least one hidden layer; got units=().")
        self.units = tuple(units)
        self.activation = activation
        policy = self.dtype_policy
        self.activations = [
            make_activation(activation, f"activation{layer}", policy)
            for layer in range(1, len(units) + 1)
        ]
        self.dense = [
            tf.keras.layers.Dense(width, name=f"dense{layer}", dtype=policy)
            for layer, width in enumerate((*self.units[1:], 1), start=2)
        ]

    def build(self, input_shape):
        dim = tf.TensorShape(input_shape)[-1]
        self.kernel = self.add_weight("dense1/kernel", [4 * dim, self.units[0]])
        self.bias = self.add_weight("dense1/bias", [self.units[0]], initializer="zeros")
        super().build(input_shape)

    def call(self, query, keys, mask=None, training=False):
        """Scores every event for every candidate of its user.

        Args:
          query: v_A, [users, candidates, dim].
          keys: e_j, [users, time, dim].
          mask: which pairs are real, bool, broadcastable to [users, candidates, time]; it restricts
            the activations' batch statistics, not the scores. None where all are.
          training: whether the activations use the statistics of this batch.

        Returns:
          Scores [users, candidates, time]; those of masked pairs mean nothing.
        """
        if query.shape[-1] != keys.shape[-1]:
            raise ValueError(
                f"ActivationUnit compares queries and keys of one width; got {query.shape[-1]} and "
                f"{keys.shape[-1]}. Project the query first (QueryProjection)."
            )
        hidden = pairwise_dense(
            query,
            tf.cast(keys, query.dtype),
            tf.convert_to_tensor(self.kernel),
            tf.convert_to_tensor(self.bias),
        )
        pairs = tf.shape(hidden)[:-1]
        if mask is not None:
            mask = tf.reshape(tf.broadcast_to(mask, pairs), [-1])
        hidden = tf.reshape(hidden, [-1, self.units[0]])
        for activation, dense in zip(self.activations, self.dense, strict=True):
            hidden = dense(activation(hidden, mask=mask, training=training))
        return tf.reshape(hidden, pairs)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": activation_config(self.activation),
        }


@tf.keras.utils.register_keras_serializable("dgin_tf")
class QueryProjection(tf.keras.layers.Layer):
    """Dense layer and PReLU that bring a query to the width of the keys (released DIEN, `fcn`).

    Args:
      dim: width of the keys.
    """

    def __init__(self, dim: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.dim = dim
        self.dense = tf.keras.layers.Dense(dim, name="dense", dtype=self.dtype_policy)
        self.prelu = PReLU(name="prelu", dtype=self.dtype_policy)

    def call(self, query):
        """[users, candidates, query_dim] -> [users, candidates, dim]."""
        return self.prelu(self.dense(query))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim}


@tf.keras.utils.register_keras_serializable("dgin_tf")
class TargetAttention(tf.keras.layers.Layer):
    """Weights of past events for each candidate, by an activation unit.

    Args:
      unit: the scoring network, an `ActivationUnit` or any layer with its call; None for the
        paper's.
      softmax: whether the weights are normalized over time. DIN's are not; DIEN's, and those of
        DIN's released code, are.
      scale: whether scores are divided by sqrt(dim) before the softmax, as in DIN's demo code.
    """

    def __init__(
        self,
        unit: tf.keras.layers.Layer | None = None,
        softmax: bool = False,
        scale: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if isinstance(unit, dict):
            unit = tf.keras.layers.deserialize(unit)
        self.unit = ActivationUnit(name="unit", dtype=self.dtype_policy) if unit is None else unit
        self.softmax = softmax
        self.scale = scale

    def call(self, query, keys, mask, query_mask=None, training=False):
        """Attention of every candidate over its user's history.

        Args:
          query: candidates, [users, candidates, query_dim].
          keys: events or states, [users, time, dim].
          mask: True where the event is real, bool [users, time].
          query_mask: True where the candidate is real, bool [users, candidates]; keeps padded
            candidates out of batch statistics. None where all are.
          training: whether Dice uses the statistics of this batch.

        Returns:
          Weights [users, candidates, time] in float32, exactly zero where the event is masked; with
          `softmax` they sum to one over time, or to zero for an empty history.
        """
        mask = mask[:, tf.newaxis, :]
        pairs = mask if query_mask is None else mask & query_mask[:, :, tf.newaxis]
        scores = self.unit(query, keys, mask=pairs, training=training)
        scores = tf.cast(scores, masking.accumulation_dtype(scores.dtype))
        if self.scale:
            scores /= tf.sqrt(tf.cast(keys.shape[-1], scores.dtype))
        if self.softmax:
            return masking.masked_softmax(scores, mask)
        return tf.where(mask, scores, tf.zeros([], scores.dtype))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "unit": tf.keras.layers.serialize(self.unit),
            "softmax": self.softmax,
            "scale": self.scale,
        }


def attend(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Eq. (3): sum over time of weight times value.

    Args:
      weights: [users, candidates, time], zero where the event is masked.
      values: [users, time, dim].

    Returns:
      [users, candidates, dim] in the type of `values`.
    """
    return tf.matmul(tf.cast(weights, values.dtype), values)


def read_each(
    layers: Mapping[str, tuple[TargetAttention, tf.Tensor]],
    mask: tf.Tensor,
    target: Target,
    training: bool,
) -> State:
    """Eq. (3) of several readings of the same events, each with an attention of its own.

    Args:
      layers: name of the weights -> attention, and the events as it reads them, [users, time, dim].
      mask: True where the event is real, bool [users, time].
      target: the candidates.
      training: whether this is a step of training.

    Returns:
      `interest` [users, candidates, dim of all readings side by side], and the weights by their names,
      [users, candidates, time].
    """
    outputs, parts = {}, []
    for name, (attention, events) in layers.items():
        weights = attention(
            target.embedding, events, mask, query_mask=target.mask, training=training
        )
        outputs[name] = weights
        parts.append(attend(weights, events))
    return {**outputs, "interest": tf.concat(parts, axis=-1)}


@tf.keras.utils.register_keras_serializable("dgin_tf")
class AttendedHistory(InterestEncoder):
    """DIN's interest: the history itself is the state, attention reads it for each candidate.

    State: `events` [users, time, dim] and `mask` bool [users, time].

    Args:
      attention: a `TargetAttention`; None for the paper's.
    """

    def __init__(self, attention: TargetAttention | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if isinstance(attention, dict):
            attention = tf.keras.layers.deserialize(attention)
        self.attention = attention or TargetAttention(name="attention", dtype=self.dtype_policy)

    def encode(self, history: History, training: bool = False) -> State:
        """Keeps the embedded events and their mask."""
        del training
        return {"events": history.events, "mask": history.mask}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Eq. (3).

        Returns:
          `interest` [users, candidates, dim] and `attention` [users, candidates, time].
        """
        layers = {"attention": (self.attention, state["events"])}
        return read_each(layers, state["mask"], target, training)

    def update(self, state: State, history: History) -> State:
        """Appends newer events."""
        newer = self.encode(history)
        return {name: tf.concat([state[name], newer[name]], 1) for name in newer}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "attention": tf.keras.layers.serialize(self.attention)}
