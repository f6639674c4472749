"""ENCODE's dimension reduction, a projection that keeps distances (Zhou et al., 2024, section 3.2.1)."""

from typing import Any, NamedTuple

import tensorflow as tf

from dgin_tf.ops import metric_learning as learning
from dgin_tf.ops import sampling
from dgin_tf.ops.compiling import graph_function, should_compile

NO_LOSS = "none"
_FIRST_ANCHOR = 7919  # keeps the draws of anchors apart from those of other events


class Drawing(NamedTuple):
    """What a loss compares, as `DimensionReduction` has it."""

    loss: str
    sampling: str
    anchors: int | None
    seed: int


class Anchors(NamedTuple):
    """Events of each history that others were drawn for.

    Attributes:
      places: in time, int32 [users, anchors]; None where every event is an anchor.
      ordered: the events drawn for them.
      enough: which are anchors and have enough of those, bool [users, anchors].
    """

    places: tf.Tensor | None
    ordered: learning.Ordered
    enough: tf.Tensor


def mean_losses(
    drawing: Drawing, original: tf.Tensor, reduced: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
    """The mean loss of each history's anchors, differentiable in the reduced vectors.

    XLA compiles it, for each shape anew, in graphs of a known number of users, if they are enough: one
    loop over the draws instead of a tensor for each step of the formula takes half the time. The
    gradient begins at the reduced vectors again, which is faster than to keep what lies between.

    Args:
      drawing: what is compared.
      original: s, constants, [users, time, dim].
      reduced: h, [users, time, m].
      mask: True where the event is real, bool [users, time]; the real ones lie side by side.

    Returns:
      [users]; 0 where there are fewer than three events.
    """
    jit, signature = should_compile(original.shape[0]), (*original.shape, reduced.shape[-1])
    # One by one, or XLA would draw and compare again wherever it reads what came of it.
    drawn = graph_function(_draw, (drawing,), jit, signature)(mask)
    distance = graph_function(_distances, (), jit, signature)(original, drawn)
    anchors = graph_function(_nearest_first, (), jit, signature)(distance, drawn)

    @tf.custom_gradient
    def means(values):
        def gradient(into):
            return graph_function(_gradient, (drawing.loss,), jit, signature)(anchors, values, into)

        return graph_function(_means, (drawing.loss,), jit, signature)(anchors, values), gradient

    return means(reduced)


def draw_anchors(mask: tf.Tensor, anchors: int, seed: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Ranks of random events of each history, int32 [users, anchors], and which of them exist, bool."""
    count = sampling.counts(mask)
    rank = sampling.stratified(count, anchors, [count], seed + _FIRST_ANCHOR)
    return rank, rank < count[:, tf.newaxis]


def project(vectors: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Constant vectors [users, time, dim] times a kernel [dim, m], differentiable in the kernel."""

    @tf.custom_gradient
    def product(kernel):
        def gradient(into):
            # User by user takes half as long as one product of all events, which are many.
            by_user = tf.matmul(into, vectors, transpose_a=True)
            return tf.transpose(tf.reduce_sum(by_user, axis=0))

        return tf.tensordot(vectors, kernel, 1), gradient

    return product(kernel)


def _draw(drawing, mask):
    loss = learning.LOSSES[drawing.loss]
    count = sampling.counts(mask)
    rank, is_anchor, places = sampling.ranks(mask), mask, None
    if drawing.anchors is not None:
        rank, is_anchor = draw_anchors(mask, drawing.anchors, drawing.seed)
        places = sampling.places(mask, rank)
    others = learning.SAMPLINGS[drawing.sampling](mask, rank, loss.draws, drawing.seed)
    enough = tf.math.count_nonzero(others.mask, axis=-1, dtype=tf.int32) >= loss.needed
    enough &= is_anchor & (count > 2)[:, tf.newaxis]
    return places, others, enough


def _distances(original, drawn):
    places, others, _ = drawn
    return learning.distances(original, places, others)


def _nearest_first(distance, drawn):
    places, others, enough = drawn
    return Anchors(places, learning.nearest_first(distance, others), enough)


def _means(loss, anchors, reduced):
    compared = learning.compare(reduced, anchors.places, anchors.ordered)
    values = tf.where(anchors.enough, learning.LOSSES[loss].formula(compared), 0.0)
    count = tf.math.count_nonzero(anchors.enough, axis=1, dtype=tf.int32)
    return tf.reduce_sum(values, axis=1) / tf.cast(tf.maximum(count, 1), values.dtype)


def _gradient(loss, anchors, reduced, into):
    with tf.GradientTape() as tape:
        tape.watch(reduced)
        values = _means(loss, anchors, reduced)
    return tf.convert_to_tensor(tape.gradient(values, reduced, into))


@tf.keras.utils.register_keras_serializable("dgin_tf")
class DimensionReduction(tf.keras.layers.Layer):
    """Eq. (4): h = W_h^T e, and the loss by which W_h learns.

    W_h begins as N(0, 1). Its loss trains nothing else: the vectors that it reduces are constants to
    it, and what is made of h passes no gradient. Without a loss it stays the random projection that it
    was. Computed in float32 whatever the policy.

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
        """Whether W_h is trained."""
        return self.loss_name != NO_LOSS

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(
            "kernel",
            [tf.TensorShape(input_shape)[-1], self.dim],
            dtype=tf.float32,
            initializer=tf.keras.initializers.RandomNormal(stddev=1.0, seed=self.seed),
            trainable=self.has_loss,
            experimental_autocast=False,
        )
        super().build(input_shape)

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        """[..., dim] -> h, float32 [..., m]; only the gradient to W_h passes."""
        vectors = tf.cast(tf.stop_gradient(vectors), tf.float32)
        kernel = tf.convert_to_tensor(self.kernel)
        return project(vectors, kernel) if len(vectors.shape) == 3 else vectors @ kernel

    def loss(self, vectors: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """The weighted mean over a history's anchors.

        Args:
          vectors: s, [users, time, dim]; of no meaning where masked.
          mask: True where the event is real, bool [users, time]; the real ones lie side by side.

        Returns:
          [users]; 0 where there are fewer than three events, or no loss.
        """
        if not self.has_loss:
            return tf.zeros(tf.shape(mask)[:1])
        original = tf.cast(tf.stop_gradient(vectors), tf.float32)
        drawing = Drawing(self.loss_name, self.sampling, self.anchors, self.seed)
        return self.weight * mean_losses(drawing, original, self(original), mask)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dim": self.dim,
            "loss": self.loss_name,
            "sampling": self.sampling,
            "weight": self.weight,
            "anchors": self.anchors,
            "seed": self.seed,
        }
