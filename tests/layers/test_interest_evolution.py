"""The recurrent interest encoders: the equations in a row, their state, and what must not matter."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.auxiliary_loss import AuxiliaryLoss, click_net
from dgin_tf.layers.events import History, Target
from dgin_tf.layers.interest_evolution import (
    InterestEvolution,
    TwoLayerGRUAttention,
    equal_attention,
)
from dgin_tf.layers.recurrent import AGRU, AIGRU, AUGRU, GRU
from dgin_tf.layers.state_attention import BilinearAttention, ProjectedAttention
from tests.oracles import dien

USERS, CANDIDATES, TIME, DIM, UNITS = 4, 3, 7, 5, 2
LENGTHS = np.array([7, 3, 1, 0])
MASK = np.arange(TIME) < LENGTHS[:, None]
RNG = np.random.default_rng(31)
EVENTS = RNG.normal(size=(USERS, TIME, DIM)).astype(np.float32) * MASK[..., None]
TARGET = Target(
    tf.constant(RNG.normal(size=(USERS, CANDIDATES, DIM)), tf.float32),
    tf.ones([USERS, CANDIDATES], tf.bool),
)


def history(events=EVENTS, mask=MASK, negatives=None):
    return History(tf.constant(events), tf.constant(mask), negatives=negatives)


def evolution(cell=AUGRU, **options):
    return InterestEvolution(GRU(UNITS), cell=cell(UNITS), **options)


def two_layers():
    return TwoLayerGRUAttention(GRU(UNITS), GRU(UNITS + 1))


encoders = pytest.mark.parametrize(
    "make",
    [evolution, lambda: evolution(AGRU), lambda: evolution(AIGRU), two_layers],
    ids=["augru", "agru", "aigru", "two layers"],
)


def randomized(encoder):
    """An encoder that has seen a batch and whose biases are not zero."""
    encoder.interest(encoder.encode(history()), TARGET)
    encoder.set_weights([RNG.normal(size=w.shape) for w in encoder.get_weights()])
    return encoder


def interest(encoder, *args):
    return encoder.interest(encoder.encode(history(*args)), TARGET)["interest"].numpy()


def weights_of(layer):
    return dict(zip("WbU", layer.get_weights(), strict=True))


def test_interest_is_extraction_then_attention_then_evolution():
    encoder = randomized(evolution())
    found = encoder.interest(encoder.encode(history()), TARGET)
    kernel = encoder.attention.kernel.numpy()
    for user, length in enumerate(LENGTHS[:3]):
        start, events = np.zeros(UNITS), EVENTS[user, :length]
        states = dien.unroll(dien.gru, events, events, start, weights_of(encoder.extractor))
        for candidate, target in enumerate(TARGET.embedding[user].numpy()):
            scores = dien.attention(states, target, kernel)
            path = dien.unroll(dien.augru, states, scores, start, weights_of(encoder.cell))
            attention = found["attention"][user, candidate, :length]
            np.testing.assert_allclose(attention, scores, atol=1e-5)
            np.testing.assert_allclose(found["interest"][user, candidate], path[-1], atol=1e-5)


def test_two_layers_attend_to_the_second():
    encoder = randomized(two_layers())
    found = encoder.interest(encoder.encode(history()), TARGET)
    events, start = EVENTS[0], np.zeros(UNITS)
    lower = dien.unroll(dien.gru, events, events, start, weights_of(encoder.first))
    upper = dien.unroll(dien.gru, lower, lower, np.zeros(UNITS + 1), weights_of(encoder.second))
    expected = found["attention"][0].numpy() @ upper
    np.testing.assert_allclose(found["interest"][0], expected, atol=1e-5)


def test_one_event_is_its_own_second_state_whatever_the_target():
    encoder = randomized(two_layers())
    state = encoder.encode(history())
    found = encoder.interest(state, TARGET)["interest"][2]
    expected = np.tile(state["interest_states"][2, :1], [CANDIDATES, 1])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_constant_scores_give_the_mean_of_the_second_states():
    encoder = randomized(two_layers())
    encoder.attention = BilinearAttention(UNITS + 1)
    state = encoder.encode(history())
    encoder.interest(state, TARGET)
    encoder.attention.set_weights([0 * w for w in encoder.attention.get_weights()])
    found = encoder.interest(state, TARGET)["interest"]
    expected = state["interest_states"][1, :3].numpy().mean(0)
    np.testing.assert_allclose(found[1], np.tile(expected, [CANDIDATES, 1]), atol=1e-6)


@encoders
def test_an_empty_history_has_no_interest_and_finite_gradients(make):
    encoder = randomized(make())
    assert not interest(encoder)[3].any()
    with tf.GradientTape() as tape:
        state = encoder.encode(history(mask=np.zeros_like(MASK)))
        found = encoder.interest(state, TARGET)["interest"]
    assert not np.any(found)
    for gradient in tape.gradient(found, encoder.trainable_weights):
        assert np.isfinite(gradient).all()


@encoders
def test_padding_on_either_side_changes_nothing(make):
    encoder = randomized(make())
    noise = RNG.normal(size=EVENTS.shape).astype(np.float32)
    expected = interest(encoder)
    padded = np.where(MASK[..., None], EVENTS, noise)
    np.testing.assert_array_equal(interest(encoder, padded, MASK), expected)
    shift = np.array([np.roll(np.arange(TIME), TIME - length) for length in LENGTHS])
    rows = np.arange(USERS)[:, None]
    found = interest(encoder, EVENTS[rows, shift], MASK[rows, shift])
    np.testing.assert_allclose(found, expected, atol=1e-6)


@encoders
@pytest.mark.parametrize("cuts", [(3,), (1, 2, 5), (0, 7)])
def test_updates_equal_one_encoding_of_everything(make, cuts):
    encoder = randomized(make())
    starts = (0, *cuts)
    pieces = [
        history(EVENTS[:, a:b], MASK[:, a:b]) for a, b in zip(starts, (*cuts, TIME), strict=True)
    ]
    state = encoder.encode(pieces[0])
    for piece in pieces[1:]:
        state = encoder.update(state, piece)
    found = encoder.interest(state, TARGET)["interest"]
    np.testing.assert_allclose(found, interest(encoder), atol=1e-6)


@encoders
def test_an_update_goes_on_behind_padding(make):
    encoder = randomized(make())
    newer = RNG.normal(size=(USERS, 2, DIM)).astype(np.float32)
    updated = encoder.update(encoder.encode(history()), history(newer, np.ones((USERS, 2), bool)))
    found = encoder.interest(updated, TARGET)["interest"]
    for user, length in enumerate(LENGTHS):
        whole = np.zeros((USERS, length + 2, DIM), np.float32)
        whole[user] = np.concatenate([EVENTS[user, :length], newer[user]])
        expected = interest(encoder, whole, np.ones(whole.shape[:2], bool))
        np.testing.assert_allclose(found[user], expected[user], atol=1e-6)


@encoders
def test_candidates_do_not_see_each_other(make):
    encoder = randomized(make())
    state = encoder.encode(history())
    alone = Target(TARGET.embedding[:, 1:2], TARGET.mask[:, 1:2])
    np.testing.assert_allclose(
        encoder.interest(state, alone)["interest"][:, 0],
        encoder.interest(state, TARGET)["interest"][:, 1],
        atol=1e-6,
    )


def test_the_path_of_the_interests_ends_where_the_interest_is():
    encoder = randomized(evolution())
    state = encoder.encode(history())
    path = encoder.evolution(state, encoder.attend(state, TARGET))
    assert path.shape == (USERS, CANDIDATES, TIME, UNITS)
    np.testing.assert_array_equal(path[:, :, -1], encoder.interest(state, TARGET)["interest"])


def test_without_a_target_all_real_events_score_the_same():
    np.testing.assert_allclose(equal_attention(MASK)[1, 0], [1 / 3] * 3 + [0] * 4)
    encoder = randomized(evolution())
    state = encoder.encode(history())
    expected = encoder.evolution(state, equal_attention(MASK))
    np.testing.assert_array_equal(encoder.evolution(state), expected)
    assert expected.shape == (USERS, 1, TIME, UNITS)


def test_the_auxiliary_loss_needs_negatives_and_sees_states_against_the_next_event():
    loss = AuxiliaryLoss(0.5)
    encoder = InterestEvolution(GRU(DIM), auxiliary_loss=loss)
    assert encoder.auxiliary_loss_names == ("auxiliary",)
    state, losses = encoder.encode_with_losses(history())
    assert losses == {}
    negatives = tf.constant(RNG.normal(size=EVENTS.shape), tf.float32)
    _, losses = encoder.encode_with_losses(history(negatives=negatives))
    found = losses["auxiliary"]
    for user, length in enumerate(LENGTHS):
        arrays = (state["interest_states"], EVENTS, negatives)
        expected = dien.auxiliary_loss(*(np.array(array[user, :length]) for array in arrays))
        np.testing.assert_allclose(found[user], 0.5 * expected, rtol=1e-5)


@pytest.mark.parametrize("attention", [None, ProjectedAttention(UNITS)])
def test_an_evolution_comes_back_from_its_config(attention):
    loss = AuxiliaryLoss()
    encoder = InterestEvolution(GRU(UNITS), attention, AGRU(UNITS, reset_after=False), loss)
    check_copy(encoder)


def test_two_layers_come_back_from_their_config():
    check_copy(two_layers())


def check_copy(encoder):
    expected = interest(randomized(encoder))
    copy = tf.keras.layers.deserialize(tf.keras.layers.serialize(encoder))
    interest(copy)
    copy.set_weights(encoder.get_weights())
    np.testing.assert_array_equal(interest(copy), expected)


def test_an_encoder_is_called_on_embedded_events_from_a_notebook():
    for encoder in (
        evolution(),
        two_layers(),
        InterestEvolution(GRU(DIM), None, None, AuxiliaryLoss()),
    ):
        outputs = encoder(TARGET.embedding, (EVENTS, MASK))
        expected = encoder.interest(encoder.encode(history()), TARGET)
        np.testing.assert_array_equal(outputs["interest"], expected["interest"])
        np.testing.assert_array_equal(outputs["attention"], expected["attention"])
        assert outputs["losses"] == {}
    with pytest.raises(ValueError, match="history must be a History"):
        evolution()(TARGET.embedding, {"events": EVENTS})


def test_the_auxiliary_network_has_weights_before_there_are_negatives():
    encoder = evolution(auxiliary_loss=AuxiliaryLoss(score=click_net()))
    encoder(TARGET.embedding, (EVENTS, MASK))
    weights = encoder.auxiliary_loss.score.weights
    assert weights
    copy = tf.keras.layers.deserialize(tf.keras.layers.serialize(encoder))
    copy(TARGET.embedding, (EVENTS, MASK))
    assert len(copy.auxiliary_loss.score.weights) == len(weights)
