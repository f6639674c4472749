"""The product layer of PNN (Qu et al., 2016): fields meet in pairs before the first hidden layer.

With fields f_1..f_N of one width M, z = (f_1, ..., f_N) and p = {g(f_i, f_j)}, node n of the first
hidden layer is relu(<W_z^n, z> + <W_p^n, p> + b^n). IPNN takes g as the inner product and factorizes
W_p^n = Theta^n Theta^nT; OPNN takes the outer product and superposes the pairs.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import KernelLayer

INNER, OUTER, BOTH = "inner", "outer", "both"


def inner_products(fields: tf.Tensor) -> tf.Tensor:
    """p_ij = <f_i, f_j>: [..., fields, dim] -> [..., fields, fields]."""
    return tf.matmul(fields, fields, transpose_b=True)


def outer_products(fields: tf.Tensor) -> tf.Tensor:
    """Sum over all ordered pairs of f_i f_j^T = f_Sigma f_Sigma^T: [..., fields, dim] -> [..., dim, dim]."""
    total = tf.reduce_sum(fields, axis=-2)
    return total[..., :, tf.newaxis] * total[..., tf.newaxis, :]


class ProductLayer(KernelLayer):
    """Linear and product signals l_z + l_p + b_1, the preactivation of PNN's first hidden layer.

    Args:
      units: D_1, nodes of the layer.
      products: "inner" (IPNN), "outer" (OPNN) or "both" (PNN*, the sum of the two).
      order: K, rank of the factorization of the inner products' weights; the paper's is 1.
      bias_initializer, bias_regularizer: of b_1.
      kernel_initializer, kernel_regularizer: of W_z, theta and W_p.

    Raises:
      ValueError: other products, or an order below 1.

    Example:

      >>> layer = ProductLayer(7)
      >>> layer(tf.random.normal([2, 3, 4, 5])).shape  # four fields of width 5
      TensorShape([2, 3, 7])
    """

    def __init__(
        self,
        units: int,
        products: str = INNER,
        order: int = 1,
        bias_initializer: Any = "zeros",
        bias_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if products not in (INNER, OUTER, BOTH):
            raise ValueError(f"products must be 'inner', 'outer' or 'both'; got {products!r}.")
        if order < 1:
            raise ValueError(f"order must be at least 1; got {order}.")
        self.units = units
        self.products = products
        self.order = order
        self.bias_initializer = tf.keras.initializers.get(bias_initializer)
        self.bias_regularizer = tf.keras.regularizers.get(bias_regularizer)

    def build(self, input_shape):
        fields, dim = tf.TensorShape(input_shape)[-2:]
        self.kernel = self.add_kernel("kernel", [fields * dim, self.units])
        self.bias = self.add_weight(
            "bias",
            [self.units],
            initializer=self.bias_initializer,
            regularizer=self.bias_regularizer,
        )
        if self.products != OUTER:
            self.theta = self.add_kernel("theta", [fields, self.order, self.units])
        if self.products != INNER:
            self.outer_kernel = self.add_kernel("outer_kernel", [dim * dim, self.units])
        super().build(input_shape)

    def call(self, fields):
        """Linear and product signals of every node.

        Args:
          fields: f_1..f_N, [users, candidates, fields, dim].

        Returns:
          [users, candidates, units].
        """
        shape = tf.shape(fields)
        count, dim = fields.shape[-2:]
        rows = tf.reshape(fields, [-1, count, dim])  # [users * candidates, fields, dim]
        # l_z + b_1
        signal = tf.matmul(tf.reshape(rows, [-1, count * dim]), self.kernel) + self.bias
        if self.products != OUTER:
            # ||sum_i theta_i f_i||^2 = sum_ij theta_i theta_j <f_i, f_j>: with few fields the right
            # side is cheaper, since all nodes share the N x N products.
            weights = tf.einsum("iku,jku->iju", self.theta, self.theta)
            pairs = tf.reshape(inner_products(rows), [-1, count * count])
            signal += tf.matmul(pairs, tf.reshape(weights, [count * count, self.units]))
        if self.products != INNER:
            # One matrix [dim, dim] for all pairs: W_p does not depend on which fields meet.
            pairs = tf.reshape(outer_products(rows), [-1, dim * dim])
            signal += tf.matmul(pairs, self.outer_kernel)
        return tf.reshape(signal, [shape[0], shape[1], self.units])
