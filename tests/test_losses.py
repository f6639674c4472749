"""Losses against their equations, under padding and on two replicas."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf import losses

LOGITS = np.array([[0.3, -2.0, 1.0], [4.0, 0.0, -1.0]], np.float32)
LABELS = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], np.float32)
MASK = np.array([[True, True, False], [True, False, False]])


def log_loss(logits, labels):
    p = 1.0 / (1.0 + np.exp(-logits))
    return -(labels * np.log(p) + (1.0 - labels) * np.log(1.0 - p))


def test_target_loss_is_the_mean_over_real_samples():
    expected = log_loss(LOGITS, LABELS)[MASK].mean()
    np.testing.assert_allclose(losses.target_loss(LOGITS, LABELS, MASK), expected, rtol=1e-6)


def test_official_half_is_half_of_it():
    whole = losses.target_loss(LOGITS, LABELS, MASK)
    half = losses.target_loss(LOGITS, LABELS, MASK, loss_scale="official_half")
    np.testing.assert_allclose(half, whole / 2)


def test_weights_multiply_the_samples_losses():
    weights = np.array([[2.0, 0.0, 5.0], [3.0, 7.0, 1.0]], np.float32)
    expected = (weights * log_loss(LOGITS, LABELS))[MASK].sum() / 3
    found = losses.target_loss(LOGITS, LABELS, MASK, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="'half'"):
        losses.target_loss(LOGITS, LABELS, MASK, loss_scale="half")


def test_what_stands_under_padding_reaches_neither_loss_nor_gradient():
    logits = tf.constant(np.where(MASK, LOGITS, np.nan))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.target_loss(logits, LABELS, MASK)
    gradient = tape.gradient(loss, logits).numpy()
    expected = np.where(MASK, 1.0 / (1.0 + np.exp(-LOGITS)) - LABELS, 0.0) / 3
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_a_batch_without_samples_has_loss_zero():
    assert losses.target_loss(LOGITS, LABELS, np.zeros_like(MASK)) == 0.0


def test_large_logits_and_half_precision_stay_finite():
    logits = tf.constant([[3e4, -3e4]], tf.bfloat16)
    found = losses.target_loss(logits, np.zeros((1, 2)), np.ones((1, 2), bool))
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, float(logits[0, 0]) / 2, rtol=1e-6)


def test_replicas_shares_add_up_to_the_mean_of_the_whole_batch(mirrored):

    def share(context):
        row = slice(context.replica_id_in_sync_group, context.replica_id_in_sync_group + 1)
        return LOGITS[row], LABELS[row], MASK[row]

    arguments = [
        mirrored.experimental_distribute_values_from_function(lambda c, i=i: share(c)[i])
        for i in range(3)
    ]
    shares = mirrored.run(tf.function(losses.target_loss, autograph=False), arguments)
    total = mirrored.reduce("SUM", shares, axis=None)
    np.testing.assert_allclose(total, losses.target_loss(LOGITS, LABELS, MASK), rtol=1e-6)
