"""Batch norm: statistics of the real rows, moving averages, what the released code made of it; layer norm."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.normalization import BatchNorm, LayerNorm, MovingMoments

RNG = np.random.default_rng(11)
ROWS = (3 + 2 * RNG.normal(size=(26, 5))).astype(np.float32)
MASK = np.arange(26) % 13 < 7


def test_training_normalizes_the_real_rows():
    out = BatchNorm()(ROWS, mask=MASK, training=True).numpy()
    expected = (ROWS - ROWS[MASK].mean(0)) / np.sqrt(ROWS[MASK].var(0) + 1e-3)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_padding_does_not_move_the_averages():
    layers = [BatchNorm(), BatchNorm()]
    for layer, padding in zip(layers, (0.0, 1e6), strict=True):
        rows = np.where(MASK[:, None], ROWS, padding).astype(np.float32)
        layer(rows, mask=MASK, training=True)
    for one, other in zip(layers[0].weights, layers[1].weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_averages_follow_the_rising_decay():
    layer = MovingMoments(momentum=0.3)
    expected = np.zeros(5)
    for step, rows in enumerate(np.split(ROWS, 13)):
        layer(rows, training=True)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * rows.mean(0)
    np.testing.assert_allclose(layer.mean, expected, rtol=1e-5)
    assert layer.steps == 13


def test_a_batch_without_real_rows_changes_nothing():
    layer = BatchNorm()
    out = layer(ROWS, mask=np.zeros(26, bool), training=True)
    np.testing.assert_array_equal(layer.moments.mean, np.zeros(5))
    np.testing.assert_array_equal(layer.moments.variance, np.ones(5))
    assert np.isfinite(out).all()


def test_test_time_uses_the_averages_and_leaves_them():
    layer = BatchNorm()
    layer(ROWS, training=True)
    before = [weight.numpy() for weight in layer.weights]
    alone = layer(ROWS[:1]).numpy()
    np.testing.assert_allclose(layer(ROWS).numpy()[:1], alone, rtol=1e-6)
    for weight, value in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_affine_only_is_a_scale_and_a_shift_in_training_too():
    layer = BatchNorm(affine_only=True)
    layer.build(ROWS.shape)
    layer.gamma.assign(np.arange(5.0))
    layer.beta.assign(np.arange(5.0) - 2)
    expected = ROWS / np.sqrt(1 + 1e-3) * np.arange(5) + np.arange(5) - 2
    np.testing.assert_allclose(layer(ROWS, training=True), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(layer.moments.mean, np.zeros(5))


def test_gradient_passes_through_the_statistics():
    layer, rows = BatchNorm(), tf.Variable(ROWS)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(rows, training=True)[:, 0])
    # The normalized channel sums to zero whatever the rows, so its gradient is zero.
    np.testing.assert_allclose(tape.gradient(loss, rows), np.zeros_like(ROWS), atol=1e-5)


def test_two_replicas_normalize_and_average_as_one_device(mirrored, two_replicas):
    whole = BatchNorm()
    expected = whole(ROWS, mask=MASK, training=True)
    with mirrored.scope():
        layer = BatchNorm()
        layer.build(ROWS.shape)
    out = two_replicas(lambda rows, mask: layer(rows, mask=mask, training=True), ROWS, MASK)
    np.testing.assert_allclose(tf.concat(out.values, 0), expected, rtol=1e-4, atol=1e-5)
    for mine, one in zip(layer.weights, whole.weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), one.numpy(), rtol=1e-5)


def test_settings_survive_the_config():
    layer = BatchNorm(affine_only=True, epsilon=0.5, momentum=0.7)
    assert BatchNorm.from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_a_momentum_outside_its_range_is_refused(momentum):
    with pytest.raises(ValueError, match="momentum must be in"):
        MovingMoments(momentum)


def normalized_and_gradients(layer, rows):
    layer.build(rows.shape)
    random = np.random.default_rng(3)
    layer.set_weights([random.normal(size=weight.shape) for weight in layer.get_weights()])
    with tf.GradientTape() as tape:
        tape.watch(rows)
        out = layer(rows)
        loss = tf.reduce_sum(out**3)
    return [out, *tape.gradient(loss, [rows, *layer.trainable_variables])]


@pytest.mark.parametrize("shape", [(26, 5), (13, 2, 5), (2, 1, 13, 5)])
def test_layer_norm_has_the_values_and_gradients_of_keras(shape):
    rows = tf.constant(ROWS.reshape(shape))
    found = normalized_and_gradients(LayerNorm(), rows)
    expected = normalized_and_gradients(tf.keras.layers.LayerNormalization(), rows)
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-3, atol=1e-4)


def test_layer_norm_sums_in_float32_and_gives_what_it_was_given():
    rows = tf.constant(ROWS + 1000, tf.bfloat16)
    found = LayerNorm(dtype="mixed_bfloat16")(rows)
    assert found.dtype == tf.bfloat16
    expected = LayerNorm()(tf.cast(rows, tf.float32))
    np.testing.assert_allclose(tf.cast(found, tf.float32), expected, rtol=1e-2, atol=1e-2)


def test_rows_that_are_all_the_same_are_normalized_to_zero():
    rows = tf.fill([3, 5], 7.0)
    found = normalized_and_gradients(LayerNorm(), rows)
    assert all(np.all(np.isfinite(part)) for part in found)
    np.testing.assert_array_equal(LayerNorm()(rows), np.zeros([3, 5]))
