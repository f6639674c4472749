"""Product-based Neural Network (Qu et al., 2016) with pooled histories as fields."""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from dgin_tf.layers.activations import make_activation
from dgin_tf.layers.events import Target
from dgin_tf.layers.pooling import Pooling
from dgin_tf.layers.product import INNER, ProductLayer
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.schema import Schema


class PNN(CTRModel, registry_name="pnn"):
    """Embedding, product layer, the rest of the tower.

    The fields are those of the user, the candidate and the summed history, one vector of width n_E
    each; the product layer takes the place of the tower's first hidden layer. The activation is the
    config's, so that the comparison is one of layers (the paper's is ReLU).

    Args:
      schema: the data.
      config: embedding and head; its first hidden width is the product layer's.
      products: "inner" (IPNN), "outer" (OPNN) or "both" (PNN*).
      order: rank of the inner products' weights, see `ProductLayer`.

    Raises:
      ValueError: the head has no hidden layer.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        products: str = INNER,
        order: int = 1,
    ):
        config = config or ModelConfig()
        if not config.tower_units:
            raise ValueError("PNN needs a config with at least one hidden layer; got none.")
        first, *others = config.tower_units
        behind = dataclasses.replace(config, tower_units=tuple(others))
        super().__init__(schema, {"pooled": Pooling(name="pooled")}, behind, name="pnn")
        self.config = config  # with the first hidden width, for get_config
        self.products = products
        self.order = order
        self.product = ProductLayer(first, products, order, name="product")
        self.activation = make_activation(config.activation, "activation")

    def head(
        self, parts: Mapping[str, tf.Tensor], target: Target, training: bool = False
    ) -> tf.Tensor:
        """Logits [users, candidates] of the fields and their products."""
        inputs = tf.concat(list(parts.values()), axis=-1)
        users, candidates, _ = tf.unstack(tf.shape(inputs))
        dim = self.embedding.dim
        # [users, candidates, fields, dim]
        fields = tf.reshape(inputs, [users, candidates, inputs.shape[-1] // dim, dim])
        hidden = self.activation(self.product(fields), mask=target.mask, training=training)
        return self.tower(hidden, mask=target.mask, training=training)
