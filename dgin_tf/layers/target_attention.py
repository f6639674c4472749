"""Target attention of DIN (Zhou et al., 2018), section 4.3: the relevance of past events to a candidate.

DIN, Eq. (3): the interest in candidate A is v_U(A) = sum_j a(e_j, v_A) e_j. The activation unit a(.)
is a small network on [v_A, e_j, v_A - e_j, v_A * e_j] that ends in one number. The paper does not
normalize the weights, so that their sum carries the intensity of the interest; the authors' code
takes a softmax over time, which loses it. The paper's text calls the interaction an "out product";
its figure and every implementation take the element-wise product, and so does this one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.activations import ActivationSpec, PReLU, make_activation
from dgin_tf.layers.configured import ConfiguredLayer, KernelLayer, as_layer
from dgin_tf.layers.events import EVENTS, MASK, History, State, Target, append_in_time
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.ops import masking


def pairwise_dense(
    query: tf.Tensor, keys: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor
) -> tf.Tensor:
    """[q, k, q - k, q * k] @ kernel + bias for every pair of a query and a key of one user.

    The kernel's four blocks W_q, W_k, W_d, W_p let the product be regrouped as

        k (W_k - W_d + diag(q) W_p) + q (W_q + W_d) + bias,

    one matrix per candidate for all of its user's events, so that no tensor of width 4 dim is built.
    The term q (W_q + W_d) + bias is the same for all events: it becomes the last row of that matrix,
    and k gets a last column of ones, which saves a pass over the result in both directions.

    Args:
      query: [users, candidates, dim].
      keys: [users, time, dim].
      kernel: [4 * dim, units], rows in the order q, k, q - k, q * k.
      bias: [units].

    Returns:
      [users, candidates, time, units].
    """
    query_rows, key_rows, difference_rows, product_rows = tf.split(kernel, 4)
    # [users, candidates, dim, units]
    by_candidate = (key_rows - difference_rows) + query[..., tf.newaxis] * product_rows
    constant = tf.matmul(query, query_rows + difference_rows) + bias
    # [users, candidates, dim + 1, units]
    by_candidate = tf.concat([by_candidate, constant[:, :, tf.newaxis]], axis=2)
    keys = tf.concat([keys, tf.ones_like(keys[..., :1])], axis=-1)
    return tf.matmul(keys[:, tf.newaxis], by_candidate)


class ActivationUnit(KernelLayer):
    """DIN's a(e_j, v_A), figure 2: [q, k, q - k, q * k] -> hidden layers -> one number.

    The first layer's weights are one kernel [4 * dim, units] as in every published implementation,
    but the product is computed without the four-fold features (see `pairwise_dense`).

    Args:
      units: widths of the hidden layers; (36,) in the paper's figure.
      activation: of the hidden layers, see `make_activation`. The paper has PReLU or Dice.
      kernel_initializer, kernel_regularizer: of all dense layers.

    Raises:
      ValueError: `units` is empty, or query and keys have different widths.

    Example:

      >>> unit = ActivationUnit((8,))
      >>> unit(tf.random.normal([2, 3, 4]), tf.random.normal([2, 5, 4])).shape
      TensorShape([2, 3, 5])
    """

    def __init__(
        self,
        units: Sequence[int] = (36,),
        activation: ActivationSpec = "dice",
        **kwargs: Any,
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
            tf.keras.layers.Dense(width, name=f"dense{layer}", dtype=policy, **self.kernel_config)
            for layer, width in enumerate((*self.units[1:], 1), start=2)
        ]

    def build(self, input_shape):
        dim = tf.TensorShape(input_shape)[-1]
        # Rows in the order q, k, q - k, q * k, as in the published implementations.
        self.kernel = self.add_kernel("dense1/kernel", [4 * dim, self.units[0]])
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
                f"{keys.shape[-1]}. Make the keys as wide, as by a GRU's units, or pass the attention "
                f"ProjectedAttention({keys.shape[-1]}), which projects queries."
            )
        # [users, candidates, time, units]
        kernel, bias = map(tf.convert_to_tensor, (self.kernel, self.bias))
        hidden = pairwise_dense(query, tf.cast(keys, query.dtype), kernel, bias)
        pairs = tf.shape(hidden)[:-1]
        if mask is not None:
            mask = tf.reshape(tf.broadcast_to(mask, pairs), [-1])
        # [users * candidates * time, units], since dense layers on matrices are fastest.
        hidden = tf.reshape(hidden, [-1, self.units[0]])
        for activation, dense in zip(self.activations, self.dense, strict=True):
            hidden = dense(activation(hidden, mask=mask, training=training))
        return tf.reshape(hidden, pairs)


class QueryProjection(KernelLayer):
    """Dense layer and PReLU that bring a query to the width of the keys (`fcn` in the authors' DIEN).

    Args:
      dim: width of the keys.
      kernel_initializer, kernel_regularizer: of the dense layer.

    Example:

      >>> QueryProjection(4)(tf.random.normal([2, 3, 6])).shape
      TensorShape([2, 3, 4])
    """

    def __init__(self, dim: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.dim = dim
        self.dense = tf.keras.layers.Dense(
            dim, name="dense", dtype=self.dtype_policy, **self.kernel_config
        )
        self.prelu = PReLU(name="prelu", dtype=self.dtype_policy)

    def call(self, query):
        """Projects queries.

        Args:
          query: [users, candidates, query_dim].

        Returns:
          [users, candidates, dim].
        """
        return self.prelu(self.dense(query))


class TargetAttention(ConfiguredLayer):
    """Weights of past events for each candidate, by an activation unit.

    Args:
      unit: the scoring network, an `ActivationUnit` or any layer with its call; None for the
        paper's.
      softmax: whether the weights are normalized over time. DIN's are not; DIEN's are, and those of
        the authors' DIN.
      scale: whether scores are divided by sqrt(dim) before the softmax, as in DIN's demo code.

    Example:

      >>> layer = TargetAttention(softmax=True)
      >>> query, keys = tf.random.normal([2, 3, 4]), tf.random.normal([2, 5, 4])
      >>> layer(query, keys, mask=tf.constant([[True] * 5, [True] * 2 + [False] * 3])).shape
      TensorShape([2, 3, 5])
    """

    def __init__(
        self,
        unit: tf.keras.layers.Layer | None = None,
        softmax: bool = False,
        scale: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.unit = as_layer(unit) or ActivationUnit(name="unit", dtype=self.dtype_policy)
        self.softmax = softmax
        self.scale = scale

    def call(self, query, keys, mask=None, query_mask=None, training=False):
        """Attention of every candidate over its user's history.

        Args:
          query: candidates, [users, candidates, query_dim].
          keys: events or states, [users, time, dim].
          mask: True where the event is real, bool [users, time]; None where all are.
          query_mask: True where the candidate is real, bool [users, candidates]; keeps padded
            candidates out of batch statistics. None where all are.
          training: whether Dice uses the statistics of this batch.

        Returns:
          Weights [users, candidates, time] in float32, exactly zero where the event is masked; with
          `softmax` they sum to one over time, or to zero for an empty history.
        """
        if mask is None:
            mask = tf.ones(tf.shape(keys)[:2], tf.bool)
        mask = mask[:, tf.newaxis, :]  # [users, 1, time]
        # Padded candidates have scores too, but no part in Dice's statistics.
        pairs = mask if query_mask is None else mask & query_mask[:, :, tf.newaxis]
        scores = self.unit(query, keys, mask=pairs, training=training)
        scores = tf.cast(scores, masking.accumulation_dtype(scores.dtype))  # softmax in float32
        if self.scale:
            scores /= tf.sqrt(tf.cast(keys.shape[-1], scores.dtype))
        if self.softmax:
            return masking.masked_softmax(scores, mask)
        return tf.where(mask, scores, tf.zeros([], scores.dtype))


def sigmoid_attention(units: Sequence[int], name: str, dtype: Any = None) -> TargetAttention:
    """Attention by a sigmoid unit and a softmax over time, as the authors' codes have it."""
    unit = ActivationUnit(units, "sigmoid", name="unit", dtype=dtype)
    return TargetAttention(unit, softmax=True, name=name, dtype=dtype)


def attend(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Eq. (3): sum over time of weight times value.

    Args:
      weights: [users, candidates, time], zero where the event is masked.
      values: [users, time, dim].

    Returns:
      [users, candidates, dim] in the type of `values`.
    """
    # [users, candidates, time] x [users, time, dim]: all candidates of a user in one product.
    return tf.matmul(tf.cast(weights, values.dtype), values)


def read_each(
    layers: Mapping[str, tuple[tf.keras.layers.Layer, tf.Tensor]],
    mask: tf.Tensor | None,
    target: Target,
    training: bool,
) -> State:
    """Eq. (3) for several representations of the same events, each with an attention of its own.

    Args:
      layers: name of the weights -> attention, and the events it attends to, [users, time, dim].
      mask: True where the event is real, bool [users, time]; None where all are.
      target: the candidates.
      training: whether this is a step of training.

    Returns:
      `interest`, the results side by side, [users, candidates, dim of all], and the weights by their
      names, [users, candidates, time].
    """
    outputs, parts = {}, []
    for name, (attention, events) in layers.items():
        weights = attention(
            target.embedding, events, mask, query_mask=target.mask, training=training
        )
        outputs[name] = weights
        parts.append(attend(weights, events))
    return {**outputs, "interest": tf.concat(parts, axis=-1)}


class AttendedHistory(InterestEncoder):
    """DIN's interest: the embedded history is the state, target attention reads it per candidate.

    State: `events` [users, time, dim] and `mask` bool [users, time].

    Args:
      attention: a `TargetAttention`; None for the paper's.

    Example:

      >>> events, mask = tf.random.normal([2, 5, 4]), tf.constant([[True] * 5, [True] * 2 + [False] * 3])
      >>> outputs = AttendedHistory()(tf.random.normal([2, 3, 4]), (events, mask))
      >>> outputs["interest"].shape, outputs["attention"].shape
      (TensorShape([2, 3, 4]), TensorShape([2, 3, 5]))
    """

    def __init__(self, attention: TargetAttention | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.attention = as_layer(attention) or TargetAttention(
            name="attention", dtype=self.dtype_policy
        )

    def encode(self, history: History, training: bool = False) -> State:
        """Stores the embedded events and their mask."""
        return {EVENTS: history.events, MASK: history.mask}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Eq. (3).

        Returns:
          `interest` [users, candidates, dim] and `attention` [users, candidates, time].
        """
        layers = {"attention": (self.attention, state[EVENTS])}
        return read_each(layers, state[MASK], target, training)

    def update(self, state: State, history: History) -> State:
        """Appends newer events."""
        return append_in_time(state, self.encode(history))
