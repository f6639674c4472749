"""Soft search: Eqs. (1), (2) by the oracle, what its loss trains, and the public implementations."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import History, Target, embed_history, embed_ids, store_events
from dgin_tf.layers.search.soft import SoftSearch
from dgin_tf.losses import target_loss
from dgin_tf.ops.relevance import relevance
from tests import golden_files
from tests.layers.search import embedded
from tests.models import golden_models
from tests.oracles import sim

LENGTHS, TIME, CANDIDATES, K, DIM = (13, 6, 2, 0), 13, 3, 4, 5
HISTORY = embedded.history(LENGTHS, TIME)
EVENTS = embedded.events_of(HISTORY).numpy()
TARGET = embedded.target(len(LENGTHS), CANDIDATES)


class Shown(tf.keras.layers.Layer):
    """A network whose logits are a fixed sum of its inputs, which it keeps to be looked at."""

    def call(self, inputs, mask=None, training=False):
        self.inputs = inputs
        return tf.reduce_sum(tf.sin(inputs), axis=-1)


def make_search(**settings):
    return SoftSearch(**{"k": K, "dim": DIM, "network": Shown(), **settings})


def kernels(unit):
    return unit.query.target_kernel.numpy(), unit.query.event_kernel.numpy()


def search(unit, training=False):
    return unit.search(store_events(HISTORY), TARGET, training=training)


def test_the_events_of_the_highest_relevance_are_found():
    unit = make_search()
    found = search(unit)
    for user, length in enumerate(LENGTHS):
        for candidate in range(CANDIDATES):
            events = EVENTS[user, :length]
            scores = sim.relevance(
                TARGET.embedding[user, candidate].numpy(), events, *kernels(unit)
            )
            expected = sim.soft_search(scores, K)
            real = found.mask[user, candidate]
            assert list(found.topk_indices[user, candidate][real]) == expected
            np.testing.assert_allclose(
                found.scores[user, candidate][real], scores[expected], rtol=1e-4, atol=1e-5
            )


def test_the_network_reads_the_sum_of_equation_2_beside_the_target():
    unit = make_search()
    search(unit)
    for user, length in enumerate(LENGTHS):
        for candidate in range(CANDIDATES):
            events, target = (
                EVENTS[user, :length],
                TARGET.embedding[user, candidate],
            )
            scores = sim.relevance(target.numpy(), events, *kernels(unit))
            pooled = sim.weighted_sum(scores, events)
            expected = np.concatenate([pooled, target])
            found = unit.network.inputs[user, candidate]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_only_the_auxiliary_logits_train_the_relevance():
    unit = make_search()
    with tf.GradientTape(persistent=True) as tape:
        found = search(unit)
        chosen = tf.reduce_sum(tf.sin(found.scores))
        auxiliary = tf.reduce_sum(found.outputs["auxiliary_logits"])
    assert tape.gradient(chosen, unit.trainable_variables) == [None, None]
    assert all(np.any(g) for g in tape.gradient(auxiliary, unit.trainable_variables))


def test_in_training_a_sample_as_long_as_the_history_is_the_whole_history():
    plain = make_search()
    expected = search(plain, training=True)
    sampled = make_search(sample=TIME)
    search(sampled)
    sampled.query.set_weights(plain.query.get_weights())
    found = search(sampled, training=True)
    np.testing.assert_array_equal(found.topk_indices, expected.topk_indices)
    np.testing.assert_allclose(
        found.outputs["auxiliary_logits"],
        expected.outputs["auxiliary_logits"],
        rtol=1e-4,
        atol=1e-4,
    )


def test_a_sample_is_drawn_from_real_events_in_training_alone():
    unit = make_search(sample=3)
    whole = search(unit)
    expected = unit.network.inputs
    drawn = set()
    for _ in range(5):
        found = search(unit, training=True)
        np.testing.assert_array_equal(found.topk_indices, whole.topk_indices)
        inputs = unit.network.inputs
        drawn.add(float(inputs[0, 0, 0]))
        short = np.asarray(LENGTHS) <= 3  # all of their events fit into the sample
        np.testing.assert_allclose(inputs[short], expected[short], rtol=1e-4, atol=1e-5)
    assert len(drawn) > 1
    search(unit)
    np.testing.assert_array_equal(unit.network.inputs, expected)


def test_with_k_as_long_as_time_everything_real_is_found():
    found = search(make_search(k=TIME))
    np.testing.assert_array_equal(
        tf.reduce_sum(tf.cast(found.mask, tf.int32), -1), np.tile(np.c_[LENGTHS,], CANDIDATES)
    )


def test_golden_longctr_sim_soft():
    golden = golden_files.load("longctr_sim_soft")
    k, heads = int(golden["cfg_topk"]), int(golden["cfg_heads"])
    users, time = golden["in_mask"].shape
    real = golden["in_mask"] > 0
    tables = [golden[f"w_emb_{name}_id"] for name in ("item", "cate", "user")]

    features = {
        "item_id": tf.constant(golden["in_item_hist"]),
        "category_id": tf.constant(golden["in_cate_hist"]),
    }
    named = dict(zip(features, map(tf.Variable, tables[:2]), strict=True))
    history = History(None, tf.constant(real), features, tables=named)
    events = embed_history(history, tf.float32).events.numpy()
    candidate = {"item_id": golden["in_item"][:, None], "category_id": golden["in_cate"][:, None]}
    target = embed_ids(named, candidate, tf.float32)
    target = Target(target, tf.ones([users, 1], tf.bool), {}, named)
    unit = SoftSearch(k, golden["w_W_a_kernel"].shape[1], Shown())
    unit.search(store_events(history), target)
    unit.query.target_kernel.assign(golden["w_W_a_kernel"])
    unit.query.event_kernel.assign(golden["w_W_b_kernel"])
    found = unit.search(store_events(history), target)

    scores = relevance(unit.query(target.embedding), tf.constant(events))[:, 0]
    golden_files.assert_close(scores, golden["mid_gsu_scores_times_mask"])
    # There a padded position scores zero and may displace a real one, so that fewer are found.
    for user in range(users):
        mine = set(found.topk_indices[user, 0][found.mask[user, 0]].numpy())
        theirs = set(golden["mid_topk_index"][user][golden["mid_topk_mask"][user] > 0])
        assert theirs <= mine
        assert len(mine) == min(k, real[user].sum())

    def attention(name, keys, mask):
        arguments = target.embedding, keys, mask
        weights = golden_files.weights(golden, f"{name}_W_")
        layer = golden_models.multi_head_attention(weights, heads, arguments)
        return golden_models.public_interest(layer, *arguments)[:, 0]

    raw_events = embed_ids(named, features, tf.float32)  # with the embedding of padding
    topk_events = tf.gather(raw_events, golden["mid_topk_index"], batch_dims=1)
    long = attention("long_attention", topk_events, golden["mid_topk_mask"] > 0)
    golden_files.assert_close(long, golden["mid_long_interest"])
    recent = tf.gather(raw_events, golden["mid_short_positions_as_used"], axis=1)
    short = attention("short_attention", recent, golden["mid_short_mask_as_used"] > 0)
    golden_files.assert_close(short, golden["mid_short_interest"])

    def probability(name, parts):
        weights = golden_files.weights(golden, f"{name}_")
        return golden_models.relu_tower(weights, tf.concat(parts, -1)[:, None])

    user = tf.gather(tables[2], golden["in_user"])
    pooled, candidate = unit.network.inputs[:, 0, : events.shape[-1]], target.embedding[:, 0]
    auxiliary = probability("dnn_aux", [user, candidate, pooled])
    golden_files.assert_close(tf.sigmoid(auxiliary)[:, 0], golden["out_y_aux"])
    main = probability("dnn", [user, candidate, short, long])
    golden_files.assert_close(tf.sigmoid(main)[:, 0], golden["out_y_pred"])
    label, mask = tf.constant(golden["in_label"])[:, None], tf.ones([users, 1], tf.bool)
    loss = target_loss(main, label, mask) + target_loss(auxiliary, label, mask)
    golden_files.assert_close(loss, golden["out_loss"])


@pytest.mark.parametrize("training", [False, True])
def test_a_sample_is_a_function_of_the_step_and_the_users_events(training):
    """A run that is resumed after a restart draws what the uninterrupted one draws."""
    whole, first = make_search(sample=3), make_search(sample=3)
    for unit in (whole, first):
        search(unit)
    first.set_weights(whole.get_weights())

    def inputs(unit, steps):
        rows = []
        for _ in range(steps):
            search(unit, training=training)
            rows.append(unit.network.inputs.numpy())
        return rows

    uninterrupted = inputs(whole, 4)
    inputs(first, 2)
    resumed = make_search(sample=3)
    search(resumed)
    resumed.set_weights(first.get_weights())
    tf.random.set_seed(17)  # of the process that the run is resumed in
    np.testing.assert_array_equal(inputs(resumed, 2), uninterrupted[2:])
    assert resumed.step.numpy() == (4 if training else 0)
    differ = [np.any(row != uninterrupted[0]) for row in uninterrupted[1:]]
    assert all(differ) if training else not any(differ)


def test_a_sample_does_not_depend_on_where_the_padding_is():
    unit, mask = make_search(sample=3), HISTORY.mask.numpy()
    search(unit)
    step = unit.step.numpy()
    search(unit, training=True)
    expected_inputs = unit.network.inputs.numpy()
    unit.step.assign(step)
    rolled = [np.roll(row, TIME - length) for row, length in zip(mask, LENGTHS, strict=True)]
    moved = {
        name: np.array([np.roll(row, TIME - n) for row, n in zip(value, LENGTHS, strict=True)])
        for name, value in HISTORY.features.items()
    }
    left = embedded.history_of(np.array(rolled), **moved)
    unit.search(store_events(left), TARGET, training=True)
    np.testing.assert_allclose(unit.network.inputs, expected_inputs, rtol=1e-4, atol=1e-5)
