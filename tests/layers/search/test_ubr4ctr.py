"""UBR4CTR: what a query retrieves, and what its policy learns."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import store_events
from dgin_tf.layers.search.hard import HardSearch
from dgin_tf.layers.search.ubr4ctr import (
    SELECTED,
    SELECTION_LOGITS,
    AttributeSearch,
    FeatureSelection,
    bm25_scores,
    inverse_document_frequency,
)
from dgin_tf.models.ubr4ctr import information_gain, log_likelihood
from dgin_tf.released import ubr4ctr
from tests.layers.search.searching import Data, real_places
from tests.oracles import searchers

FIELDS = ("item_id", "category_id")


class Always(tf.keras.layers.Layer):
    """A policy of fixed logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def call(self, features):
        return tf.zeros_like(features[..., 0]) + tf.constant(self.logits)


def search(unit, data, training=False):
    state = {**store_events(data.history, FIELDS), **unit.prepare(data.history)}
    return unit.search(state, data.target, training=training)


def test_a_query_of_the_category_alone_is_hard_search():
    data = Data(items=17)
    found = search(AttributeSearch(FIELDS, 3, Always([-9.0, 9.0])), data)
    hard = search(HardSearch(3), data)
    for user, place, _, _ in data.pairs():
        wanted = real_places(hard.topk_indices, hard.mask, user, place)
        assert real_places(found.topk_indices, found.mask, user, place) == wanted


def test_events_come_in_the_order_of_bm25_and_of_equal_ones_the_later_first():
    data = Data(items=7)
    found = search(AttributeSearch(FIELDS, 9, Always([9.0, 9.0])), data)
    for user, place, _, events in data.pairs():
        items = data.items[user, : len(events)]
        documents = [[("item", i), ("category", 2 + i % 5)] for i in items]
        item = data.candidates[user, place]
        score = searchers.bm25([("item", item), ("category", 2 + item % 5)], documents)
        matching = np.flatnonzero(score)
        wanted = sorted(matching, key=lambda t, s=score: (-np.float32(s[t]), -t))
        assert real_places(found.topk_indices, found.mask, user, place) == wanted


def test_an_empty_query_finds_the_newest_events():
    found = search(AttributeSearch(FIELDS, 4, Always([-9.0, -9.0])), Data())
    assert real_places(found.topk_indices, found.mask, 0, 1) == [8, 7, 6, 5]
    assert real_places(found.topk_indices, found.mask, 1, 0) == [4, 3, 2, 1]
    assert real_places(found.topk_indices, found.mask, 2, 0) == []


def test_a_value_outside_the_vocabulary_agrees_with_nothing():
    data = Data()
    data.candidates[:] = 1
    data.items[:] = 1
    found = search(AttributeSearch(FIELDS, 4, Always([9.0, -9.0])), data)
    assert not np.any(found.mask)


def test_draws_follow_the_probabilities_and_change_with_the_step():
    data = Data(length=(5,) * 64, time=5, candidates=20, items=999)
    unit = AttributeSearch(FIELDS, 2, Always([-1.0, 0.5]))
    first, second = (search(unit, data, training=True).outputs[SELECTED] for _ in range(2))
    share = np.mean(np.concatenate([first, second]), axis=(0, 1))
    np.testing.assert_allclose(share, tf.sigmoid([-1.0, 0.5]), atol=4 * 0.5 / np.sqrt(2560))
    assert np.mean(first != second) > 0.3
    assert unit.step.numpy() == 2


def test_without_training_an_attribute_is_chosen_above_one_half():
    unit = AttributeSearch(FIELDS, 2, Always([-0.01, 0.01]))
    found = [search(unit, Data()).outputs[SELECTED].numpy() for _ in range(2)]
    assert np.all(found[0] == [False, True])
    assert unit.step.numpy() == 0


def test_the_policy_sees_the_embeddings_as_constants():
    data, unit = Data(), AttributeSearch(FIELDS, 3, FeatureSelection(3))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(search(unit, data, training=True).outputs[SELECTION_LOGITS])
    gradient, *others = tape.gradient(loss, [data.table, *unit.policy.trainable_variables])
    assert gradient is None
    assert all(np.any(g) for g in others)


def test_the_policy_is_self_attention_and_a_network():
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 3, 5, 4)).astype(np.float32)
    policy = FeatureSelection(2, (7,))
    found = policy(tf.constant(x))
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
    query, key, value = (
        np.split(inputs @ kernel.numpy(), 2, axis=-1)
        for inputs, kernel in zip((normal, x, x), policy.kernels, strict=True)
    )
    heads = []
    for head in range(2):
        scores = query[head] @ np.swapaxes(key[head], -1, -2) / np.sqrt(2)
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        heads.append(weights @ value[head])
    hidden = normal + np.concatenate(heads, -1)
    hidden = np.maximum(hidden @ policy.dense[0].kernel.numpy(), 0)
    wanted = (hidden @ policy.output_layer.kernel.numpy())[..., 0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="must divide the width .* 4; got 3"):
        FeatureSelection(3)(tf.zeros([1, 1, 2, 4]))


def test_the_reward_is_1_for_perfect_0_for_one_half_and_never_below_minus_1():
    logits, labels = [[50.0, -50.0, 0.0, 50.0]], [[1, 0, 1, 0]]
    reward = information_gain(tf.constant(logits), tf.constant(labels))
    np.testing.assert_allclose(reward, [[1, 1, 0, -1]], atol=1e-6)


def test_the_likelihood_counts_what_was_not_chosen_except_in_the_released_code():
    logits, chosen = tf.constant([[[0.3, -0.8]]]), tf.constant([[[True, False]]])
    p = tf.sigmoid(logits)[0, 0].numpy()
    paper = log_likelihood(logits, chosen)
    released = ubr4ctr.log_likelihood(logits, chosen)
    np.testing.assert_allclose(paper, [[np.log(p[0]) + np.log(1 - p[1])]], rtol=1e-6)
    np.testing.assert_allclose(released, [[np.log(p[0])]], rtol=1e-6)


def test_the_expected_gradient_is_that_of_the_expected_reward():
    """One attribute: dE[R] / dlogit = p (1 - p) (R(1) - R(0))."""
    logit, rewards = 0.4, (0.9, -0.3)
    p = 1 / (1 + np.exp(-logit))
    expected = 0.0
    for chosen, probability in ((True, p), (False, 1 - p)):
        logits = tf.constant([[[logit]]])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            likelihood = log_likelihood(logits, tf.constant([[[chosen]]]))
            gain = rewards[0 if chosen else 1] * likelihood
        expected += probability * tape.gradient(gain, logits).numpy().item()
    np.testing.assert_allclose(expected, p * (1 - p) * (rewards[0] - rewards[1]), rtol=1e-5)


def test_bm25_scores_are_those_of_full_bm25_where_terms_occur_once():
    random = np.random.default_rng(0)
    events, time = random.integers(2, 5, (7, 3)), 7
    candidate, query = np.array([3, 2, 4]), np.array([True, False, True])
    documents = [[(f, v) for f, v in enumerate(event)] for event in events]
    wanted = searchers.bm25([(f, v) for f, v in enumerate(candidate) if query[f]], documents)
    found = bm25_scores(
        tf.constant((events == candidate).T[None, None]),
        tf.constant(query[None, None]),
        tf.ones([1, time], tf.bool),
    )
    np.testing.assert_allclose(found[0, 0], wanted, rtol=1e-6)


def test_masked_events_are_no_documents():
    matches = tf.constant([[[[True, False, True, True]]]])
    mask = tf.constant([[True, True, True, False]])
    query = tf.ones([1, 1, 1], tf.bool)
    found = bm25_scores(matches, query, mask)[0, 0]
    alone = bm25_scores(matches[..., :3], query, mask[:, :3])[0, 0]
    assert found[3] == 0
    np.testing.assert_array_equal(found[:3], alone)


def test_a_term_in_every_document_still_counts():
    assert inverse_document_frequency(tf.constant(5), tf.constant(5)) > 0
