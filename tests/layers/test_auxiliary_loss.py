"""The auxiliary loss against Eq. (7) in numpy, its invariants, and the released network."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.auxiliary_loss import AuxiliaryLoss, click_net
from dgin_tf.released.dien import ReleasedAuxiliaryLoss
from tests import golden_files
from tests.models import golden_dien
from tests.oracles import dien

USERS, TIME, DIM = 5, 7, 3
LENGTHS = np.array([7, 4, 2, 1, 0])
MASK = np.arange(TIME) < LENGTHS[:, None]
RNG = np.random.default_rng(23)
STATES, EVENTS, NEGATIVES = (
    RNG.normal(size=(3, USERS, TIME, DIM)).astype(np.float32) * MASK[..., None]
)


def expected():
    return [
        dien.auxiliary_loss(*(array[user, :length] for array in (STATES, EVENTS, NEGATIVES)))
        for user, length in enumerate(LENGTHS)
    ]


def test_the_loss_is_equation_7_for_every_user():
    found = AuxiliaryLoss()(STATES, EVENTS, NEGATIVES, MASK)
    np.testing.assert_allclose(found, expected(), rtol=1e-5)


def test_a_history_of_fewer_than_two_events_costs_exactly_nothing():
    found = AuxiliaryLoss()(STATES, EVENTS, NEGATIVES, MASK)
    np.testing.assert_array_equal(found[3:], [0, 0])


def test_the_weight_is_a_factor():
    found = AuxiliaryLoss(weight=0.5)(STATES, EVENTS, NEGATIVES, MASK)
    np.testing.assert_allclose(found, 0.5 * np.array(expected()), rtol=1e-5)


def test_a_zero_state_costs_two_logarithms_of_two_for_each_pair():
    found = AuxiliaryLoss()(np.zeros_like(STATES), EVENTS, NEGATIVES, MASK)
    pairs = np.maximum(LENGTHS - 1, 0)
    np.testing.assert_allclose(found, pairs * 2 * np.log(2), rtol=1e-6)


@pytest.mark.parametrize("reduce", ["sum", "mean_valid"])
@pytest.mark.parametrize("score", [None, click_net])
def test_padding_on_either_side_changes_nothing(reduce, score):
    loss = AuxiliaryLoss(score=score and score(), reduce=reduce)
    found = loss(STATES, EVENTS, NEGATIVES, MASK)
    for widths in ((0, 4), (4, 0)):
        padded = [np.pad(a, [(0, 0), widths, (0, 0)]) for a in (STATES, EVENTS, NEGATIVES)]
        again = loss(*padded, np.pad(MASK, [(0, 0), widths]))
        np.testing.assert_allclose(again, found, rtol=1e-6)


def test_what_stands_under_padding_reaches_neither_loss_nor_gradient():
    noise = RNG.normal(size=STATES.shape).astype(np.float32) * ~MASK[..., None]
    arrays = [tf.constant(array + noise) for array in (STATES, EVENTS, NEGATIVES)]
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        found = AuxiliaryLoss()(*arrays, MASK)
    np.testing.assert_allclose(found, expected(), rtol=1e-5)
    for gradient in tape.gradient(found, arrays):
        np.testing.assert_array_equal(gradient.numpy()[~MASK], 0.0)


def test_reductions_divide_by_the_real_pairs_or_by_the_padded_length():
    total = np.array(expected())
    pairs = np.maximum(LENGTHS - 1, 1)
    arguments = STATES, EVENTS, NEGATIVES, MASK
    np.testing.assert_allclose(AuxiliaryLoss(reduce="mean_valid")(*arguments), total / pairs, 1e-5)
    net = ReleasedAuxiliaryLoss()
    net.score = None  # the inner product
    np.testing.assert_allclose(net(*arguments), total / 6, 1e-5)


def test_large_scores_do_not_overflow():
    found = AuxiliaryLoss()(1e3 * STATES, 1e3 * EVENTS, NEGATIVES, MASK)
    assert np.isfinite(found).all()


def test_states_of_another_width_and_unknown_reductions_are_refused():
    with pytest.raises(ValueError, match="states as wide as events; got 2 and 3"):
        AuxiliaryLoss()(STATES[..., :2], EVENTS, NEGATIVES, MASK)
    with pytest.raises(ValueError, match="reduce must be one of"):
        AuxiliaryLoss(reduce="mean")


def test_a_layer_comes_back_from_its_config():
    loss = AuxiliaryLoss(0.7, click_net(), "mean_valid")
    arguments = STATES, EVENTS, NEGATIVES, MASK
    found = loss(*arguments)
    copy = tf.keras.layers.deserialize(tf.keras.layers.serialize(loss))
    copy(*arguments)
    copy.set_weights(loss.get_weights())
    np.testing.assert_array_equal(copy(*arguments), found)


def test_golden_dien_aux_loss_and_its_gradients():
    golden = golden_files.load("dien_aux_loss")
    loss = ReleasedAuxiliaryLoss()
    # The file's arrays are already shifted against each other: its step t is our pair (t, t + 1).
    shift, hold = [(0, 0), (1, 0), (0, 0)], [(0, 0), (0, 1), (0, 0)]
    states = tf.constant(golden["in_h_states"])
    items = [tf.constant(golden[f"in_{name}_seq"]) for name in ("click", "noclick")]
    mask = golden["in_mask"] > 0
    mask = np.concatenate([mask[:, :1], mask], 1)

    def run():
        padded = (tf.pad(states, hold), *(tf.pad(item, shift) for item in items))
        return tf.reduce_mean(loss(*padded, mask))

    run()
    golden_dien.assign_click_net(loss.score, golden_files.weights(golden, ""), "bn1")
    with tf.GradientTape() as tape:
        tape.watch([states, *items])
        found = run()
    golden_files.assert_close(found, golden["out_loss"])
    names = ("h_states", "click_seq", "noclick_seq")
    for name, gradient in zip(names, tape.gradient(found, [states, *items]), strict=True):
        expected = golden[f"out_grad_{name}"]
        golden_files.assert_close(
            gradient / np.abs(expected).max(), expected / np.abs(expected).max()
        )


def test_without_a_mask_every_event_is_real():
    arguments = STATES, EVENTS, NEGATIVES
    np.testing.assert_array_equal(
        AuxiliaryLoss()(*arguments), AuxiliaryLoss()(*arguments, np.ones_like(MASK))
    )
