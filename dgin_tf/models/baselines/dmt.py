"""Deep Multifaceted Transformers (Gu et al., CIKM 2020): a transformer for every behavior type."""

from dgin_tf.layers.deep_interest_transformer import DeepInterestTransformer
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.behavior_types import clicks_first
from dgin_tf.schema import Schema


class DMT(CTRModel, registry_name="dmt"):
    """The paper's DMT_trans, without its mixture of experts and its bias network: the tables of DGIN
    have one task and no positions of candidates.

    A history without behavior types is one sequence. The authors' code (guyulongcs/CIKM2020_DMT)
    also multiplies events by the root of their width, drops a tenth of what is attended to, and looks
    back seven days for clicks and a year for the rest; none of it is followed here.

    Args:
      schema: the data.
      config: embedding and head.
      click: name of the behavior type that is a click; None for the schema's first.
      clicks: how many of the newest clicks are read.
      others: how many of the newest events of every other type.
      heads: of the attentions.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        click: str | None = None,
        clicks: int = 50,
        others: int = 10,
        heads: int = 4,
    ):
        config = config or ModelConfig()
        encoders: dict[str, InterestEncoder] = {}
        for number, types in enumerate(clicks_first(schema, click, config.behavior_types)):
            name = f"type{types[0]}" if types else "interest"
            length = others if number else clicks
            encoders[name] = DeepInterestTransformer(types, length, heads, name=name)
        super().__init__(schema, encoders, config, name="dmt")
        self.click = click
        self.clicks = clicks
        self.others = others
        self.heads = heads
