"""Dice and PReLU: Eq. (9), its limits, its statistics, and the public implementations."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.activations import Dice, PReLU, make_activation, prelu
from dgin_tf.layers.configured import as_config
from dgin_tf.released.head import RELEASED_DICE, ReleasedDice
from tests import golden_files
from tests.oracles import din

RNG = np.random.default_rng(7)
ROWS = (1 + RNG.normal(size=(22, 3))).astype(np.float32)
MASK = np.arange(22) % 11 < 7


def built(layer, alpha=None, mean=None, variance=None):
    layer.build((None, 3 if alpha is None else len(alpha)))
    if alpha is not None:
        layer.alpha.assign(alpha)
    if mean is not None:
        layer.moments.mean.assign(mean)
        layer.moments.variance.assign(variance)
    return layer


def test_dice_in_training_is_equation_9_with_the_real_rows_statistics():
    alpha = np.array([0.3, -0.5, 2.0])
    out = built(Dice(), alpha)(ROWS, mask=MASK, training=True)
    real = ROWS[MASK]
    expected = din.dice(ROWS, alpha, real.mean(0), real.var(0))
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_dice_at_test_time_uses_moving_averages_whoever_else_is_scored():
    layer = built(Dice(), np.array([0.3, -0.5, 2.0]), np.array([1.0, 2, 3]), np.array([4.0, 5, 6]))
    expected = din.dice(ROWS, layer.alpha.numpy(), np.array([1, 2, 3]), np.array([4, 5, 6]))
    np.testing.assert_allclose(layer(ROWS), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer(ROWS[:1]), layer(ROWS)[:1], rtol=1e-5)


@pytest.mark.parametrize("layer_class", [Dice, ReleasedDice])
def test_dice_with_alpha_one_is_the_identity(layer_class):
    out = built(layer_class(), np.ones(3))(ROWS, training=True)
    np.testing.assert_array_equal(out, ROWS)


def test_dice_becomes_prelu_as_the_variance_vanishes_at_mean_zero():
    alpha = np.array([0.3, -0.5, 2.0])
    layer = built(Dice(epsilon=1e-20), alpha, np.zeros(3), np.zeros(3))
    np.testing.assert_allclose(layer(ROWS), prelu(ROWS, alpha.astype(np.float32)), rtol=1e-6)


def test_two_replicas_of_dice_are_one(mirrored, two_replicas):
    expected = built(Dice())(ROWS, mask=MASK, training=True)
    with mirrored.scope():
        layer = built(Dice())
    out = two_replicas(lambda rows, mask: layer(rows, mask=mask, training=True), ROWS, MASK)
    np.testing.assert_allclose(tf.concat(out.values, 0), expected, rtol=1e-5, atol=1e-6)


def test_prelu_starts_with_slope_a_tenth():
    out = PReLU()(np.array([[-20.0, 3.0]], np.float32))
    np.testing.assert_allclose(out, [[-20 / 10, 3.0]])


def test_an_activation_is_made_from_a_name_a_layer_or_its_config():
    layer = Dice(epsilon=0.25)
    for given in (layer, as_config(layer)):
        made = make_activation(given, "other")
        assert (made.name, made.epsilon) == ("other", 0.25)
        assert made is not layer
    registered = make_activation(RELEASED_DICE, "a")
    assert (type(registered), registered.name) == (ReleasedDice, "a")
    np.testing.assert_allclose(make_activation("relu", "b")(ROWS), np.maximum(ROWS, 0))
    assert as_config("prelu") == "prelu"


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="nonesuch"):
        make_activation("nonesuch", "a")


def test_dice_of_half_precision_keeps_its_type_and_float32_statistics():
    layer = Dice(dtype="mixed_bfloat16")
    assert layer(ROWS, training=True).dtype == tf.bfloat16
    assert layer.moments.mean.dtype == tf.float32


@pytest.mark.parametrize("rank", ["2", "3"])
@pytest.mark.parametrize("training", [False, True])
def test_golden_dien_activations_dice(rank, training):
    golden = golden_files.load("dien_activations")
    layer = built(ReleasedDice(), golden[f"w_dice{rank}_alpha"])
    out = layer(golden[f"in_x{rank}"], training=training)
    golden_files.assert_close(out, golden[f"out_dice{rank}"])


@pytest.mark.parametrize("kind", ["prelu", "parametric_relu"])
def test_golden_dien_activations_prelu(kind):
    golden = golden_files.load("dien_activations")
    out = built(PReLU(), golden[f"w_{kind}_alpha"])(golden["in_x2"])
    golden_files.assert_close(out, golden[f"out_{kind}"])


@pytest.mark.parametrize("mode", ["training", "inference"])
def test_golden_deepctr_dice(mode):
    golden = golden_files.load("deepctr_dice")
    names = ("w_dice_alpha", "w_moving_mean", "w_moving_variance")
    layer = built(Dice(epsilon=1e-9), *(golden[name] for name in names))
    out = layer(golden["in_x"], training=mode == "training")
    golden_files.assert_close(out, golden[f"out_{mode}"])
