"""Losses over the global batch: replicas compute shares of one sum, so their gradients add up.

A batch is [users, candidates] with a mask, so its number of samples varies, and under a distribution
strategy every replica sees a part of it. Each loss here is therefore a *share*: a sum over this
replica's samples divided by the number of samples in the global batch. Summed over replicas, which
is what strategies do with gradients, the shares are the mean over the whole batch.
"""

import tensorflow as tf

from dgin_tf.ops.masking import sum_over_replicas

MEAN_OVER_SAMPLES = "mean_over_samples"
OFFICIAL_HALF = "official_half"


def target_loss(
    logits: tf.Tensor,
    labels: tf.Tensor,
    mask: tf.Tensor,
    weights: tf.Tensor | None = None,
    loss_scale: str = MEAN_OVER_SAMPLES,
) -> tf.Tensor:
    """Negative log-likelihood of the clicks (DIEN Eq. 2), this replica's share of the mean.

    Computed from logits in float32, so that no logit is too large for it.

    Args:
      logits: [users, candidates].
      labels: 1 for a click, 0 for a negative, [users, candidates].
      mask: True where the candidate is real, [users, candidates]. Values under padding, NaN
        included, reach neither the loss nor a gradient.
      weights: of the samples' losses, [users, candidates]; all 1 by default.
      loss_scale: `mean_over_samples`, the paper's L; or `official_half`, half of it, which is what
        the authors' released TF1 code computes (it averages over samples times two classes), and
        which doubles the weight of every auxiliary loss beside it.

    Returns:
      Scalar; summed over replicas it is the mean over the samples of the global batch, 0 for none.

    Raises:
      ValueError: `loss_scale` is neither of the two.
    """
    if loss_scale not in (MEAN_OVER_SAMPLES, OFFICIAL_HALF):
        raise ValueError(
            f"expected loss_scale {MEAN_OVER_SAMPLES!r} or {OFFICIAL_HALF!r}; got {loss_scale!r}."
        )
    # Masked before the logarithm as well as after it: 0 * NaN is NaN, in the gradient too.
    logits = tf.where(mask, tf.cast(logits, tf.float32), 0.0)
    loss = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(labels, tf.float32), logits)
    if weights is not None:
        loss *= tf.cast(weights, tf.float32)
    mean = global_mean(loss, mask)
    return 0.5 * mean if loss_scale == OFFICIAL_HALF else mean


def global_mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Sum of the real `values` here over the number of real ones on all replicas; 0 for none.

    Args:
      values: any shape, such as the auxiliary losses of the rows, [users].
      mask: True where the value is real, same shape.

    Returns:
      Scalar float32; summed over replicas it is the mean over the global batch.
    """
    values = tf.where(mask, tf.cast(values, tf.float32), 0.0)
    # The mean is over the global batch, of which replicas hold parts with different numbers of samples.
    count = sum_over_replicas(tf.reduce_sum(tf.cast(mask, tf.float32)))
    return tf.reduce_sum(values) / tf.maximum(count, 1.0)  # 0, not NaN, for an empty batch


def scale(optimizer: tf.keras.optimizers.Optimizer, loss: tf.Tensor) -> tf.Tensor:
    """Scales the loss where the optimizer asks for it (mixed_float16), else returns it as it is."""
    if isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer):
        return optimizer.get_scaled_loss(loss)
    return loss


def unscale(optimizer: tf.keras.optimizers.Optimizer, gradients: list) -> list:
    """Inverse of `scale`, for the gradients."""
    if isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer):
        return optimizer.get_unscaled_gradients(gradients)
    return gradients
