"""Multi-head target attention: SIM's Eqs. (3), (4), the public implementation, and its invariants."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.multi_head_attention import MultiHeadAttention, head_kernel
from dgin_tf.ops import masking
from dgin_tf.ops.fast.shared_events import read_shared_events
from dgin_tf.ops.multi_head import attend_heads, head_scores
from tests import golden_files
from tests.models import golden_models
from tests.oracles import sim

USERS, CANDIDATES, TIME, DIM, QUERY_DIM, HEADS, KEY_DIM = 4, 3, 7, 5, 11, 2, 13
LENGTHS = np.array([7, 2, 1, 0])
MASK = np.arange(TIME) < LENGTHS[:, None]
RNG = np.random.default_rng(5)
QUERY = RNG.normal(size=(USERS, CANDIDATES, QUERY_DIM)).astype(np.float32)
EVENTS = RNG.normal(size=(USERS, TIME, DIM)).astype(np.float32)


def paper_form():
    return MultiHeadAttention(HEADS, KEY_DIM, project=False, scale=False)


def kernels_of(layer):
    weights = layer.query_kernel, layer.key_kernel
    return [head_kernel(weight, layer.heads, "float32").numpy() for weight in weights]


def test_heads_are_equations_3_and_4_for_every_user_and_candidate():
    layer = paper_form()
    found, _ = layer(QUERY, EVENTS, MASK)
    query_kernels, key_kernels = kernels_of(layer)
    for user, length in enumerate(LENGTHS):
        for candidate, query in enumerate(QUERY[user]):
            expected = sim.exact_search(query, EVENTS[user, :length], query_kernels, key_kernels)
            np.testing.assert_allclose(found[user, candidate], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("offset", [0, 4])
def test_keys_start_as_queries_do_where_both_have_the_same_fields(offset):
    layer = MultiHeadAttention(HEADS, offset=offset)
    layer(QUERY[..., : DIM + 3], EVENTS, MASK)
    asked, keys = layer.query_kernel.numpy(), layer.key_kernel.numpy()
    shared = min(DIM, DIM + 3 - offset)
    np.testing.assert_array_equal(keys[:shared], asked[offset : offset + shared])
    assert (keys[shared:] != 0).all()
    assert keys.shape == (DIM, asked.shape[1])


def test_a_candidate_starts_by_attending_to_its_own_event_where_embeddings_are_large():
    layer = MultiHeadAttention(HEADS)
    events = RNG.normal(size=(USERS, TIME, 32)).astype(np.float32)
    _, weights = layer(events, events, np.ones([USERS, TIME], bool))
    own = np.diagonal(weights.numpy().mean(axis=2), axis1=1, axis2=2)
    assert own.mean() > 3 / TIME


@pytest.mark.parametrize("case", ["h1", "h2", "h2_noscale", "h2_noproj"])
@pytest.mark.parametrize("suffix", ["", "_without_mask", "_last_row_empty"])
def test_golden_fuxictr_target_attention(case, suffix):
    golden = golden_files.load("fuxictr_target_attention")
    real = golden.get(f"in_mask{suffix}", np.ones_like(golden["in_mask"])) > 0
    arguments = golden["in_target"][:, None], golden["in_sequence"], real
    weights = golden_files.weights(golden, f"{case}_W_")
    heads, scale = int(golden[f"cfg_{case}_heads"]), case != "h2_noscale"
    layer = golden_models.multi_head_attention(weights, heads, arguments, scale=scale)
    interest = golden_models.public_interest(layer, *arguments)
    golden_files.assert_close(interest[:, 0], golden[f"out_{case}{suffix}"])
    if not suffix:
        golden_files.assert_close(layer(*arguments)[1][:, 0], golden[f"mid_{case}_attention"])


@pytest.mark.parametrize("project", [False, True])
def test_events_of_each_candidate_and_events_of_the_user_are_read_alike(project):
    layer = MultiHeadAttention(HEADS, KEY_DIM, project=project)
    shared = layer(QUERY, EVENTS, MASK)
    own = layer(
        QUERY,
        np.repeat(EVENTS[:, None], CANDIDATES, axis=1),
        np.repeat(MASK[:, None], CANDIDATES, axis=1),
    )
    for one, other in zip(own, shared, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_gradient_of_reading_shared_events_is_that_of_its_formulas():
    asked = tf.constant(RNG.normal(size=(USERS, CANDIDATES, HEADS, DIM)), tf.float64)
    events = tf.constant(EVENTS, tf.float64)

    def formulas(asked, events, mask, scale):
        scores = head_scores(asked, events) * scale
        weights = masking.masked_softmax(scores, mask[:, tf.newaxis, tf.newaxis])
        return attend_heads(weights, events), weights

    gradients = []
    for read in (read_shared_events, formulas):
        with tf.GradientTape() as tape:
            tape.watch([asked, events])
            sums, weights = read(asked, events, tf.constant(MASK), 0.7)
            loss = tf.reduce_sum(tf.sin(sums)) + tf.reduce_sum(tf.cos(3.0 * weights))
        gradients.append(tape.gradient(loss, [asked, events]))
    for ours, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("project", [False, True])
def test_an_empty_history_gives_exactly_zero_and_finite_gradients(project):
    layer = MultiHeadAttention(HEADS, KEY_DIM, project=project)
    for time in (TIME, 0):
        with tf.GradientTape() as tape:
            found, _ = layer(QUERY, EVENTS[:, :time], np.zeros((USERS, time), bool))
            loss = tf.reduce_sum(tf.sin(found))
        assert not np.any(found)
        assert all(np.all(np.isfinite(g)) for g in tape.gradient(loss, layer.trainable_variables))


def test_what_stands_under_the_mask_does_not_matter_bitwise():
    layer = paper_form()
    other = np.where(MASK[..., None], EVENTS, 1e3).astype(np.float32)
    for one, two in zip(layer(QUERY, EVENTS, MASK), layer(QUERY, other, MASK), strict=True):
        np.testing.assert_array_equal(one, two)


def test_one_event_is_what_every_head_gives():
    found, weights = paper_form()(QUERY, EVENTS[:, :1], np.ones((USERS, 1), bool))
    # On some processors TensorFlow's softmax of one number is one less a bit.
    np.testing.assert_allclose(weights, np.ones((USERS, CANDIDATES, HEADS, 1)), rtol=1.2e-7)
    expected = np.repeat(np.tile(EVENTS[:, :1], HEADS), CANDIDATES, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_keys_of_another_width_are_compared_in_the_width_that_the_query_gives():
    interest, _ = MultiHeadAttention(HEADS)(QUERY, EVENTS, MASK)
    assert interest.shape == (USERS, CANDIDATES, DIM)


def test_a_negative_offset_is_refused():
    with pytest.raises(ValueError, match=r"offset must be at least 0; got -1"):
        MultiHeadAttention(offset=-1)


def test_a_layer_without_heads_is_refused():
    with pytest.raises(ValueError, match="heads must be at least 1; got 0"):
        MultiHeadAttention(0)


@pytest.mark.parametrize("settings", [{}, {"project": False, "scale": False}])
@pytest.mark.parametrize("is_known", [True, False])
def test_many_candidates_of_known_or_unknown_number_are_read_as_one_by_one(settings, is_known):
    layer = MultiHeadAttention(HEADS, **settings)
    query = tf.constant(RNG.normal(size=(USERS, 2 * DIM, QUERY_DIM)), tf.float32)
    events = tf.constant(EVENTS)
    layer(query, events, MASK)
    asked = None

    def read(query, events):
        return layer(query, events, tf.constant(MASK))

    def one_by_one(query, events):
        parts = [read(part, events) for part in tf.unstack(query[:, :, tf.newaxis], axis=1)]
        return [tf.concat(part, axis=1) for part in zip(*parts, strict=True)]

    if not is_known:
        shape = [USERS, None, QUERY_DIM]
        read = tf.function(
            read,
            input_signature=[tf.TensorSpec(shape), tf.TensorSpec(EVENTS.shape)],
            autograph=False,
        )
    found = []
    for function in (read, one_by_one):
        with tf.GradientTape() as tape:
            tape.watch([query, events])
            interest, weights = function(query, events)
            asked = RNG.normal(size=interest.shape) if asked is None else asked
            loss = tf.reduce_sum(interest * asked)
        sources = [query, events, *layer.trainable_variables]
        found.append([interest, weights, *tape.gradient(loss, sources)])
    for many, few in zip(*found, strict=True):
        assert np.any(few)
        np.testing.assert_allclose(many, few, rtol=1e-3, atol=1e-4)
