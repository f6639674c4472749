"""DMBIN, "A Dual Multi-behavior Interest Network for CTR Prediction via Contrastive Learning" (He et
al., SIGIR 2023), reference [15] of the DGIN paper as far as its place in the alphabet tells."""

import dataclasses

from dgin_tf.layers.dual_interest import DualInterest
from dgin_tf.layers.interest_encoder import INTEREST
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.behavior_types import clicks_first
from dgin_tf.schema import Schema


class DMBIN(CTRModel, registry_name="dmbin"):
    """Interests that are special to each behavior type, and interests that all types share.

    Only the gist of the paper is known to us, that both kinds are extracted from every type's sequence
    and kept apart by contrastive learning. The architecture is our reading of it: one self-attention
    block and one attention of the candidate for every type, the same once more with weights that all
    types share, the shared part fused by attention over the types, and a loss that makes what two
    types of a user share agree against other users' and against the special parts. A history without
    behavior types is one sequence and has no such loss.

    Args:
      schema: the data.
      config: embedding and head.
      encoder: the interests of all types; None for those of the default `Settings`.
    """

    @dataclasses.dataclass(frozen=True)
    class Settings:
        """Settings of the interests.

        Attributes:
          click: name of the behavior type that is a click; None for the schema's first.
          clicks: how many of the newest clicks are read.
          others: how many of the newest events of every other type.
          heads: of all attentions.
          contrast_weight: lambda.
          temperature: tau.
        """

        click: str | None = None
        clicks: int = 50
        others: int = 10
        heads: int = 2
        contrast_weight: float = 0.1
        temperature: float = 0.1

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        encoder: DualInterest | None = None,
    ):
        config = config or ModelConfig()
        encoder = encoder or self.blocks(schema, config, self.Settings())["encoder"]
        super().__init__(schema, {INTEREST: encoder}, config, name="dmbin")
        self.encoder = encoder

    @classmethod
    def blocks(cls, schema, config, settings):
        """The interests of the schema's behavior types."""
        types = clicks_first(schema, settings.click, config.behavior_types)
        lengths = [settings.clicks] + [settings.others] * (len(types) - 1)
        weight, temperature = settings.contrast_weight, settings.temperature
        encoder = DualInterest(types, lengths, settings.heads, weight, temperature, name=INTEREST)
        return {"encoder": encoder}
