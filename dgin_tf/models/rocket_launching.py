"""Rocket Launching (Zhou et al., AAAI 2018) as DIEN serves by it: a light net beside a booster.

Both are DIENs over shared embeddings and are trained together from the start (DIEN, section "Online
serving": n_H from 108 to 32). The light net's logit l(x) is drawn to the booster's z(x):

    L = H(y, p) + H(y, q) + lambda (l(x) - z(x))^2

The gradient block makes z a constant in the hint, so that only labels teach the booster. The paper's
hint is the squared distance of the logits before the softmax; with two of them it would also tie down
their common shift, which no probability shows, so that the click's one logit is compared here.

Only the light net is served: `encode_user`, `score` and the encoders are its own, so that no exported
signature touches a variable of the booster. By itself it is the attribute `light`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from dgin_tf import losses
from dgin_tf.layers.auxiliary_loss import AuxiliaryLoss, click_net
from dgin_tf.layers.embedding import FeatureEmbedding, role_mask
from dgin_tf.layers.events import State
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.dien import DIEN
from dgin_tf.schema import CANDIDATE, Schema

BOOSTER = "booster"


@dataclasses.dataclass(frozen=True)
class _SharedEmbedding(ModelConfig):
    """A config that embeds through another model's tables."""

    shared: FeatureEmbedding = dataclasses.field(kw_only=True)

    def embedding(self, schema: Schema) -> FeatureEmbedding:
        return self.shared


class RocketLaunching(CTRModel, registry_name="rocket_launching"):
    """A light DIEN, taught by the labels and by a wider one beside it.

    Args:
      schema: the data.
      config: embedding, which the nets share, and head, of which each has its own.
      units: n_H of the light net and of the booster. Neither is the width of an event, so that the
        auxiliary losses score by `click_net`.
      hint_weight: lambda.
      gradient_block: whether the booster is a constant in the hint. Without, the light net also pulls
        the booster towards itself, which is the paper's ablation.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        units: tuple[int, int] = (32, 108),
        hint_weight: float = 0.03,
        gradient_block: bool = True,
    ):
        light_units, booster_units = units
        light = self.make_net(schema, config, light_units)
        shared = _SharedEmbedding(**dataclasses.asdict(light.config), shared=light.embedding)
        super().__init__(schema, light.encoders, shared)
        self.tower = light.tower  # in the place of one that nothing would train
        self.light = light
        self.booster = self.make_net(schema, shared, booster_units)
        self.booster.penalizes_embedding = False  # the light net does, for both
        self.config = self.booster.config = light.config  # a model's own config is plain values
        self.units = tuple(units)
        self.hint_weight = hint_weight
        self.gradient_block = gradient_block

    @staticmethod
    def make_net(schema: Schema, config: ModelConfig | None, units: int) -> DIEN:
        """A DIEN of any width.

        Args:
          schema: the data.
          config: embedding and head.
          units: n_H.
        """
        score = click_net(name="click_net")
        return DIEN(schema, config, units, AuxiliaryLoss(score=score, name="auxiliary_loss"))

    @classmethod
    def wants_negatives(cls, arguments: Mapping[str, Any]) -> bool:
        """Always, for the auxiliary losses of both nets."""
        return True

    @property
    def auxiliary_loss_names(self) -> list[str]:
        names = super().auxiliary_loss_names
        return [*names, "hint", *(f"{BOOSTER}_{name}" for name in ("target", *names))]

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights of both nets."""
        self.light.build()
        super().build(input_shape)

    def call(self, features: Mapping[str, tf.Tensor], training: bool = False) -> State:
        """Outputs of the light net, and those of the booster under `booster`."""
        outputs = super().call(features, training=training)
        return {**outputs, BOOSTER: self.booster(features, training=training)}

    def compute_losses(
        self, features: Mapping[str, tf.Tensor], outputs: State
    ) -> dict[str, tf.Tensor]:
        """Losses of the light net, of the booster (`booster_target`, ...), and the `hint`."""
        booster_losses = self.booster.compute_losses(features, outputs[BOOSTER])
        # The light net's losses hold the regularization of all layers.
        booster_losses.pop("regularization", None)
        teacher = outputs[BOOSTER]["logits"]  # z(x)
        if self.gradient_block:
            teacher = tf.stop_gradient(teacher)
        distance = tf.math.squared_difference(outputs["logits"], teacher)
        mask = role_mask(features, CANDIDATE, self.schema)
        return {
            **super().compute_losses(features, outputs),
            **{f"{BOOSTER}_{name}": loss for name, loss in booster_losses.items()},
            "hint": self.hint_weight * losses.global_mean(distance, mask),
        }

    def predict_step(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Probabilities [users, candidates] of the light net, and their mask; the booster is not run."""
        return self.light.predict_step(features)
