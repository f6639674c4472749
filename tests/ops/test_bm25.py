"""BM25 over one user's events."""

import numpy as np
import tensorflow as tf

from dgin_tf.ops import bm25
from tests.oracles import searchers


def test_scores_are_those_of_full_bm25_where_terms_occur_once():
    random = np.random.default_rng(0)
    events, time = random.integers(2, 5, (7, 3)), 7
    candidate, query = np.array([3, 2, 4]), np.array([True, False, True])
    documents = [[(f, v) for f, v in enumerate(event)] for event in events]
    wanted = searchers.bm25([(f, v) for f, v in enumerate(candidate) if query[f]], documents)
    found = bm25.scores(
        tf.constant((events == candidate).T[None, None]),
        tf.constant(query[None, None]),
        tf.ones([1, time], tf.bool),
    )
    np.testing.assert_allclose(found[0, 0], wanted, rtol=1e-6)


def test_masked_events_are_no_documents():
    matches = tf.constant([[[[True, False, True, True]]]])
    mask = tf.constant([[True, True, True, False]])
    query = tf.ones([1, 1, 1], tf.bool)
    found = bm25.scores(matches, query, mask)[0, 0]
    alone = bm25.scores(matches[..., :3], query, mask[:, :3])[0, 0]
    assert found[3] == 0
    np.testing.assert_array_equal(found[:3], alone)


def test_a_term_in_every_document_still_counts():
    assert bm25.inverse_document_frequency(tf.constant(5), tf.constant(5)) > 0
