"""The auxiliary loss of DIEN (Zhou et al., 2019), Eq. (7): each interest state predicts the next event.

The state after event t is scored against event t + 1 and against one sampled negative. The paper
scores by an inner product, which needs states as wide as events, and sums over time. `click_net`
scores states of any width.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import ConfiguredLayer, as_layer
from dgin_tf.layers.tower import Tower
from dgin_tf.ops import masking

SUM = "sum"
MEAN_VALID = "mean_valid"
REDUCTIONS = (SUM, MEAN_VALID)


def click_net(**kwargs: Any) -> Tower:
    """The authors' network on [state, item]: scale and shift, 100 and 50 sigmoid units, softmax.

    Their code adds 1e-8 to its probabilities before the logarithm; here the logarithm is taken from
    logits, which differs by as much and has no pole.

    Args:
      **kwargs: of a `Tower`, such as its name.

    Example:

      >>> click_net()(tf.random.normal([2, 5, 8])).shape
      TensorShape([2, 5])
    """
    return Tower((100, 50), "sigmoid", normalization="affine_only", two_way=True, **kwargs)


class AuxiliaryLoss(ConfiguredLayer):
    """-log p(event t + 1 | h_t) - log(1 - p(negative t + 1 | h_t)), reduced over time.

    Args:
      weight: alpha of Eq. (8).
      score: a layer from [users, time, units + dim] to logits [users, time]; None for the paper's
        inner product, which needs states as wide as events.
      reduce: over time, "sum" (the paper) or "mean_valid" (over a user's real pairs).

    Raises:
      ValueError: another reduction.

    Example:

      >>> states, events, negatives = tf.random.normal([3, 2, 5, 4])
      >>> AuxiliaryLoss()(states, events, negatives).shape
      TensorShape([2])
    """

    def __init__(
        self,
        weight: float = 1.0,
        score: tf.keras.layers.Layer | None = None,
        reduce: str = SUM,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if reduce not in REDUCTIONS:
            raise ValueError(f"reduce must be one of {REDUCTIONS}; got {reduce!r}.")
        self.weight = weight
        self.score = as_layer(score)
        self.reduce = reduce

    def call(
        self,
        states: tf.Tensor,
        events: tf.Tensor,
        negatives: tf.Tensor,
        mask: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Calculates the weighted loss of every user.

        Args:
          states: h_t, [users, time, units].
          events: e_t, [users, time, dim].
          negatives: one sampled negative for each event, [users, time, dim].
          mask: True where the event is real, bool [users, time], padded on either side; None where
            all are.

        Returns:
          [users] in float32 (float64 for float64); exactly zero for histories of fewer than two
          events.

        Raises:
          ValueError: the inner product gets states of another width than events.
        """
        if mask is None:
            mask = tf.ones(tf.shape(states)[:2], tf.bool)
        # One shift of the states, to the event that they predict, instead of one of the events and
        # one of the negatives.
        before = tf.concat([tf.zeros_like(states[:, :1]), states[:, :-1]], 1)
        # A pair needs a real event at t and at t + 1; padding may be on either side.
        pairs = mask & tf.concat([tf.zeros_like(mask[:, :1]), mask[:, :-1]], 1)
        # -log sigmoid(x) = softplus(-x) and -log(1 - sigmoid(x)) = softplus(x), without overflow.
        losses = tf.nn.softplus(-self._logits(before, events))
        losses += tf.nn.softplus(self._logits(before, negatives))
        # `where` rather than a product with the mask: an infinite loss under padding adds nothing.
        total = tf.reduce_sum(tf.where(pairs, losses, tf.zeros([], losses.dtype)), 1)
        return self.weight * total / self._count(pairs, total.dtype)

    def build_score(self, units: int, events: Any) -> None:
        """Creates the weights of the scoring network, where there is one.

        Encoders call it where a history has no negatives, so that all weights exist after the first
        call: a model is saved and loaded without a batch of training.

        Args:
          units: width of the states.
          events: e_t, [users, time, dim].
        """
        if self.score is not None and not self.score.weights:
            self.score(tf.zeros([1, 1, units + events.shape[-1]], self.compute_dtype))

    def _logits(self, states: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Logit of a click on each item, [users, time]."""
        if self.score is not None:
            return self.score(tf.concat([states, tf.cast(items, states.dtype)], -1))
        if states.shape[-1] != items.shape[-1]:
            raise ValueError(
                "the inner product of Eq. (7) needs states as wide as events; got "
                f"{states.shape[-1]} and {items.shape[-1]}. Set the GRU's units to the events' "
                "width, or score with click_net()."
            )
        products = states * tf.cast(items, states.dtype)
        return tf.reduce_sum(tf.cast(products, masking.accumulation_dtype(products.dtype)), -1)

    def _count(self, pairs: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Divisor of the sum over time, by the real pairs, bool [users, time]."""
        if self.reduce == SUM:
            return tf.ones([], dtype)
        return tf.maximum(tf.reduce_sum(tf.cast(pairs, dtype), 1), 1.0)
