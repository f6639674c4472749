"""A contrastive loss between the behavior types of a user (for DMBIN; our reading of it)."""

import tensorflow as tf

from dgin_tf.ops.masking import sum_over_replicas

_NEVER = -1e9  # of what is not there; a similarity is at least -1


def contrastive_loss(
    common: tf.Tensor, specific: tf.Tensor, present: tf.Tensor, temperature: float
) -> tf.Tensor:
    """What is common to two types of one user agrees, against everything that it should differ from.

    For types c and c' of user u the positive is sim(g^c_u, g^c'_u); the negatives are the other
    users' g^c' and the user's own specific vectors. The loss of a pair is the negative logarithm of
    the positive's share, exp(sim / temperature) over all of them. Users of all replicas are
    compared, so that a step of several equals the step of one device; they hold equally many.

    Args:
      common: g, vectors of length one (or zero), [users, types, dim].
      specific: s, as well.
      present: whether the user has events of the type, bool [users, types].
      temperature: tau.

    Returns:
      Mean over the pairs of different types that a user has, float32 [users]; zero for none.
    """
    common, specific = tf.cast(common, tf.float32), tf.cast(specific, tf.float32)
    types = common.shape[1]
    everyone = _of_all_replicas(common)
    is_there = _of_all_replicas(tf.cast(present, tf.float32)) > 0.5
    against = tf.tensordot(common, everyone, [[2], [2]])  # [users, types, everyone, types]
    against = tf.transpose(against, [0, 1, 3, 2])
    against = tf.where(tf.transpose(is_there)[tf.newaxis, tf.newaxis], against, _NEVER)
    own = tf.matmul(common, specific, transpose_b=True)
    own = tf.where(present[:, tf.newaxis], own, _NEVER)[:, :, tf.newaxis]
    own = tf.repeat(own, types, axis=2)
    compared = tf.concat([against, own], axis=-1) / temperature  # the positive is among them
    positive = tf.matmul(common, common, transpose_b=True) / temperature
    loss = tf.reduce_logsumexp(compared, axis=-1) - positive
    pairs = present[:, :, tf.newaxis] & present[:, tf.newaxis] & ~tf.eye(types, dtype=tf.bool)
    total = tf.reduce_sum(tf.where(pairs, loss, 0.0), axis=[1, 2])
    return total / tf.maximum(tf.reduce_sum(tf.cast(pairs, tf.float32), axis=[1, 2]), 1.0)


def _of_all_replicas(values: tf.Tensor) -> tf.Tensor:
    """Rows [users, ...] of all replicas behind each other; differentiable."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return values
    count = replica.num_replicas_in_sync
    place = tf.one_hot(replica.replica_id_in_sync_group, count, dtype=values.dtype)
    blocks = sum_over_replicas(tf.tensordot(place, values, 0))
    return tf.reshape(blocks, tf.concat([[-1], tf.shape(values)[1:]], axis=0))
