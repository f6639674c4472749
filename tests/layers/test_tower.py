"""The tower: its arithmetic, its two output forms, and its indifference to padded candidates."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.tower import Tower

RNG = np.random.default_rng(3)
INPUTS = RNG.normal(size=(5, 3, 7)).astype(np.float32)
MASK = np.arange(3) < np.array([3, 1, 2, 3, 0])[:, None]


def make(**options):
    tower = Tower((11, 2), **{"activation": "relu", "normalization": "none", **options})
    tower(INPUTS)
    for weight in tower.trainable_weights:
        weight.assign(RNG.normal(size=weight.shape))
    return tower


def outputs(tower):
    rows = INPUTS.reshape(-1, 7)
    for dense in tower.hidden:
        rows = np.maximum(rows @ dense.kernel.numpy() + dense.bias.numpy(), 0)
    last = tower.output_layer
    return (rows @ last.kernel.numpy() + last.bias.numpy()).reshape(5, 3, -1)


def test_one_logit_is_the_last_layer():
    tower = make()
    np.testing.assert_allclose(tower(INPUTS), outputs(tower)[..., 0], rtol=1e-5, atol=1e-5)


def test_two_way_logit_is_the_log_odds_of_the_softmax_with_click_first():
    tower = make(two_way=True)
    softmax = tf.nn.softmax(outputs(tower)).numpy()
    np.testing.assert_allclose(tf.sigmoid(tower(INPUTS)), softmax[..., 0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalization", ["batch", "affine_only", "none"])
@pytest.mark.parametrize("activation", ["dice", "prelu", "sigmoid"])
def test_padded_candidates_do_not_move_the_others_bitwise(normalization, activation):
    tower = make(normalization=normalization, activation=activation)
    other = np.where(MASK[..., None], INPUTS, 77).astype(np.float32)
    one, two = (tower(x, mask=MASK, training=True).numpy() for x in (INPUTS, other))
    np.testing.assert_array_equal(one[MASK], two[MASK])


def test_candidates_do_not_see_each_other_at_test_time():
    tower = make(normalization="batch", activation="dice")
    alone = tower(INPUTS[:, 1:2]).numpy()
    np.testing.assert_allclose(tower(INPUTS)[:, 1:2], alone, rtol=1e-5, atol=1e-5)


def test_logits_of_half_precision_are_float32():
    tower = Tower((11, 2), dtype="mixed_bfloat16")
    assert tower(INPUTS, mask=MASK, training=True).dtype == tf.float32


def test_two_replicas_give_the_logits_and_averages_of_the_whole_batch(mirrored, two_replicas):
    inputs, mask = INPUTS[:4], MASK[:4]
    whole = make(normalization="batch", activation="dice")
    with mirrored.scope():
        tower = make(normalization="batch", activation="dice")
        tower.set_weights(whole.get_weights())
    parts = two_replicas(lambda x, m: tower(x, mask=m, training=True), inputs, mask)
    expected = whole(inputs, mask=mask, training=True)
    np.testing.assert_allclose(tf.concat(parts.values, 0), expected, rtol=1e-4, atol=1e-4)
    for one, other in zip(whole.weights, tower.weights, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=1e-4, atol=1e-5)


def test_momentum_decides_how_fast_averages_follow():
    """Inputs whose mean moves by a deviation a step, as averages of large embeddings do."""
    lag = {}
    for momentum in (0.5, 0.99):
        tower = make(normalization="batch", momentum=momentum)
        for step in range(200):
            tower(INPUTS + step, training=True)
        lag[momentum] = np.mean(INPUTS + step) - np.mean(tower.batch_norm.moments.mean)
    assert lag[0.5] == pytest.approx(1, abs=0.01)
    assert lag[0.99] > 10


def test_settings_survive_the_config():
    tower = Tower((11,), "prelu", normalization="affine_only", two_way=True, momentum=0.7)
    assert Tower.from_config(tower.get_config()).get_config() == tower.get_config()


def test_an_unknown_normalization_is_refused():
    with pytest.raises(ValueError, match="'batch', 'affine_only' or 'none'; got 'layer'"):
        Tower(normalization="layer")


def test_every_kernel_starts_by_the_initializer_and_is_regularized():
    tower = Tower(
        (11, 2), kernel_initializer="he_uniform", kernel_regularizer=tf.keras.regularizers.L2(0.5)
    )
    tower(INPUTS)
    kernels = [dense.kernel.numpy() for dense in (*tower.hidden, tower.output_layer)]
    expected_loss = 0.5 * sum(np.square(kernel).sum() for kernel in kernels)
    np.testing.assert_allclose(sum(tower.losses), expected_loss, rtol=1e-5)
    for kernel in kernels:  # uniform within sqrt(6 / fan in)
        assert np.abs(kernel).max() < np.sqrt(6 / len(kernel))
    copy = Tower.from_config(tower.get_config())
    assert copy.get_config() == tower.get_config()
    assert type(copy.hidden[0].kernel_initializer) is tf.keras.initializers.HeUniform
