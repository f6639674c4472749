"""Target attention: Eq. (3) against the oracle, its invariants, and the public implementations."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.activations import Dice
from dgin_tf.layers.target_attention import (
    ActivationUnit,
    AttendedHistory,
    QueryProjection,
    TargetAttention,
    attend,
    pairwise_dense,
)
from dgin_tf.ops.masking import masked_softmax
from tests import golden_files
from tests.models import golden_models
from tests.oracles import din

USERS, CANDIDATES, TIME, DIM = 4, 3, 7, 5
LENGTHS = np.array([7, 2, 1, 0])
MASK = np.arange(TIME) < LENGTHS[:, None]
RNG = np.random.default_rng(5)
QUERY = RNG.normal(size=(USERS, CANDIDATES, DIM)).astype(np.float32)
EVENTS = RNG.normal(size=(USERS, TIME, DIM)).astype(np.float32) * MASK[..., None]


def make(activation="sigmoid", units=(11, 2), **options):
    """An attention with random weights, biases among them."""
    unit = ActivationUnit(units, activation)
    unit(QUERY, EVENTS)
    for weight in unit.trainable_weights:
        weight.assign(RNG.normal(size=weight.shape))
    return TargetAttention(unit, **options)


def layers_of(unit):
    first = [(unit.kernel.numpy(), unit.bias.numpy())]
    return first + [(dense.kernel.numpy(), dense.bias.numpy()) for dense in unit.dense]


def interest(attention, query=QUERY, events=EVENTS, mask=MASK, training=False):
    return attend(attention(query, events, mask, training=training), tf.constant(events)).numpy()


@pytest.mark.parametrize("softmax", [False, True])
def test_interest_is_equation_3_for_every_user_and_candidate(softmax):
    attention = make(softmax=softmax)
    found, layers = interest(attention), layers_of(attention.unit)
    for user, length in enumerate(LENGTHS):
        for candidate, query in enumerate(QUERY[user]):
            events = EVENTS[user, :length]
            expected = din.interest(query, events, layers, din.sigmoid, softmax)
            np.testing.assert_allclose(found[user, candidate], expected, rtol=1e-4, atol=1e-5)


def test_the_regrouped_first_layer_equals_the_four_fold_features_and_their_gradients():
    kernel, bias = RNG.normal(size=(4 * DIM, 11)), RNG.normal(size=11)
    arguments = [tf.constant(a, tf.float64) for a in (QUERY, EVENTS, kernel, bias)]

    def naive(query, keys, kernel, bias):
        shape = [USERS, CANDIDATES, TIME, DIM]
        q = tf.broadcast_to(query[:, :, None], shape)
        k = tf.broadcast_to(keys[:, None], shape)
        return tf.tensordot(tf.concat([q, k, q - k, q * k], -1), kernel, 1) + bias

    results = []
    for function in (naive, pairwise_dense):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            out = function(*arguments)
            loss = tf.reduce_sum(tf.sin(out))
        results.append([out, *tape.gradient(loss, arguments)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_without_softmax_the_interest_is_additive_over_the_history():
    attention = make()
    parts = [interest(attention, mask=MASK & (np.arange(TIME) % 2 == odd)) for odd in (0, 1)]
    np.testing.assert_allclose(interest(attention), parts[0] + parts[1], rtol=1e-4, atol=1e-5)


def test_repeating_the_history_doubles_the_interest_or_with_softmax_leaves_it():
    events, mask = np.tile(EVENTS, (1, 2, 1)), np.tile(MASK, (1, 2))
    for softmax, factor in ((False, 2), (True, 1)):
        attention = make(softmax=softmax)
        twice = interest(attention, events=events, mask=mask)
        np.testing.assert_allclose(twice, factor * interest(attention), rtol=1e-4, atol=1e-5)


def test_softmax_weights_are_a_convex_combination():
    weights = make(softmax=True)(QUERY, EVENTS, MASK).numpy()
    assert (weights >= 0).all()
    expected = np.tile((LENGTHS > 0)[:, None], CANDIDATES)
    np.testing.assert_allclose(weights.sum(-1), expected, rtol=1e-5)


@pytest.mark.parametrize("softmax", [False, True])
def test_the_order_of_events_does_not_matter(softmax):
    attention, order = make(softmax=softmax), RNG.permutation(TIME)
    shuffled = interest(attention, events=EVENTS[:, order], mask=MASK[:, order])
    np.testing.assert_allclose(shuffled, interest(attention), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["sigmoid", "dice", "prelu"])
@pytest.mark.parametrize("softmax", [False, True])
def test_what_stands_under_the_mask_does_not_matter_bitwise(activation, softmax):
    other = np.where(MASK[..., None], EVENTS, 1e3).astype(np.float32)
    attention = make(activation, softmax=softmax)
    for training in (False, True):
        one, two = (interest(attention, events=e, training=training) for e in (EVENTS, other))
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("activation", ["sigmoid", "dice"])
@pytest.mark.parametrize("softmax", [False, True])
def test_an_empty_history_gives_exactly_zero_and_finite_gradients(activation, softmax):
    attention = make(activation, softmax=softmax)
    assert not interest(attention)[3].any()
    nobody = np.zeros_like(MASK)
    with tf.GradientTape() as tape:
        weights = attention(QUERY, EVENTS, nobody, training=True)
        loss = tf.reduce_sum(attend(weights, tf.constant(EVENTS)) + 1.0)
    for gradient in tape.gradient(loss, attention.trainable_weights):
        assert np.isfinite(gradient).all()


def test_padded_candidates_and_events_stay_out_of_dice_statistics():
    attention = make(Dice(), units=(11,))
    real = np.arange(CANDIDATES) < np.array([3, 1, 2, 3])[:, None]
    attention(QUERY, EVENTS, MASK, query_mask=real, training=True)
    unit = attention.unit
    hidden = pairwise_dense(QUERY, EVENTS, unit.kernel, unit.bias).numpy()
    pairs = hidden[real[:, :, None] & MASK[:, None, :]]
    moments = unit.activations[0].moments
    np.testing.assert_allclose(moments.mean, 0.9 * pairs.mean(0), rtol=1e-4)


def test_candidates_do_not_see_each_other_at_test_time():
    attention = make("dice")
    alone = interest(attention, query=QUERY[:, 1:2])
    np.testing.assert_allclose(interest(attention)[:, 1:2], alone, rtol=1e-5, atol=1e-6)


def test_scale_divides_the_scores_by_the_root_of_the_width():
    plain, scaled = make(), make(scale=True)
    scaled.unit.set_weights(plain.unit.get_weights())
    expected = plain(QUERY, EVENTS, MASK) / np.sqrt(DIM)
    np.testing.assert_allclose(scaled(QUERY, EVENTS, MASK), expected, rtol=1e-6)


def test_mixed_precision_gives_float32_weights_and_half_precision_interest():
    unit = ActivationUnit((11,), "dice", dtype="mixed_bfloat16")
    attention = TargetAttention(unit, softmax=True, dtype="mixed_bfloat16")
    weights = attention(QUERY, EVENTS, MASK, training=True)
    assert weights.dtype == tf.float32
    assert attend(weights, tf.cast(EVENTS, tf.bfloat16)).dtype == tf.bfloat16


def test_the_unit_compiles_under_xla():
    attention = make("dice")
    compiled = tf.function(
        lambda q, e, m: attention(q, e, m, training=True), jit_compile=True, autograph=False
    )
    expected = attention(QUERY, EVENTS, MASK, training=True)
    np.testing.assert_allclose(compiled(QUERY, EVENTS, MASK), expected, rtol=1e-4, atol=1e-5)


def test_settings_survive_the_config():
    attention = TargetAttention(
        ActivationUnit((11, 2), Dice(epsilon=0.5)), softmax=True, scale=True
    )
    copy = TargetAttention.from_config(attention.get_config())
    assert copy.get_config() == attention.get_config()


def test_widths_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match=r"got 2 and 5. .*ProjectedAttention\(5\)"):
        ActivationUnit()(QUERY[..., :2], EVENTS)
    with pytest.raises(ValueError, match="at least one hidden layer"):
        ActivationUnit(units=())


def golden_attention(weights, activation="sigmoid", **options):
    """An attention with the weights `dense<i>_kernel`, `dense<i>_bias` of a golden file."""
    unit = ActivationUnit(golden_files.hidden_units(weights), activation)
    dim = len(weights["dense1_kernel"]) // 4
    unit(np.zeros((1, 1, dim), np.float32), np.zeros((1, 1, dim), np.float32))
    golden_models.assign_unit(unit, weights)
    return TargetAttention(unit, **options)


def has_events(golden):
    """One where a user has events; the softmax of public code spreads one over padding alone."""
    return np.any(golden["in_mask"] > 0, axis=1).astype(np.float64)


def test_golden_dien_attention_din():
    golden = golden_files.load("dien_attention")
    weights = golden_files.weights(golden, "din_att_")
    attention = golden_attention(weights, softmax=True)
    query, facts = golden["in_query_same_dim"][:, None], golden["in_facts"]
    alphas = attention(query, facts, golden["in_mask"] > 0)
    real = has_events(golden)[:, None, None]
    golden_files.assert_close(attend(alphas, facts), golden["out_din_sum"] * real)
    golden_files.assert_close(alphas[:, 0, :, None] * facts, golden["out_din_list"] * real)
    raw = golden_attention(weights)
    everything = np.ones_like(golden["in_mask"], bool)
    golden_files.assert_close(
        attend(raw(query, facts, everything), facts), golden["out_din_no_softmax_unmasked_sum"]
    )


def test_golden_dien_attention_fcn():
    golden = golden_files.load("dien_attention")
    weights = golden_files.weights(golden, "fcn_att_")
    projection = QueryProjection(golden["in_facts"].shape[-1])
    projection(golden["in_query"][:, None])
    projection.dense.kernel.assign(golden["w_fcn_query_dense_kernel"])
    projection.dense.bias.assign(golden["w_fcn_query_dense_bias"])
    projection.prelu.alpha.assign(golden["w_fcn_query_prelu_alpha"])
    attention = golden_attention(weights, softmax=True)
    query, facts = projection(golden["in_query"][:, None]), golden["in_facts"]
    alphas = attention(query, facts, golden["in_mask"] > 0)
    raw = attention.unit(query, facts)[:, 0]
    golden_files.assert_close(raw, golden["mid_fcn_raw_scores_unmasked"])
    real = has_events(golden)[:, None, None]
    golden_files.assert_close(alphas[:, 0], golden["out_fcn_alphas"] * real[..., 0])
    golden_files.assert_close(alphas[:, 0, :, None] * facts, golden["out_fcn_list"] * real)
    golden_files.assert_close(attend(alphas, facts), golden["out_fcn_sum"] * real)


def fuxictr_attention(golden, case):
    weights = golden_files.weights(golden, f"{case}_attention_layer_")
    activation = Dice(epsilon=1e-9) if "dice" in case else case.split("_")[0]
    softmax = not case.endswith("nosoftmax")
    attention = golden_attention(weights, activation, softmax=softmax)
    if "dice" in case:
        golden_models.assign_dice(attention.unit, weights)
    return attention


FUXICTR_TEST_TIME = ["relu_nosoftmax", "relu_softmax", "sigmoid_softmax", "dice_eval_nosoftmax"]


@pytest.mark.parametrize("case", FUXICTR_TEST_TIME)
def test_golden_fuxictr_din_attention(case):
    golden = golden_files.load("fuxictr_din_attention")
    attention = fuxictr_attention(golden, case)
    query, events, mask = golden["in_target"][:, None], golden["in_sequence"], golden["in_mask"] > 0
    raw = attention.unit(query, events)[:, 0]
    golden_files.assert_close(raw, golden[f"mid_{case}_raw_scores"])
    masked, unmasked = (
        attend(attention(query, events, keep), events)[:, 0] for keep in (mask, mask | True)
    )
    golden_files.assert_close(masked, golden[f"out_{case}"] * has_events(golden)[:, None])
    golden_files.assert_close(unmasked, golden[f"out_{case}_without_mask"])


def test_golden_fuxictr_din_attention_in_training_has_statistics_over_padding_too():
    golden = golden_files.load("fuxictr_din_attention")
    unit = fuxictr_attention(golden, "dice_train_softmax").unit
    query, events = golden["in_target"][:, None], golden["in_sequence"]
    raw = unit(query, events, training=True)
    golden_files.assert_close(raw[:, 0], golden["mid_dice_train_softmax_raw_scores"])
    weights = masked_softmax(raw, golden["in_mask"][:, None] > 0)
    pooled = golden["out_dice_train_softmax"] * has_events(golden)[:, None]
    golden_files.assert_close(attend(weights, events)[:, 0], pooled)


def test_every_kernel_of_a_unit_starts_by_the_initializer_and_is_regularized():
    unit = ActivationUnit((11, 2), kernel_initializer="ones", kernel_regularizer="l2")
    unit(QUERY, EVENTS)
    kernels = [kernel for kernel, _ in layers_of(unit)]
    assert all((kernel == 1).all() for kernel in kernels)
    expected_loss = 0.01 * sum(kernel.size for kernel in kernels)
    np.testing.assert_allclose(sum(unit.losses), expected_loss, rtol=1e-5)


def test_din_is_called_on_embedded_events_from_a_notebook():
    encoder = AttendedHistory(make("dice", softmax=True))
    outputs = encoder(QUERY, (EVENTS, MASK))
    np.testing.assert_array_equal(outputs["interest"], interest(encoder.attention))
    noise = np.where(MASK[..., None], EVENTS, 77).astype(np.float32)
    np.testing.assert_array_equal(encoder(QUERY, (noise, MASK))["interest"], outputs["interest"])


def test_without_a_mask_every_event_is_real():
    attention = make(softmax=True)
    expected = attention(QUERY, EVENTS, np.ones_like(MASK))
    np.testing.assert_array_equal(attention(QUERY, EVENTS), expected)
