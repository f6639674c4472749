"""Embedding tables: initialization, lookup, and the regularization of a batch's rows."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.embedding import FeatureEmbedding
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.din import DIN
from dgin_tf.optimizers import rowwise_adam
from tests.conformance.catalogue import batch
from tests.prepared import make_schema


def test_tables_start_within_the_limit_and_differ():
    tables = list(ModelConfig(embedding_limit=0.5).embedding(make_schema()).tables.values())
    assert len(tables) > 1
    for table in tables:
        assert 0.4 < np.abs(table.numpy()).max() <= 0.5
    first, second = (table.numpy().ravel() for table in tables[:2])
    size = min(len(first), len(second))
    assert not np.array_equal(first[:size], second[:size])


def test_without_a_limit_larger_vocabularies_start_smaller():
    schema = make_schema()
    tables = FeatureEmbedding(schema, 18).tables
    for name, table in tables.items():
        limit = np.sqrt(6 / (schema.vocabulary_sizes[name] + 18))
        assert 0.5 * limit < np.abs(table.numpy()).max() <= limit


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_that_is_not_positive_is_refused(limit):
    with pytest.raises(ValueError, match="limit must be positive, or None"):
        ModelConfig(embedding_limit=limit).embedding(make_schema())


def regularized(weight=0.1):
    embedding = FeatureEmbedding(make_schema(), 3, ("user_id",), "normal", weight)
    embedding.adapt([batch(), batch(seed=5)])
    return embedding


def occurrences(features, prefix, field):
    mask = features[f"{prefix}_mask"].numpy()
    return features[f"{prefix}_{field}"].numpy()[mask]


def ids_of(features, field):
    return np.concatenate([occurrences(features, prefix, field) for prefix in ("hist", "cand")])


def test_adapting_counts_how_often_every_id_occurs_and_no_padding():
    counts = regularized().counts["item_id"].numpy()
    ids = np.concatenate([ids_of(batch(), "item_id"), ids_of(batch(seed=5), "item_id")])
    expected_counts = np.bincount(ids, minlength=len(counts))
    expected_counts[0] = 0
    np.testing.assert_array_equal(counts, np.maximum(expected_counts, 1))


def test_the_penalty_is_that_of_dins_equation_6():
    embedding, features = regularized(weight=0.1), batch()
    total = 0.0
    for field in ("item_id", "category_id"):
        rows, counts = embedding.tables[field].numpy(), embedding.counts[field].numpy()
        for j in set(ids_of(features, field)) - {0}:
            total += np.sum(rows[j] ** 2) / counts[j]
    for j in set(features["user_id"].numpy()):
        rows, counts = embedding.tables["user_id"].numpy(), embedding.counts["user_id"].numpy()
        total += np.sum(rows[j] ** 2) / counts[j]
    np.testing.assert_allclose(embedding.penalty(features), 0.1 / 2 * total, rtol=1e-5)


def test_the_penalty_moves_the_rows_of_the_batch_alone_by_lambda_over_their_count():
    embedding, features = regularized(weight=0.1), batch()
    table, counts = embedding.tables["item_id"], embedding.counts["item_id"].numpy()
    with tf.GradientTape() as tape:
        penalty = embedding.penalty(features)
    gradient = tf.convert_to_tensor(tape.gradient(penalty, table)).numpy()
    rows = np.zeros(len(counts))
    rows[list(set(ids_of(features, "item_id")) - {0})] = 1
    expected_gradient = (0.1 * rows / counts)[:, np.newaxis] * table.numpy()
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-7)


def test_a_model_trains_with_the_penalty_and_is_scored_without():
    model = DIN(make_schema(), ModelConfig(5, (), (7,), embedding_l2=0.5))
    model.adapt([batch()])
    model.compile(rowwise_adam(model, 0.0))
    data = tf.data.Dataset.from_tensors(batch())
    report = model.fit(data, verbose=0).history
    np.testing.assert_allclose(
        report["regularization"][0], model.embedding.penalty(batch()), rtol=1e-5
    )
    assert "regularization" not in model.evaluate(data, verbose=0, return_dict=True)


def test_a_negative_weight_of_the_penalty_is_refused():
    with pytest.raises(ValueError, match="mini_batch_l2 must not be negative"):
        FeatureEmbedding(make_schema(), mini_batch_l2=-0.1)
