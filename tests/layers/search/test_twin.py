"""TWIN: what the search ranks by is what the reader weighs by."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.multi_head_attention import MultiHeadAttention, head_kernel
from dgin_tf.layers.search.ranking import take_turns
from dgin_tf.layers.search.twin import KEYS, ConsistentInterest, CrossFeature
from dgin_tf.layers.search.unit import TOPK_INDICES, TOPK_MASK
from dgin_tf.released.twin import ReleasedConsistentInterest
from tests.layers.search.searching import Data, real_places
from tests.oracles import searchers


def layer(k, heads=2, **settings):
    return ConsistentInterest(MultiHeadAttention(heads, name="attention"), k, **settings)


def outputs(encoder, data):
    return encoder.interest(encoder.encode(data.history), data.target)


def bias(encoder, data):
    """Eq. (6)'s second term for every event, by hand."""
    state = encoder.encode(data.history)
    raw = {name: value[:, None] for name, value in state["events"].items()}
    total = 0.0
    for name, bucket in encoder.cross_buckets(raw, data.target).items():
        cross = encoder.cross_features[name]
        embedded = cross.table.numpy()[bucket.numpy() + np.zeros((3, 2, 9), int)]
        total = total + (embedded @ cross.weight.numpy()) * cross.head_weights.numpy()[0]
    return np.moveaxis(total, -1, 2)


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("k", [1, 4, 7, 50])
def test_heads_name_events_in_turn(heads, k):
    random = np.random.default_rng(heads * k)
    scores = random.integers(0, 6, (2, 5, heads, 7)).astype(np.float32)
    length = np.array([7, 4])
    mask = np.arange(7) < length[:, None]
    places, found, *_ = take_turns(tf.constant(scores), tf.constant(mask)[:, None, None], k)
    for user in range(2):
        for candidate in range(5):
            wanted = searchers.named_in_turn(scores[user, candidate, :, : length[user]], k)
            assert real_places(places, found, user, candidate) == wanted


def test_scores_are_those_of_keys_projected_before_the_candidate_is_known():
    data, encoder = Data(), layer(4, heads=3)
    keys, query = encoder.encode(data.history)[KEYS], data.target.embedding
    attention = encoder.attention
    found = encoder.search_scores(encoder.encode(data.history), data.target)
    query_kernel, key_kernel = (
        head_kernel(kernel, 3, tf.float32)
        for kernel in (attention.query_kernel, attention.key_kernel)
    )
    asked = np.einsum("ucq,qhk->uchk", query, query_kernel)
    projected = np.einsum("utd,dhk->uthk", keys, key_kernel)  # K_h W_h
    wanted = np.einsum("uchk,uthk->ucht", asked, projected) / np.sqrt(key_kernel.shape[-1])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"times": True, "behavior_types": 5}])
def test_what_is_found_is_what_all_scores_would_name(settings):
    data, encoder = Data(), layer(4, **settings)
    found = outputs(encoder, data)
    scores = encoder.attention.scores(data.target.embedding, data.events).numpy()
    if settings:
        scores = scores + bias(encoder, data)
    for user, place, _, events in data.pairs():
        wanted = searchers.named_in_turn(scores[user, place, :, : len(events)], 4)
        assert real_places(found[TOPK_INDICES], found[TOPK_MASK], user, place) == wanted


@pytest.mark.parametrize("kind", [ConsistentInterest, ReleasedConsistentInterest])
def test_with_k_above_the_history_it_is_full_attention(kind):
    data, encoder = Data(), kind(MultiHeadAttention(2, name="attention"), 50)
    full, _ = encoder.attention(data.target.embedding, data.events, data.mask)
    found = outputs(encoder, data)
    np.testing.assert_allclose(found["interest"], full, rtol=1e-4, atol=1e-6)
    assert not np.any(found["interest"][2])


def test_weights_over_the_found_are_the_full_ones_renormalized():
    data, encoder = Data(), layer(3)
    found = outputs(encoder, data)
    _, full = encoder.attention(data.target.embedding, data.events, data.mask)
    chosen = np.take_along_axis(full.numpy(), found[TOPK_INDICES].numpy()[:, :, None], axis=-1)
    chosen *= found[TOPK_MASK].numpy()[:, :, None]
    total = np.maximum(chosen.sum(-1, keepdims=True), 1e-30)
    np.testing.assert_allclose(found["attention"], chosen / total, rtol=1e-4, atol=1e-6)


def test_gradients_reach_the_found_events_and_nothing_else():
    data = Data(length=(9,), candidates=1, items=40)
    encoder = layer(3, times=True)
    with tf.GradientTape() as tape:
        found = outputs(encoder, data)
        loss = tf.reduce_sum(tf.square(found["interest"]))
    gradient, *others = tape.gradient(loss, [data.table, *encoder.trainable_variables])
    places = real_places(found[TOPK_INDICES], found[TOPK_MASK], 0, 0)
    touched = set(data.items[0][places]) | set(data.candidates[0])
    assert set(np.flatnonzero(np.abs(tf.convert_to_tensor(gradient)).sum(1))) == touched
    assert all(np.any(tf.convert_to_tensor(g)) for g in others)


def test_a_cross_feature_is_the_block_of_a_block_diagonal_projection():
    crosses = [CrossFeature(7, 2), CrossFeature(5, 2)]
    buckets = [np.random.default_rng(n).integers(0, 5, (2, 3, 4)) for n in range(2)]
    found = sum(cross(bucket).numpy() for cross, bucket in zip(crosses, buckets, strict=True))
    block_diagonal = np.zeros((16, 2))
    for n, cross in enumerate(crosses):
        block_diagonal[8 * n : 8 * n + 8, n] = cross.weight.numpy()[:, 0]
    features = np.concatenate([c.embed(b) for c, b in zip(crosses, buckets, strict=True)], -1)
    beta = np.concatenate([cross.head_weights.numpy() for cross in crosses])
    wanted = np.moveaxis(features @ block_diagonal @ beta, -1, 2)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_folding_events_in_equals_encoding_them_all():
    data, encoder = Data(), layer(3, times=True, behavior_types=5)
    state = encoder.encode(data.part(slice(0, 4)))
    state = encoder.update(state, data.part(slice(4, 9)))
    wanted = outputs(encoder, data)["interest"]
    found = encoder.interest(state, data.target)["interest"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="no cross features"):
        ReleasedConsistentInterest(times=True)
    data, encoder = Data(), layer(3)
    with pytest.raises(ValueError, match="pass .*Target\\(..., tables=\\)"):
        encoder.interest(encoder.encode(data.history), data.target._replace(tables={}))
