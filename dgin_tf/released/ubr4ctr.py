"""UBR4CTR's released code, whose REINFORCE counts the selected attributes only."""

import tensorflow as tf

from dgin_tf.models.ubr4ctr import UBR4CTR


def log_likelihood(logits: tf.Tensor, selection: tf.Tensor) -> tf.Tensor:
    """sum_i s_i log p_i, [users, candidates]: without the paper's (1 - s_i) log(1 - p_i).

    Args:
      logits: of the probabilities, [users, candidates, fields].
      selection: s, bool, of the same shape.
    """
    return tf.reduce_sum(tf.cast(selection, logits.dtype) * tf.math.log_sigmoid(logits), axis=-1)


class UBR4CTRReleased(UBR4CTR, registry_name="ubr4ctr_released"):
    """UBR4CTR trained by the released likelihood."""

    log_likelihood = staticmethod(log_likelihood)
