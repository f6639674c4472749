"""ENCODE's dimension reduction, a projection that keeps distances (Zhou et al., 2024, section 3.2.1)."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import ConfiguredLayer
from dgin_tf.ops import metric_learning as learning
from dgin_tf.ops.fast.metric_learning import mean_loss
from dgin_tf.ops.fast.projection import project

NO_LOSS = "none"


class DimensionReduction(ConfiguredLayer):
    """Eq. (4): h = W_h^T e, and the loss by which W_h learns.

    W_h begins as N(0, 1). Its loss trains nothing else: the vectors that it reduces are constants to
    it. Without a loss it stays the random projection that it was. Computed in float32 whatever the
    policy.

    Example:

      >>> layer = DimensionReduction(dim=4)
      >>> events, mask = tf.random.normal([2, 100, 32]), tf.fill([2, 100], True)
      >>> layer(events).shape, layer.loss(events, mask).shape
      (TensorShape([2, 100, 4]), TensorShape([2]))

    Args:
      dim: m.
      loss: "dynamic", triplets whose margin is the originals', Eqs. (6), (7); "fixed", a margin of
        0.2; "n_pair", Eq. (12) with five negatives; "mse"; or "none".
      sampling: where other events are drawn for an anchor: "sequence", "neighbors" or "batch".
      weight: of the loss.
      anchors: how many random events of a history are anchors; None for all, as Eq. (6) has it.
      seed: of W_h's first values and of the draws.

    Raises:
      ValueError: there is no such loss or sampling, or `dim` or `anchors` is below 1.
    """

    def __init__(
        self,
        dim: int = 4,
        loss: str = "dynamic",
        sampling: str = learning.SEQUENCE,
        weight: float = 0.1,
        anchors: int | None = None,
        seed: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        losses, samplings = (*learning.LOSSES, NO_LOSS), tuple(learning.SAMPLINGS)
        if loss not in losses:
            raise ValueError(f"loss must be one of {', '.join(losses)}; got {loss!r}.")
        if sampling not in samplings:
            raise ValueError(f"sampling must be one of {', '.join(samplings)}; got {sampling!r}.")
        if dim < 1 or (anchors is not None and anchors < 1):
            raise ValueError(f"dim and anchors must be at least 1; got {dim} and {anchors}.")
        self.dim = dim
        self.loss_name = loss
        self.sampling = sampling
        self.weight = weight
        self.anchors = anchors
        self.seed = seed

    @property
    def has_loss(self) -> bool:
        """True where W_h is trained."""
        return self.loss_name != NO_LOSS

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_float_weight(
            "kernel",
            [tf.TensorShape(input_shape)[-1], self.dim],
            tf.keras.initializers.RandomNormal(stddev=1.0, seed=self.seed),
            trainable=self.has_loss,
            dtype=tf.float32,
        )
        super().build(input_shape)

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        """[..., dim] -> h, float32 [..., m]."""
        vectors = tf.cast(vectors, tf.float32)
        kernel = tf.convert_to_tensor(self.kernel)
        return project(vectors, kernel) if len(vectors.shape) == 3 else vectors @ kernel

    def loss(
        self, vectors: tf.Tensor, mask: tf.Tensor, projections: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The weighted mean over a history's anchors.

        Args:
          vectors: s, [users, time, dim]; of no meaning where masked.
          mask: True where the event is real, bool [users, time]; the real ones lie side by side.
          projections: h, where the vectors are reduced already.

        Returns:
          [users]; 0 where there are fewer than three events, or no loss.
        """
        if not self.has_loss:
            return tf.zeros(tf.shape(mask)[:1])
        original = tf.cast(tf.stop_gradient(vectors), tf.float32)
        projections = self(original) if projections is None else projections
        pairs = learning.Pairs(self.loss_name, self.sampling, self.anchors, self.seed)
        return self.weight * mean_loss(pairs, original, projections, mask)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "loss": self.loss_name}
