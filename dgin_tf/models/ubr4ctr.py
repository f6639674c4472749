"""UBR4CTR (Qin et al., 2020): events retrieved by attributes that a policy selects.

The paper trains prediction and policy by turns, an epoch each. Here one step trains both: the policy
sees the embeddings as constants and the target's loss cannot pass the retrieval, so that the gradient
of either loss reaches its own weights alone, as it does by turns.
"""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from dgin_tf import losses
from dgin_tf.layers.embedding import role_mask
from dgin_tf.layers.events import State
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.search.readers import ExactSearchUnit
from dgin_tf.layers.search.ubr4ctr import (
    SELECTED,
    SELECTION_LOGITS,
    AttributeSearch,
    FeatureSelection,
)
from dgin_tf.layers.short_and_long import LONG
from dgin_tf.models.base import LOGITS, OUTPUTS
from dgin_tf.models.short_and_long import ShortSettings
from dgin_tf.models.sim import SIM
from dgin_tf.records import LABEL
from dgin_tf.schema import CANDIDATE

POLICY = "policy"


def log_likelihood(logits: tf.Tensor, selection: tf.Tensor) -> tf.Tensor:
    """sum_i s_i log p_i + (1 - s_i) log(1 - p_i), [users, candidates].

    Args:
      logits: of the probabilities, [users, candidates, fields].
      selection: s, bool, of the same shape.
    """
    terms = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(selection, logits.dtype), logits)
    return -tf.reduce_sum(terms, axis=-1)


class UBR4CTR(SIM, registry_name="ubr4ctr"):
    """Target attention over the newest events, and over those of the earlier ones that are retrieved."""

    log_likelihood = staticmethod(log_likelihood)

    @dataclasses.dataclass(frozen=True)
    class Settings(ShortSettings):
        """Settings of the blocks.

        Attributes:
          k: how many events are retrieved at most; 20 in the paper.
          selection_heads: of the policy's self-attention; they must divide the embedding's width.
          seed: of the policy's draws.
        """

        k: int = 20
        selection_heads: int = 2
        seed: int = 1

    @classmethod
    def blocks(cls, schema, config, settings):
        """Search by attributes, one head over the retrieved events, several over the newest."""
        fields = [field.name for field in schema.paired_ids]
        policy = FeatureSelection(settings.selection_heads, name="policy")
        # a_j = softmax((W e_a) . b_j), r = sum a_j b_j.
        attention = MultiHeadAttention(1, project=False, scale=False, name="attention")
        return {
            "search": AttributeSearch(fields, settings.k, policy, settings.seed, name="search"),
            "reader": ExactSearchUnit(attention, name="reader"),
            "short": settings.short_encoder(),
        }

    @property
    def auxiliary_loss_names(self) -> list[str]:
        """The policy's loss, beside the encoders'."""
        return [*super().auxiliary_loss_names, POLICY]

    def compute_losses(
        self, features: Mapping[str, tf.Tensor], outputs: State
    ) -> dict[str, tf.Tensor]:
        """The base class's losses and `policy`, minus reward times log-likelihood of the selection."""
        reward = information_gain(outputs[LOGITS], features[LABEL])
        long = outputs[OUTPUTS]["interest"][LONG]
        likelihood = self.log_likelihood(long[SELECTION_LOGITS], long[SELECTED])
        value = -tf.stop_gradient(reward) * likelihood
        policy = losses.global_mean(value, role_mask(features, CANDIDATE, self.schema))
        return {**super().compute_losses(features, outputs), POLICY: policy}


def information_gain(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The reward: 1 for a perfect prediction, 0 for one half, never below -1.

    R = 1 - (y log p + (1 - y) log(1 - p)) / log(1/2).

    Args:
      logits, labels: [users, candidates].
    """
    loss = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(labels, tf.float32), logits)
    return tf.maximum(1.0 - loss / tf.math.log(2.0), -1.0)
