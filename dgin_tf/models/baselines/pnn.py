"""Product-based Neural Network (Qu et al., 2016) with pooled histories as fields."""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from dgin_tf.layers.activations import make_activation
from dgin_tf.layers.events import Target
from dgin_tf.layers.pooling import Pooling
from dgin_tf.layers.product import INNER, ProductLayer
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.released import RELEASED, check_variant, history_sum, released_config
from dgin_tf.schema import Schema


@tf.keras.utils.register_keras_serializable("dgin_tf")
class PNN(CTRModel):
    """Embedding, product layer, the rest of the tower.

    The fields are those of the user, the candidate and the summed history, one vector of width n_E
    each; the product layer takes the place of the tower's first hidden layer. The activation is the
    config's, so that the comparison is one of layers (the paper's is ReLU).

    `variant="released"` is `Model_PNN` of mouna99/dien, which is no PNN: BaseModel with target * sum
    as one more input.

    Args:
      schema: the data.
      config: embedding and head; its first hidden width is the product layer's.
      variant: "paper" or "released".
      products: "inner" (IPNN), "outer" (OPNN) or "both" (PNN*).
      order: rank of the inner products' weights, see `ProductLayer`.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        variant: str = "paper",
        products: str = INNER,
        order: int = 1,
    ):
        check_variant(variant)
        config = config or ModelConfig()
        if variant == RELEASED:
            config = released_config(config, activation="prelu")
            super().__init__(schema, history_sum(), config, name="pnn")
            self.product = None
            return
        if not config.tower_units:
            raise ValueError("PNN needs a config with at least one hidden layer; got none.")
        first, *rest = config.tower_units
        config = dataclasses.replace(config, tower_units=tuple(rest))
        super().__init__(schema, {"pooled": Pooling(name="pooled")}, config, name="pnn")
        self.product = ProductLayer(first, products, order, name="product")
        self.activation = make_activation(config.activation, "activation")

    def head(
        self, parts: Mapping[str, tf.Tensor], target: Target, training: bool = False
    ) -> tf.Tensor:
        """Logits [users, candidates] of the fields and their products."""
        if self.product is None:
            return super().head(parts, target, training=training)
        joined = tf.concat(list(parts.values()), axis=-1)
        count = joined.shape[-1] // self.embedding.dim
        shape = tf.shape(joined)
        fields = tf.reshape(joined, [shape[0], shape[1], count, self.embedding.dim])
        hidden = self.activation(self.product(fields), mask=target.mask, training=training)
        return self.tower(hidden, mask=target.mask, training=training)
