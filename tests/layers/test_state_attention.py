"""Attention over interest states: Eq. (9) in numpy, its limits, and the public implementations."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.state_attention import BilinearAttention, ProjectedAttention
from dgin_tf.layers.target_attention import ActivationUnit, TargetAttention, attend
from tests import golden_files
from tests.models import golden_dien, golden_models
from tests.oracles import dien

USERS, CANDIDATES, TIME, DIM, UNITS = 4, 3, 7, 5, 2
LENGTHS = np.array([7, 3, 1, 0])
MASK = np.arange(TIME) < LENGTHS[:, None]
RNG = np.random.default_rng(29)
TARGET = RNG.normal(size=(USERS, CANDIDATES, DIM)).astype(np.float32)
STATES = RNG.normal(size=(USERS, TIME, UNITS)).astype(np.float32)
attentions = pytest.mark.parametrize("attention_class", [BilinearAttention, ProjectedAttention])


def test_bilinear_attention_is_equation_9():
    attention = BilinearAttention(UNITS)
    found = attention(TARGET, STATES, MASK)
    kernel = attention.kernel.numpy()
    for user, length in enumerate(LENGTHS):
        for candidate in range(CANDIDATES):
            expected = dien.attention(STATES[user, :length], TARGET[user, candidate], kernel)
            np.testing.assert_allclose(found[user, candidate, :length], expected, rtol=1e-5)


@attentions
def test_weights_sum_to_one_over_real_events_and_to_zero_over_none(attention_class):
    found = attention_class(UNITS)(TARGET, STATES, MASK).numpy()
    np.testing.assert_array_equal(np.moveaxis(found, 1, 2)[~MASK], 0)
    sums = np.broadcast_to((LENGTHS > 0)[:, None], (USERS, CANDIDATES))
    np.testing.assert_allclose(found.sum(-1), sums, rtol=1e-5)


@attentions
def test_an_attention_comes_back_from_its_config(attention_class):
    attention = attention_class(UNITS, softmax=False)
    found = attention(TARGET, STATES, MASK)
    copy = tf.keras.layers.deserialize(tf.keras.layers.serialize(attention))
    copy(TARGET, STATES, MASK)
    copy.set_weights(attention.get_weights())
    np.testing.assert_array_equal(copy(TARGET, STATES, MASK), found)


def test_golden_dien_attention_fcn():
    golden = golden_files.load("dien_attention")
    weights = golden_files.weights(golden, "fcn_att_")
    facts, mask = tf.constant(golden["in_facts"]), golden["in_mask"] > 0
    attention = ProjectedAttention(facts.shape[-1], golden_files.hidden_units(weights))
    query = golden["in_query"][:, None]
    attention(query, facts, mask)
    golden_models.assign_unit(attention.attention.unit, weights)
    golden_dien.assign_projection(attention.projection, golden_files.weights(golden, "fcn_query_"))
    found = attention(query, facts, mask)
    real = (golden["in_mask"].sum(1) > 0)[:, None]  # the release spreads one over padding alone
    golden_files.assert_close(found[:, 0], golden["out_fcn_alphas"] * real)
    listed = found[:, 0, :, None] * facts
    golden_files.assert_close(listed, golden["out_fcn_list"] * real[..., None])
    golden_files.assert_close(attend(found, facts), golden["out_fcn_sum"] * real[..., None])


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("name", ["dot", "bilinear", "din"])
def test_golden_longctr_dien_attention(name, softmax):
    golden = golden_files.load("longctr_dien_attention")
    stem = f"{name}_attention" + ("" if softmax else "_nosoftmax")
    states, units = golden["in_sequence"], golden["in_sequence"].shape[-1]
    mask = golden["in_mask"] > 0
    weights = golden_files.weights(golden, f"{stem}_")
    if name == "din":
        weights = {k.removeprefix("attn_mlp_"): v for k, v in weights.items()}
        unit = ActivationUnit(golden_files.hidden_units(weights), "relu")
        attention = TargetAttention(unit, softmax)
    else:
        attention = BilinearAttention(units, softmax)
    arguments = golden["in_target"][:, None], states, mask
    attention(*arguments)
    if name == "din":
        golden_models.assign_unit(attention.unit, weights)
    else:
        attention.kernel.assign(weights.get("W_kernel", np.eye(units)))
    # Over padding alone, LongCTR's softmax is uniform.
    real = np.any(mask, axis=1, keepdims=True)
    golden_files.assert_close(attention(*arguments)[:, 0], golden[f"out_{stem}"] * real)


def test_the_kernel_starts_by_the_initializer_and_is_regularized():
    attention = BilinearAttention(UNITS, kernel_initializer="ones", kernel_regularizer="l2")
    attention(TARGET, STATES)
    assert (attention.kernel.numpy() == 1).all()
    np.testing.assert_allclose(attention.losses, [0.01 * DIM * UNITS], rtol=1e-5)


@attentions
def test_without_a_mask_every_state_is_real(attention_class):
    attention = attention_class(UNITS)
    expected = attention(TARGET, STATES, np.ones_like(MASK))
    np.testing.assert_array_equal(attention(TARGET, STATES), expected)
