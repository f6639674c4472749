"""What an encoder may be called with."""

import re

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import History
from dgin_tf.layers.interest_clusters import InterestClusters
from dgin_tf.layers.multi_head_history import MultiHeadHistory
from dgin_tf.layers.pooling import Pooling
from dgin_tf.layers.search.readers import MeanReader
from dgin_tf.layers.search.soft import SoftSearch
from dgin_tf.layers.search.unit import SearchedInterest
from dgin_tf.layers.self_attention import SelfAttentionEncoder
from dgin_tf.layers.sessions.transformer import SessionTransformer
from dgin_tf.layers.short_and_long import ShortAndLong
from dgin_tf.layers.target_attention import AttendedHistory
from dgin_tf.ops.clustering import CLUSTERINGS, Clustering

USERS, CANDIDATES, TIME, DIM = 3, 2, 4, 6


def arrays():
    random = np.random.default_rng(0)
    target = random.normal(size=(USERS, CANDIDATES, DIM)).astype(np.float32)
    events = random.normal(size=(USERS, TIME, DIM)).astype(np.float32)
    return target, events, np.arange(TIME) < [[4], [2], [0]]


@pytest.mark.parametrize(
    "form",
    [
        lambda events, mask: [events, mask],
        lambda events, mask: (events, mask.astype(np.int32)),
        lambda events, mask: (events, mask.astype(np.float32)),
        lambda events, mask: (events.astype(np.float64), mask),
        lambda events, mask: History(np.where(mask[..., None], events, 0), mask),
    ],
    ids=["list", "int mask", "float mask", "float64", "numpy history"],
)
def test_numpy_arrays_and_masks_of_numbers_are_taken(form):
    target, events, mask = arrays()
    layer = ShortAndLong(AttendedHistory(), Pooling(), 2)
    outputs = layer(target, form(events, mask))["interest"]
    np.testing.assert_array_equal(outputs, layer(target, (events, mask))["interest"])


def test_events_without_a_mask_are_all_real():
    target, events, _ = arrays()
    layer = AttendedHistory()
    interest = layer(target, (events, np.ones([USERS, TIME], bool)))["interest"]
    for history in (events, (events, None)):
        np.testing.assert_array_equal(layer(target, history)["interest"], interest)
    unit = SoftSearch(k=2)
    assert unit(target, events).topk_indices.shape == [USERS, CANDIDATES, 2]


def test_embeddings_are_cast_to_the_type_of_the_layer():
    target, events, mask = arrays()
    layer = AttendedHistory(dtype="mixed_bfloat16")
    assert layer(target, (events, mask))["interest"].dtype == tf.bfloat16
    layer = AttendedHistory(dtype="float64")
    assert layer(target, (events, mask))["interest"].dtype == tf.float64


@pytest.mark.parametrize("layer", [SelfAttentionEncoder, SessionTransformer])
def test_self_attention_computes_in_float64(layer):
    events, mask = tf.random.normal([2, 3, 5, 8], dtype=tf.float64), tf.ones([2, 3, 5], tf.bool)
    assert layer(dtype="float64")(events, mask=mask).dtype == tf.float64


@pytest.mark.parametrize(
    ("users", "time", "mask_time"), [(USERS - 1, TIME, TIME), (USERS, TIME, TIME - 1)]
)
def test_shapes_that_do_not_match_are_refused_by_a_sentence(users, time, mask_time):
    target, events, mask = arrays()
    message = re.escape("expected embeddings [users, candidates, dim] and [users, time, dim]")
    with pytest.raises(ValueError, match=message):
        Pooling()(target, (events[:users, :time], mask[:users, :mask_time]))
    with pytest.raises(ValueError, match=message):
        SearchedInterest(SoftSearch(2), MeanReader())(target[:, 0], (events, mask))


@pytest.mark.parametrize("algorithm", CLUSTERINGS)
@pytest.mark.parametrize("time", [0, None])
def test_clusters_of_no_events_are_empty(algorithm, time):
    layer = InterestClusters(clustering=Clustering(clusters=2, algorithm=algorithm))
    target, events, _ = arrays()
    signature = [
        tf.TensorSpec([USERS, CANDIDATES, DIM]),
        tf.TensorSpec([USERS, time, DIM]),
        tf.TensorSpec([USERS, time], tf.bool),
    ]
    interest = tf.function(
        lambda target, events, mask: layer(target, (events, mask))["interest"], signature
    )(target, events[:, :0], np.ones([USERS, 0], bool))
    np.testing.assert_array_equal(interest, np.zeros([USERS, CANDIDATES, DIM]))


def test_attention_is_traced_for_histories_of_unknown_length():
    layer = MultiHeadHistory()
    target, events, mask = arrays()
    signature = [tf.TensorSpec([None, None, DIM])] * 2 + [tf.TensorSpec([None, None], tf.bool)]
    traced = tf.function(lambda target, events, mask: layer(target, (events, mask)), signature)
    np.testing.assert_allclose(
        traced(target, events, mask)["interest"],
        layer(target, (events, mask))["interest"],
        rtol=1e-5,
        atol=1e-6,
    )
