"""Where embeddings start."""

import numpy as np
import pytest

from dgin_tf.layers.embedding import FeatureEmbedding
from tests.prepared import make_schema


def test_tables_start_within_the_limit_and_differ():
    tables = list(FeatureEmbedding(make_schema(), 18, limit=0.5).tables.values())
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
        FeatureEmbedding(make_schema(), limit=limit)
