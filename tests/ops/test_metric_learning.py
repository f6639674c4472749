"""ENCODE's losses against numpy, and what they vanish for."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.dimension_reduction import DimensionReduction
from dgin_tf.ops import metric_learning as learning
from dgin_tf.ops.compiling import MIN_XLA_ROWS
from tests.oracles import encode

LENGTHS, TIME, DIM, REDUCED = (13, 7, 3, 2, 1, 0), 13, 5, 3
every_sampling = pytest.mark.parametrize("name", learning.SAMPLINGS)


def events(seed=0, time=TIME):
    shape = (len(LENGTHS), time, DIM)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def mask():
    return np.arange(TIME) < np.array(LENGTHS)[:, None]


def draw(name, draws, seed=1):
    rank = tf.broadcast_to(tf.range(TIME), mask().shape)
    return learning.SAMPLINGS[name](tf.constant(mask()), rank, draws, seed)


def compared(name, draws):
    original = events()
    reduced = original @ np.random.default_rng(5).normal(size=(DIM, REDUCED)).astype(np.float32)
    others = draw(name, draws)
    anchors = learning.Anchors(None, others, tf.constant(mask()))
    distance = learning.distances(tf.constant(original), anchors)
    distance, ordered = learning.nearest_first(distance, others)
    drawn = learning.look_up(tf.constant(reduced), ordered.places)
    comparison = learning.Comparison(distance, tf.constant(reduced), drawn, ordered.mask)
    return original, reduced, others, comparison


def anchors_with(name, draws, others):
    """User, time and places of the drawn events, for anchors with all of them."""
    for user, length in enumerate(LENGTHS):
        for place in range(length):
            if np.all(others.mask[user, place]):
                yield user, place, others.places[user, place].numpy().tolist()


@pytest.mark.parametrize(
    ("loss", "oracle"), [("dynamic", encode.dynamic_triplet), ("n_pair", encode.n_pair)]
)
@every_sampling
def test_losses_are_those_of_the_equations(name, loss, oracle):
    formula, draws, _ = learning.LOSSES[loss]
    original, reduced, others, found = compared(name, draws)
    values, count = formula(found), 0
    flat, low = original.reshape(-1, DIM), reduced.reshape(-1, REDUCED)
    for user, place, drawn in anchors_with(name, draws, others):
        wanted = oracle(flat, low, user * TIME + place, drawn)
        np.testing.assert_allclose(values[user, place], wanted, rtol=1e-3, atol=1e-5)
        count += 1
    assert count > 3


def test_the_other_losses_are_what_they_say():
    _, _, _, found = compared("sequence", 2)
    near, far = found.reduced[..., 0], found.reduced[..., 1]
    np.testing.assert_allclose(learning.fixed_triplet(found), tf.nn.relu(near - far + 0.2))
    wanted = (near - found.original[..., 0]) ** 2
    np.testing.assert_allclose(learning.squared_error(found), wanted, rtol=1e-6)


@every_sampling
def test_others_are_real_different_and_not_the_anchor(name):
    others = draw(name, 6)
    real = set(np.flatnonzero(mask()))
    for user, length in enumerate(LENGTHS):
        for place in range(length):
            drawn = others.places[user, place].numpy()[others.mask[user, place]].tolist()
            assert len(set(drawn)) == len(drawn)
            assert set(drawn) <= real - {user * TIME + place}
            if name != "batch":
                assert {where // TIME for where in drawn} <= {user}
            if name == "neighbors":
                assert {abs(where % TIME - place) for where in drawn} <= {1}
            if name == "sequence":
                assert len(drawn) == min(6, length - 1)


def test_every_other_event_is_drawn_some_time():
    long = tf.ones([1, 41], tf.bool)
    rank = tf.range(41)[tf.newaxis]
    drawn = [learning.draw_from_sequence(long, rank, 2, seed).places for seed in range(99)]
    steps = (np.concatenate(drawn) - np.arange(41)[:, None]) % 41
    assert set(steps.ravel()) == set(range(1, 41))


@pytest.mark.parametrize("loss", ["dynamic", "mse"])
def test_an_orthogonal_projection_of_full_width_loses_nothing(loss):
    layer = DimensionReduction(DIM, loss)
    layer(events())
    random = np.random.default_rng(3).normal(size=(DIM, DIM))
    layer.kernel.assign(np.linalg.qr(random)[0])
    np.testing.assert_allclose(layer.loss(events(), mask()), 0.0, atol=1e-6)
    layer.kernel.assign(random)
    assert np.all(layer.loss(events(), mask()).numpy()[:2] > 1e-3)


@pytest.mark.parametrize("loss", learning.LOSSES)
def test_fewer_than_three_events_lose_nothing(loss):
    layer = DimensionReduction(REDUCED, loss)
    found = layer.loss(events(), mask()).numpy()
    assert np.all(found[:3] > 0)
    np.testing.assert_array_equal(found[3:], 0.0)


def test_identical_events_have_no_dynamic_margin_and_equal_pairs():
    same = np.broadcast_to(events()[:, :1], events().shape)
    for loss, wanted in (("dynamic", 0.0), ("fixed", 0.2), ("mse", 0.0), ("n_pair", np.log(6))):
        layer = DimensionReduction(REDUCED, loss, weight=1.0)
        found = layer.loss(same, mask()).numpy()
        projected = layer(same)[0, 0]
        np.testing.assert_allclose(found[0], wanted, rtol=1e-3, atol=1e-5)
        assert projected.shape == (REDUCED,)


@pytest.mark.parametrize("loss", learning.LOSSES)
def test_zero_vectors_give_a_finite_loss_and_gradient(loss):
    layer, values = DimensionReduction(REDUCED, loss), events()
    values[0, ::2] = 0
    layer(values)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer.loss(values, mask()))
    gradient = tape.gradient(total, layer.kernel)
    assert np.isfinite(total)
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient)


def test_the_loss_reaches_the_projection_and_no_embedding():
    layer, values = DimensionReduction(REDUCED), tf.constant(events())
    layer(values)
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(layer.loss(values, mask()))
    found, reached = tape.gradient(total, [values, layer.kernel])
    assert found is None
    assert np.any(reached)


def test_learning_keeps_the_order_of_distances_better():
    layer = DimensionReduction(REDUCED, weight=1.0)
    values, real = tf.constant(events()), tf.constant(mask())
    layer(values)
    optimizer, losses = tf.keras.optimizers.legacy.SGD(0.5), []
    for _ in range(60):
        with tf.GradientTape() as tape:
            losses.append(tf.reduce_mean(layer.loss(values, real)))
        optimizer.apply_gradients([(tape.gradient(losses[-1], layer.kernel), layer.kernel)])
    assert losses[-1] < 0.8 * losses[0]


def test_without_a_loss_the_projection_is_not_trained():
    layer = DimensionReduction(REDUCED, "none")
    layer(events())
    assert layer.trainable_variables == []
    assert not np.any(layer.loss(events(), mask()))


def test_few_anchors_are_a_part_of_all():
    pairs, real = learning.Pairs("mse", anchors=5), mask()
    anchors = learning.draw_anchors(pairs, tf.constant(real))
    assert anchors.places.shape == anchors.mask.shape == (len(LENGTHS), 5)
    count = real.sum(1)
    np.testing.assert_array_equal(
        anchors.mask.numpy().sum(1), np.where(count > 2, np.minimum(count, 5), 0)
    )
    for user, (places, exists) in enumerate(zip(*anchors[::2], strict=True)):
        chosen = places.numpy()[exists]
        assert len(set(chosen)) == len(chosen)
        assert np.all(real[user, chosen])


@pytest.mark.parametrize("anchors", [None, 2])
@pytest.mark.parametrize("sampling", learning.SAMPLINGS)
@pytest.mark.parametrize("time", [0, 1, 2])
def test_a_time_axis_of_fewer_than_three_events_has_no_loss(time, sampling, anchors):
    layer = DimensionReduction(REDUCED, sampling=sampling, anchors=anchors)
    loss = layer.loss(tf.ones([3, time, 4]), tf.fill([3, time], True))
    np.testing.assert_array_equal(loss, [0.0, 0.0, 0.0])


@pytest.mark.parametrize("anchors", [None, 5])
@pytest.mark.parametrize("sampling", ["sequence", "batch"])
@pytest.mark.parametrize("loss", ["dynamic", "n_pair"])
def test_the_fast_loss_has_the_value_and_the_gradient_of_the_formula(loss, sampling, anchors):
    random = np.random.default_rng(4)
    vectors = tf.constant(random.normal(size=(MIN_XLA_ROWS, 11, 6)), tf.float32)
    real = tf.constant(np.arange(11) < random.integers(0, 12, (MIN_XLA_ROWS, 1)))
    layer = DimensionReduction(REDUCED, loss, sampling, anchors=anchors, weight=1.0)
    layer(vectors)
    pairs = learning.Pairs(loss, sampling, anchors)

    def formula():
        return learning.mean_loss(pairs, vectors, tf.tensordot(vectors, layer.kernel, 1), real)

    def with_gradient(function):
        with tf.GradientTape() as tape:
            values = function()
        return values, tape.gradient(values, layer.kernel)

    def fast():
        return layer.loss(vectors, real)

    compiled = tf.function(lambda: with_gradient(fast), autograph=False)()
    for values in zip(compiled, with_gradient(fast), with_gradient(formula), strict=True):
        assert np.any(values[-1])
        for ours in values[:-1]:
            np.testing.assert_allclose(ours, values[-1], rtol=1e-5, atol=1e-6)


def test_vectors_that_are_reduced_already_give_the_same_loss():
    layer, values = DimensionReduction(REDUCED), events()
    layer(values)
    with tf.GradientTape(persistent=True) as tape:
        whole, part = layer.loss(values, mask()), layer.loss(values, mask(), layer(values))
    np.testing.assert_array_equal(part, whole)
    np.testing.assert_array_equal(*(tape.gradient(x, layer.kernel) for x in (part, whole)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss": "l2"}, "n_pair, mse, none; got 'l2'"),
        ({"sampling": "world"}, "sequence, batch; got 'world'"),
        ({"dim": 0}, "at least 1; got 0 and None"),
        ({"anchors": 0}, "at least 1; got 4 and 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        DimensionReduction(**settings)
