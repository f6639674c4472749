"""ENCODE's two stages against numpy, and the limits at which they are something simpler."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers import field_tables
from dgin_tf.layers.dimension_reduction import DimensionReduction
from dgin_tf.layers.embedding import FeatureEmbedding
from dgin_tf.layers.events import embed_history
from dgin_tf.layers.interest_clusters import InterestClusters
from dgin_tf.ops import clustering as ops
from dgin_tf.ops.clustering import Clustering
from dgin_tf.ops.compiling import MIN_XLA_ROWS
from dgin_tf.ops.fast import clustering as fast
from dgin_tf.ops.similarity import Relevance
from tests.layers.search.searching import Data
from tests.oracles import encode
from tests.prepared import make_schema

SETTINGS = ({"metric": "printed", "beta": 0.5}, {"beta": 3.0}, {"metric": "dot"})
every_metric = pytest.mark.parametrize("settings", SETTINGS, ids=str)
every_clustering = pytest.mark.parametrize(
    "clustering", ["k_means", "random", "dynamic_routing", "agglomerative"]
)


def layer_of(clusters=3, dim=2, clustering="k_means", rounds=15, **settings):
    relevance = Relevance(**settings)
    clustering = Clustering(clusters, clustering, rounds)
    return InterestClusters(DimensionReduction(dim, name="reduction"), clustering, relevance)


def through(layer, data):
    return layer(data.target, data.history)


def candidates_of(data):
    """User, candidate, its embedding and the embeddings of the user's events, where there are any."""
    return [pair for pair in data.pairs() if len(pair[3])]


@every_metric
@every_clustering
def test_both_stages_are_those_of_the_equations(clustering, settings):
    data, layer = Data(), layer_of(clustering=clustering, **settings)
    outputs = through(layer, data)
    found, _ = layer.extract(data.history)
    kernel = layer.reduction.kernel.numpy()
    for user, place, candidate, events in candidates_of(data):
        assigned = found.assignment[user, : len(events)].numpy().tolist()
        interests, _ = encode.interests(events, events @ kernel, assigned, **settings)
        wanted, weights = encode.read(interests, candidate, **settings)
        np.testing.assert_allclose(outputs["interest"][user, place], wanted, rtol=1e-3, atol=1e-4)
        between = outputs["interest_weights"][user, place].numpy()[found.mask[user]]
        np.testing.assert_allclose(between, weights, rtol=1e-3, atol=1e-5)


@every_clustering
def test_compiled_clusters_and_weights_are_the_plain_ones(clustering, monkeypatch):
    data = Data(range(3, 3 + MIN_XLA_ROWS), time=20)
    layer = layer_of(5, clustering=clustering)
    layer.extract(data.history)

    def extract():
        history = data.history
        return tf.nest.flatten(tf.function(lambda: layer.extract(history), autograph=False)())

    compiled = extract()
    monkeypatch.setattr(fast, "should_compile", lambda rows: False)
    for found, wanted in zip(compiled, extract(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@every_metric
def test_as_many_clusters_as_events_is_target_attention_over_the_events(settings):
    data = Data(items=6)  # so few items that events repeat
    outputs = through(layer_of(9, **settings), data)
    for user, place, candidate, events in candidates_of(data):
        scores = [encode.similarity(event, candidate, **settings) for event in events]
        wanted = encode.softmax(scores) @ events
        np.testing.assert_allclose(outputs["interest"][user, place], wanted, rtol=1e-3, atol=1e-4)


def test_one_cluster_is_the_same_for_every_candidate():
    interest = through(layer_of(1), Data(candidates=5))["interest"].numpy()
    np.testing.assert_allclose(interest, np.repeat(interest[:, :1], 5, axis=1), rtol=1e-6)
    assert np.any(interest)


@every_metric
def test_weights_within_times_between_sum_to_one_and_give_the_interest(settings):
    data, layer = Data(), layer_of(**settings)
    outputs = through(layer, data)
    found, within = layer.extract(data.history)
    between = outputs["interest_weights"].numpy()
    for user, place, _, events in candidates_of(data):
        assigned = found.assignment[user, : len(events)].numpy()
        final = within[user, : len(events)].numpy() * between[user, place, assigned]
        np.testing.assert_allclose(final.sum(), 1.0, rtol=1e-5)
        wanted = outputs["interest"][user, place]
        np.testing.assert_allclose(final @ events, wanted, rtol=1e-4, atol=1e-5)


def test_nobody_without_events_is_interested_in_anything():
    outputs = through(layer_of(), Data())
    assert not np.any(outputs["interest"][2])
    assert not np.any(outputs["interest_weights"][2])


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_identical_events_and_zeros_are_an_interest_of_their_own(size):
    data, layer = Data(), layer_of()
    data.table.assign(size * tf.ones_like(data.table))
    with tf.GradientTape() as tape:
        interest = through(layer, data)["interest"]
    gradient = tf.convert_to_tensor(tape.gradient(interest, data.table))
    np.testing.assert_allclose(interest[:2], np.full((2, 2, 6), size), atol=1e-6)
    assert np.all(np.isfinite(gradient))


def test_gradients_of_events_are_those_of_fixed_weights():
    data, layer = Data(), layer_of()
    layer.encode(data.history)
    with tf.GradientTape(persistent=True) as tape:
        total = tf.reduce_sum(layer.encode(data.history)["interests"])
    gradient = tf.convert_to_tensor(tape.gradient(total, data.table)).numpy()
    _, within = layer.extract(data.history)
    wanted = np.zeros(data.table.shape)
    np.add.at(wanted, data.items, np.repeat(within.numpy()[..., None], 6, axis=2))
    np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-6)
    assert tape.gradient(total, layer.reduction.kernel) is None


@pytest.mark.parametrize("settings", [{}, {"metric": "dot"}], ids=str)
def test_without_stopped_gradients_those_of_events_and_w_h_are_the_formulas(settings):
    data = Data()
    layer = InterestClusters(
        DimensionReduction(2), Clustering(3, "random"), Relevance(**settings), stop_gradient=False
    )
    assignment = layer.extract(data.history)[0].assignment.numpy()
    kernel, random = layer.reduction.kernel, np.random.default_rng(3)
    upstream = random.normal(size=(3, 6)).astype(np.float32)
    with tf.GradientTape(persistent=True) as tape:
        ours = tf.reduce_sum(layer.encode(data.history)["interests"] * upstream)
        formula = 0.0
        for items, clusters in zip(data.items, assignment, strict=True):
            for number in set(clusters) - {-1}:
                events = tf.gather(data.table, items[clusters == number])  # s
                reduced = events @ kernel  # h
                center = tf.reduce_sum(tf.linalg.normalize(reduced, axis=1)[0], 0)
                center = tf.linalg.normalize(center)[0]
                if settings:
                    scores = tf.linalg.matvec(reduced, center) / np.sqrt(2.0)
                else:
                    unit = tf.linalg.normalize(reduced, axis=1)[0]
                    scores = 20.0 * tf.linalg.matvec(unit, center)
                weights = tf.nn.softmax(scores)
                formula += tf.reduce_sum(tf.linalg.matvec(events, weights, True) * upstream[number])
    np.testing.assert_allclose(ours, formula, rtol=1e-4)
    for variable in (data.table, kernel):
        found, wanted = (tf.convert_to_tensor(tape.gradient(y, variable)) for y in (ours, formula))
        assert np.any(wanted)
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_the_reductions_loss_trains_w_h_alone_whatever_else_passes_gradients():
    data, gradients = Data(), []
    for stop_gradient in (True, False):
        layer = InterestClusters(DimensionReduction(2), Clustering(3), stop_gradient=stop_gradient)
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_sum(layer.encode_with_losses(data.history)[1]["reduction"])
        assert tape.gradient(loss, data.table) is None
        gradients.append(tape.gradient(loss, layer.reduction.kernel))
    np.testing.assert_allclose(*gradients, rtol=1e-5)


def test_the_default_weighs_by_more_than_the_printed_form_can():
    data, ratios = Data(), []
    for settings in ({}, {"metric": "printed"}):
        layer = layer_of(1, **settings)
        weights = layer.extract(data.history)[1].numpy()[0]
        ratios.append(weights[weights > 0].max() / weights[weights > 0].min())
    assert ratios[1] < np.exp(0.1) < np.exp(1) < ratios[0]


def test_the_state_is_as_large_for_every_history():
    for time in (4, 40):
        state = layer_of(7).encode(Data(length=(time, 2), time=time).history)
        assert {name: tuple(value.shape) for name, value in state.items()} == {
            "interests": (2, 7, 6),
            "interest_mask": (2, 7),
        }


def test_the_auxiliary_loss_is_the_reductions():
    data, layer = Data(), layer_of()
    state, losses = layer.encode_with_losses(data.history)
    wanted = layer.reduction.loss(data.events, data.history.mask)
    np.testing.assert_array_equal(losses["reduction"], wanted)
    for name, value in layer.encode(data.history).items():
        np.testing.assert_array_equal(state[name], value)
    assert layer.auxiliary_loss_names == ("reduction",)
    without = InterestClusters(DimensionReduction(2, "none"))
    assert without.encode_with_losses(data.history)[1] == {}


class CountedReduction(DimensionReduction):
    """A reduction that counts its calls."""

    calls = 0

    def call(self, vectors):
        self.calls += 1
        return super().call(vectors)


def test_a_step_looks_events_up_and_reduces_them_once(monkeypatch):
    lookups = []

    def read_rows(table, rows):
        lookups.append(table)
        return tf.gather(table, rows)

    monkeypatch.setattr(field_tables, "read_rows", read_rows)
    data, layer = Data(), InterestClusters(CountedReduction(2))
    _, losses = layer.encode_with_losses(data.history)
    assert set(losses) == {"reduction"}
    assert len(lookups) == 1
    assert layer.reduction.calls == 1


def test_a_history_that_another_layer_has_encoded_is_reduced_by_ones_own_weights():
    history, others, own = Data().embedded_history, layer_of(), layer_of(dim=3)
    others.encode(history)
    assert own.encode(history)["interests"].shape == (*history.mask.shape[:1], 3, 6)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(own.encode_with_losses(history)[1]["reduction"])
    assert np.any(tape.gradient(loss, own.reduction.kernel))


def test_an_unknown_clustering_is_refused():
    with pytest.raises(ValueError, match="agglomerative; got 'dbscan'"):
        layer_of(clustering="dbscan")


def test_fields_of_tables_have_the_gradients_that_events_have():
    embedding = FeatureEmbedding(make_schema(), 4)
    real = np.arange(9) < np.array([9, 5, 2, 0])[:, None]
    draws = np.random.default_rng(2)
    features = {
        f"hist_{field.name}": tf.constant(
            np.where(
                real,
                draws.integers(2, embedding.schema.vocabulary_sizes[field.vocabulary], real.shape),
                0,
            )
        )
        for field in embedding.schema.paired_fields
    }
    history = embedding.history({**features, "hist_mask": tf.constant(real)})
    layer, tables = layer_of(), [embedding.tables[name] for name in ("item_id", "category_id")]
    layer.encode(history)
    results = []
    for by_field in (True, False):  # field by field, and all of them, masked
        with tf.GradientTape() as tape:
            part = embed_history(history, tf.float32)
            if not by_field:
                part = part._replace(fields=())
            state, losses = layer.encode_with_losses(part)
            loss = tf.reduce_sum(state["interests"] ** 2) + tf.reduce_sum(losses["reduction"])
        gradients = tape.gradient(loss, [*tables, layer.reduction.kernel])
        results.append([state["interests"], *map(tf.convert_to_tensor, gradients)])
    for ours, wanted in zip(*results, strict=True):
        assert np.any(wanted)
        np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-6)


def test_embeddings_and_a_mask_are_all_that_cluster_attention_needs():
    data, layer = Data(), layer_of()
    alone = layer(data.target.embedding, (data.events, data.history.mask))
    np.testing.assert_allclose(alone["interest"], through(layer, data)["interest"], atol=1e-6)
    assert np.any(alone["interest"])


@pytest.mark.parametrize("fields", [1, 2])
def test_the_fast_sum_of_clusters_is_the_formulas_in_value_and_gradient(fields):
    random = np.random.default_rng(4)
    users, time, clusters = MIN_XLA_ROWS, 23, 5
    lengths = random.integers(0, time + 1, (users, 1))
    assignment = np.where(
        np.arange(time) < lengths, random.integers(0, clusters, (users, time)), -1
    )
    weights = tf.constant(random.random((users, time)) * (assignment >= 0), tf.float32)
    parts = [tf.constant(random.normal(size=(users, time, 3)), tf.float32) for _ in range(fields)]
    upstream = tf.constant(random.normal(size=(users, clusters, 3 * fields)), tf.float32)

    def with_gradients(function):
        with tf.GradientTape() as tape:
            tape.watch(parts)
            value = function(parts, weights, tf.constant(assignment, tf.int32), clusters)
        return [value, *tape.gradient(value, parts, upstream)]

    for wrap in (lambda f: f, lambda f: tf.function(f, autograph=False)):
        results = [wrap(lambda f=f: with_gradients(f))() for f in SUMS]
        for ours, formula in zip(*results, strict=True):
            np.testing.assert_allclose(ours, formula, rtol=1e-5, atol=1e-5)


SUMS = (fast.sum_interests, ops.sum_interests)
