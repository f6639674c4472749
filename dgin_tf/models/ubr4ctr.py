"""UBR4CTR (Qin et al., 2020): events retrieved by attributes that a policy chooses.

The paper trains prediction and policy by turns, an epoch each. Here one step trains both: the policy
sees the embeddings as constants and the target's loss cannot pass the retrieval, so that the gradient
of either loss reaches its own weights alone, as it does by turns.
"""

from collections.abc import Mapping

import tensorflow as tf

from dgin_tf import losses
from dgin_tf.layers.events import State
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.multi_head_history import MultiHeadHistory
from dgin_tf.layers.search.readers import ExactSearchUnit
from dgin_tf.layers.search.ubr4ctr import (
    SELECTED,
    SELECTION_LOGITS,
    AttributeSearch,
    FeatureSelection,
)
from dgin_tf.layers.search.unit import SearchedInterest
from dgin_tf.layers.short_and_long import LONG, ShortAndLong
from dgin_tf.models.base import OUTPUTS, CTRModel, ModelConfig
from dgin_tf.models.released import PAPER, RELEASED, check_variant
from dgin_tf.records import LABEL
from dgin_tf.schema import Schema

POLICY = "policy"


@tf.keras.utils.register_keras_serializable("dgin_tf")
class UBR4CTR(CTRModel):
    """Target attention over the newest events, and over those of the earlier ones that are retrieved.

    The released REINFORCE counts the attributes that were chosen only (`variant="released"`); the
    likelihood of a choice has those that were not, too.

    Args:
      schema: the data.
      config: embedding and head.
      variant: "paper" or "released".
      k: how many events are retrieved; 20 in the paper.
      heads: of the attention over the newest events.
      selection_heads: of the policy's self-attention; they must divide the embedding's width.
      short_events: how many of the newest events are read one by one.
      seed: of the policy's draws.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        variant: str = PAPER,
        k: int = 20,
        heads: int = 2,
        selection_heads: int = 2,
        short_events: int = 50,
        seed: int = 1,
    ):
        check_variant(variant)
        fields = [field.name for field in schema.paired_fields]
        policy = FeatureSelection(selection_heads, name="policy")
        unit = AttributeSearch(fields, k, policy, seed, name="search")
        # a_j = softmax((W e_a) . b_j), r = sum a_j b_j.
        attention = MultiHeadAttention(1, project=False, scale=False, name="attention")
        long = SearchedInterest(unit, ExactSearchUnit(attention, name="reader"), name="long")
        short = MultiHeadHistory(MultiHeadAttention(heads, name="attention"), name="short")
        interest = ShortAndLong(short, long, short_events, name="interest")
        self.variant = variant
        super().__init__(schema, {"interest": interest}, config, name="ubr4ctr")

    @property
    def auxiliary_loss_names(self) -> list[str]:
        """The policy's loss, beside the encoders'."""
        return [*super().auxiliary_loss_names, POLICY]

    def compute_losses(
        self, features: Mapping[str, tf.Tensor], outputs: State
    ) -> dict[str, tf.Tensor]:
        """The base class's losses and `policy`, minus reward times log-likelihood of what was chosen."""
        reward = information_gain(outputs["logits"], features[LABEL])
        long = outputs[OUTPUTS]["interest"][LONG]
        likelihood = log_likelihood(long[SELECTION_LOGITS], long[SELECTED], self.variant)
        value = -tf.stop_gradient(reward) * likelihood
        policy = losses.global_mean(value, features["cand_mask"])
        return {**super().compute_losses(features, outputs), POLICY: policy}


def information_gain(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The reward: 1 for a perfect prediction, 0 for one half, never below -1.

    R = 1 - (y log p + (1 - y) log(1 - p)) / log(1/2).

    Args:
      logits, labels: [users, candidates].
    """
    loss = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(labels, tf.float32), logits)
    return tf.maximum(1.0 - loss / tf.math.log(2.0), -1.0)


def log_likelihood(logits: tf.Tensor, selected: tf.Tensor, variant: str = PAPER) -> tf.Tensor:
    """sum_i s_i log p_i + (1 - s_i) log(1 - p_i); the released code leaves the second term out.

    Args:
      logits: of the probabilities, [users, candidates, fields].
      selected: s, bool, of the same shape.
      variant: "paper" or "released".

    Returns:
      [users, candidates].
    """
    chosen = tf.cast(selected, logits.dtype)
    terms = -tf.nn.sigmoid_cross_entropy_with_logits(chosen, logits)
    return tf.reduce_sum(terms * chosen if variant == RELEASED else terms, axis=-1)
