"""Soft search: Eqs. (1), (2) by the oracle, what its loss trains, and the public implementations."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.interest_encoder import History, Target
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.search.readers import ReleasedExactSearchUnit
from dgin_tf.layers.search.soft import (
    ReleasedSoftSearch,
    SoftSearch,
    pool_by_relevance,
    relevance,
)
from dgin_tf.layers.search.unit import FoundEvents, SearchedInterest
from dgin_tf.layers.stored_events import store_events
from dgin_tf.layers.tower import Tower
from dgin_tf.losses import target_loss
from tests import golden_files
from tests.layers.search import embedded
from tests.models.golden_models import assign_dense
from tests.oracles import sim

LENGTHS, TIME, CANDIDATES, K, DIM = (13, 6, 2, 0), 13, 3, 4, 5
HISTORY = embedded.history(LENGTHS, TIME)
TARGET = embedded.target(len(LENGTHS), CANDIDATES)


class Shown(tf.keras.layers.Layer):
    """A network whose logits are a fixed sum of its inputs, which it keeps to be looked at."""

    def call(self, inputs, mask=None, training=False):
        self.inputs = inputs
        return tf.reduce_sum(tf.sin(inputs), axis=-1)


def made(**settings):
    return SoftSearch(**{"k": K, "dim": DIM, "network": Shown(), **settings})


def kernels(unit):
    return unit.target_kernel.numpy(), unit.event_kernel.numpy()


def search(unit, training=False):
    return unit.search(store_events(HISTORY), TARGET, training=training)


def test_the_events_of_the_highest_relevance_are_found():
    unit = made()
    found = search(unit)
    for user, length in enumerate(LENGTHS):
        for candidate in range(CANDIDATES):
            events = HISTORY.events[user, :length].numpy()
            scores = sim.relevance(
                TARGET.embedding[user, candidate].numpy(), events, *kernels(unit)
            )
            expected = sim.soft_search(scores, K)
            real = found.mask[user, candidate]
            assert list(found.indices[user, candidate][real]) == expected
            np.testing.assert_allclose(
                found.scores[user, candidate][real], scores[expected], rtol=1e-4, atol=1e-5
            )


def test_the_network_reads_the_sum_of_equation_2_beside_the_target():
    unit = made()
    search(unit)
    for user, length in enumerate(LENGTHS):
        for candidate in range(CANDIDATES):
            events, target = (
                HISTORY.events[user, :length].numpy(),
                TARGET.embedding[user, candidate],
            )
            scores = sim.relevance(target.numpy(), events, *kernels(unit))
            pooled = sim.weighted_sum(scores, events)
            expected = np.concatenate([pooled, target])
            found = unit.network.inputs[user, candidate]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_the_sum_is_that_of_its_formula():
    random = np.random.default_rng(5)
    asked, events = (
        tf.constant(random.normal(size=shape), tf.float32) for shape in ((3, 2, 5), (3, 7, 5))
    )
    mask = tf.constant(np.arange(7) < np.array([[7], [4], [0]]))
    weights = tf.constant(random.normal(size=(3, 2, 5)), tf.float32)

    def formula(asked, events, mask):
        real = tf.cast(mask, tf.float32)[..., None]
        return tf.einsum("ucd,utd,utk->uck", asked, events * real, events)

    def with_gradients(function):
        with tf.GradientTape() as tape:
            tape.watch([asked, events])
            pooled = function(asked, events, mask)
        return [pooled, *tape.gradient(pooled, [asked, events], weights)]

    for found, wanted in zip(*map(with_gradients, (pool_by_relevance, formula)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_only_the_auxiliary_logits_train_the_relevance():
    unit = made()
    with tf.GradientTape(persistent=True) as tape:
        found = search(unit)
        chosen = tf.reduce_sum(tf.sin(found.scores))
        auxiliary = tf.reduce_sum(found.outputs["auxiliary_logits"])
    assert tape.gradient(chosen, unit.trainable_variables) == [None, None]
    assert all(np.any(g) for g in tape.gradient(auxiliary, unit.trainable_variables))


def test_in_training_a_sample_as_long_as_the_history_is_the_whole_history():
    plain = made()
    expected = search(plain, training=True)
    sampled = made(sample=TIME)
    search(sampled)
    sampled.set_weights(plain.get_weights())
    found = search(sampled, training=True)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(
        found.outputs["auxiliary_logits"],
        expected.outputs["auxiliary_logits"],
        rtol=1e-4,
        atol=1e-4,
    )


def test_a_sample_is_drawn_from_real_events_in_training_alone():
    unit = made(sample=3)
    whole = search(unit)
    expected = unit.network.inputs
    drawn = set()
    for _ in range(5):
        found = search(unit, training=True)
        np.testing.assert_array_equal(found.indices, whole.indices)
        inputs = unit.network.inputs
        drawn.add(float(inputs[0, 0, 0]))
        short = np.asarray(LENGTHS) <= 3  # all of their events fit into the sample
        np.testing.assert_allclose(inputs[short], expected[short], rtol=1e-4, atol=1e-5)
    assert len(drawn) > 1
    search(unit)
    np.testing.assert_array_equal(unit.network.inputs, expected)


def test_with_k_as_long_as_time_everything_real_is_found():
    found = search(made(k=TIME))
    np.testing.assert_array_equal(
        tf.reduce_sum(tf.cast(found.mask, tf.int32), -1), np.tile(np.c_[LENGTHS,], CANDIDATES)
    )


def test_golden_longctr_sim_soft():
    golden = golden_files.load("longctr_sim_soft")
    k, heads = int(golden["cfg_topk"]), int(golden["cfg_heads"])
    users, time = golden["in_mask"].shape
    real = golden["in_mask"] > 0
    tables = [golden[f"w_emb_{name}_id"] for name in ("item", "cate", "user")]

    def lookup(item, category):
        return tf.concat([tf.gather(tables[0], item), tf.gather(tables[1], category)], -1)

    def embed(features):
        return lookup(features["hist_item_id"], features["hist_category_id"])

    features = {
        "hist_item_id": tf.constant(golden["in_item_hist"]),
        "hist_category_id": tf.constant(golden["in_cate_hist"]),
    }
    events = embed(features).numpy() * real[..., None]
    history = History(
        events, tf.constant(real), features, embed=embed, embedded_features=(*features,)
    )
    target = lookup(golden["in_item"], golden["in_cate"])[:, None]
    target = Target(target, tf.ones([users, 1], tf.bool), {}, embed)
    unit = SoftSearch(k, golden["w_W_a_kernel"].shape[1], Shown())
    unit.search(store_events(history), target)
    unit.target_kernel.assign(golden["w_W_a_kernel"])
    unit.event_kernel.assign(golden["w_W_b_kernel"])
    found = unit.search(store_events(history), target)

    scores = relevance(unit(target.embedding), tf.constant(events))[:, 0]
    golden_files.assert_close(scores, golden["mid_gsu_scores_times_mask"])
    # There a padded position scores zero and may displace a real one, so that fewer are found.
    for user in range(users):
        mine = set(found.indices[user, 0][found.mask[user, 0]].numpy())
        theirs = set(golden["mid_topk_index"][user][golden["mid_topk_mask"][user] > 0])
        assert theirs <= mine
        assert len(mine) == min(k, real[user].sum())

    def attention(name, keys, mask):
        layer = MultiHeadAttention(heads, golden[f"w_{name}_W_q_kernel"].shape[1] // heads)
        layer(target.embedding, keys, mask)
        for letter, part in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output")):
            kernel = golden[f"w_{name}_W_{letter}_kernel"]
            stored = getattr(layer, f"{part}_kernels").kernel
            stored.assign(kernel.T if letter == "o" else kernel)
        return layer(target.embedding, keys, mask)[0][:, 0]

    chosen = tf.gather(tf.constant(events), golden["mid_topk_index"], batch_dims=1)
    long = attention("long_attention", chosen, golden["mid_topk_mask"] > 0)
    golden_files.assert_close(long, golden["mid_long_interest"])
    recent = events[:, golden["mid_short_positions_as_used"]]
    short = attention("short_attention", recent, golden["mid_short_mask_as_used"] > 0)
    golden_files.assert_close(short, golden["mid_short_interest"])

    def probability(name, parts):
        weights = golden_files.weights(golden, f"{name}_")
        tower = Tower((len(weights["dense1_bias"]), len(weights["dense2_bias"])), "relu", "none")
        inputs = tf.concat(parts, -1)[:, None]
        tower(inputs)
        for layer, dense in enumerate((*tower.hidden, tower.output_layer), start=1):
            assign_dense(dense, weights, f"dense{layer}")
        return tower(inputs)

    user = tf.gather(tables[2], golden["in_user"])
    pooled, candidate = unit.network.inputs[:, 0, : events.shape[-1]], target.embedding[:, 0]
    auxiliary = probability("dnn_aux", [user, candidate, pooled])
    golden_files.assert_close(tf.sigmoid(auxiliary)[:, 0], golden["out_y_aux"])
    main = probability("dnn", [user, candidate, short, long])
    golden_files.assert_close(tf.sigmoid(main)[:, 0], golden["out_y_pred"])
    label, mask = tf.constant(golden["in_label"])[:, None], tf.ones([users, 1], tf.bool)
    loss = target_loss(main, label, mask) + target_loss(auxiliary, label, mask)
    golden_files.assert_close(loss, golden["out_loss"])


@pytest.fixture
def released():
    """A released search for three candidates of one user whose weights share values."""
    item = np.array([[5, 9, 5, 12, 5, 12, 21, 9, 3]])
    mask = np.ones(item.shape, bool)
    history = embedded.history_of(mask, item, np.full_like(item, 2), np.full_like(item, 7))
    return history, embedded.target(1, CANDIDATES)


@pytest.mark.parametrize("k", [2, 3, 5, 20])
def test_the_release_finds_what_lies_above_the_kth_different_weight(released, k):
    history, target = released
    unit = ReleasedSoftSearch(k, Shown())
    found = unit.search(store_events(history), target)
    for candidate in range(CANDIDATES):
        scores = history.events[0].numpy() @ target.embedding[0, candidate].numpy()
        weights = np.exp(scores - scores.max())
        different = sorted(set(weights.round(5)), reverse=True)
        kth = different[k - 1] if k <= len(different) else 0
        expected = {i for i, w in enumerate(weights.round(5)) if w > kth}
        assert set(found.indices[0, candidate][found.mask[0, candidate]].numpy()) == expected


def test_the_released_network_reads_the_target_and_the_softmax_mean(released):
    history, target = released
    unit = ReleasedSoftSearch(4, Shown())
    unit.search(store_events(history), target)
    scores = history.events[0].numpy() @ target.embedding[0, 0].numpy()
    weights = np.exp(scores) / np.exp(scores).sum()
    expected = np.concatenate([target.embedding[0, 0], weights @ history.events[0].numpy()])
    np.testing.assert_allclose(unit.network.inputs[0, 0], expected, rtol=1e-4, atol=1e-5)


def test_the_released_search_and_reader_give_zero_for_nobody():
    encoder = SearchedInterest(ReleasedSoftSearch(3), ReleasedExactSearchUnit())
    outputs = encoder.interest(encoder.encode(HISTORY), TARGET)
    assert not np.any(outputs["interest"][-1])
    assert np.any(outputs["interest"][0])


def test_the_released_reader_attends_by_inner_products_and_counts_one_too_many():
    events = tf.reverse(HISTORY.events[:1, None], [2])
    mask = tf.constant(np.arange(TIME)[None, None] < 4)
    events = tf.where(mask[..., None], events, 0.0)
    target = TARGET.embedding[:1, :1]
    interest = ReleasedExactSearchUnit()(target, FoundEvents(events, mask, None, None))["interest"]
    chosen = events[0, 0, :4].numpy()
    scores = chosen @ target[0, 0].numpy()
    weights = np.exp(scores) / np.exp(scores).sum()
    expected = np.concatenate([weights @ chosen, chosen.sum(0) / 5])
    np.testing.assert_allclose(interest[0, 0], expected, rtol=1e-4, atol=1e-5)
