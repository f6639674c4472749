"""Bucket boundaries of the statistics, fixed and learned, and the bucket of a count."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.group_spec import GroupSpec, StatisticsSpec
from dgin_tf.layers.group_statistics import (
    GroupStatistics,
    logarithmic_boundaries,
    quantile_boundaries,
    statistic_boundaries,
)
from dgin_tf.ops.grouping import group_history

TYPES = StatisticsSpec((("view", 2), ("buy", 3)))


def test_two_buckets_for_every_doubling():
    assert logarithmic_boundaries(20) == [1, 2, 3, 4, 6, 8, 12, 16]
    assert logarithmic_boundaries()[-1] <= 10_000 < 2 * logarithmic_boundaries()[-1]


def test_quantiles_cut_a_sample_into_buckets_of_about_one_size():
    values = np.arange(1, 1001)
    boundaries = quantile_boundaries(values, num_bins=4)
    sizes = np.diff(np.searchsorted(values, [0, *boundaries, 2000]))
    assert len(sizes) == 4
    np.testing.assert_allclose(sizes, 250, atol=2)


def test_a_value_that_is_frequent_in_itself_makes_fewer_buckets():
    assert quantile_boundaries([1] * 90 + [2] * 5 + [7] * 5, num_bins=10) == [2]
    assert quantile_boundaries([3, 3, 3]) == []


@pytest.mark.parametrize(("values", "num_bins"), [([], 4), ([1, 2], 1)])
def test_boundaries_need_values_and_two_buckets(values, num_bins):
    with pytest.raises(ValueError, match="at least 2 buckets"):
        quantile_boundaries(values, num_bins)


def test_what_is_not_known_has_a_bucket_of_its_own_among_learned_ones():
    unknown, known = np.zeros(30, int), np.arange(5, 45)
    values = np.concatenate([unknown, known])
    boundaries = statistic_boundaries("mean_dwell", values, 5)
    assert boundaries[0] == 1
    sizes = np.bincount(np.searchsorted(boundaries, values, side="right"))
    assert sizes.tolist() == [30, 10, 10, 10, 10]
    assert statistic_boundaries("mean_dwell", unknown, 5) == []
    assert statistic_boundaries("count", known, 2) == quantile_boundaries(known, 2)
    assert statistic_boundaries("mean_dwell", values, 2) == [1]


def test_counts_of_a_bucket_share_a_row_and_statistics_share_none():
    layer = GroupStatistics(TYPES, 3, {"count": [2, 5]})
    assert layer.names == ["count", "types", "count_view", "count_buy"]
    same = tf.constant([[0, 1, 2, 4, 5, 90]])
    found = layer(dict.fromkeys(layer.names, same), same >= 0).numpy()[0].reshape(6, 4, 3)
    count = found[:, 0]
    for left, right in ((0, 1), (2, 3), (4, 5)):
        np.testing.assert_array_equal(count[left], count[right])
    rows = {tuple(row) for row in found[[0, 2, 4]].reshape(-1, 3)}
    assert len(rows) == 3 * 4


def test_buckets_are_those_of_keras_discretization():
    layer, values = GroupStatistics(dim=1), tf.range(0, 12_000, 7)[tf.newaxis]
    found = layer({"count": values}, values >= 0).numpy()[0, :, 0]
    buckets = tf.keras.layers.Discretization(logarithmic_boundaries())(values)[0]
    np.testing.assert_array_equal(found, layer.table.numpy()[buckets.numpy(), 0])


def test_where_there_is_no_group_there_is_nothing():
    layer, values = GroupStatistics(dim=3), tf.constant([[3, 0, 7]])
    mask = tf.constant([[True, False, True]])
    found = layer({"count": values}, mask).numpy()
    assert not np.any(found[0, 1])
    np.testing.assert_array_equal(found[0, ::2], layer({"count": values}, values >= 0)[0, ::2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bin_boundaries": {"price": [1]}}, r"got \['price'\]"),
        ({"bin_boundaries": {"count": [1, 1]}}, "must rise"),
        ({"bin_boundaries": {"count": [1]}, "num_bins": 3}, "got both"),
        ({"num_bins": 1}, "at least 2"),
    ],
)
def test_boundaries_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GroupStatistics(**settings)


def sample(keys):
    """Groups of one history."""
    keys = tf.constant([keys])
    spec = GroupSpec("item_id", groups=50, events=1, statistics=StatisticsSpec())
    return group_history({"item_id": keys}, keys > 0, spec)


def test_learned_boundaries_are_quantiles_of_the_groups_of_a_sample():
    layer = GroupStatistics(dim=2, num_bins=3)
    layer.adapt([sample([5] * 9 + [6]), sample([5] * 4 + [6] * 4 + [7, 0, 0])])
    counts = [9, 1, 4, 4, 1]
    expected = quantile_boundaries(np.array(counts), 3)
    assert layer.learned_boundaries.numpy()[0, : len(expected)].tolist() == expected
    values = tf.constant([[0, 1, 4, 8, 9, 10**6]])
    found = layer({"count": values}, values >= 0).numpy()[0]
    buckets = np.searchsorted(expected, values[0], side="right")
    np.testing.assert_array_equal(found, layer.table.numpy()[buckets])


def test_adapting_changes_no_shape_and_is_saved_with_the_weights():
    layer = GroupStatistics(TYPES, dim=2, num_bins=4)
    values = {name: tf.constant([[1, 2, 7]]) for name in layer.names}
    before = layer(values, tf.ones([1, 3], tf.bool))
    shapes = [weight.shape for weight in layer.weights]
    fewer = sample([5, 6])._replace(
        statistics=dict.fromkeys(layer.names, tf.ones([1, 50], tf.int32))
    )
    layer.adapt([fewer])  # all alike, so that one bucket is left
    assert [weight.shape for weight in layer.weights] == shapes
    assert len(layer.trainable_variables) == 1
    after = layer(values, tf.ones([1, 3], tf.bool))
    assert np.any(after.numpy() != before.numpy())
    copy = GroupStatistics.from_config(layer.get_config())
    copy.build(None)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(copy(values, tf.ones([1, 3], tf.bool)), after)


@pytest.mark.parametrize(
    ("layer", "data", "message"),
    [
        (GroupStatistics(), [sample([5])], "fixed; give num_bins"),
        (GroupStatistics(num_bins=3), [sample([0])], "the data hold none"),
    ],
)
def test_boundaries_that_cannot_be_learned_are_refused(layer, data, message):
    with pytest.raises(ValueError, match=message):
        layer.adapt(data)


def test_means_are_of_known_values_alone_and_a_group_without_any_has_its_own_bucket():
    layer = GroupStatistics(StatisticsSpec(numeric_features=("dwell",)), 3)
    features = {
        "item_id": tf.constant([[5, 7, 5, 9, 7, 5, 0]]),
        "dwell": tf.constant([[31, 0, 12, 1, 0, 0, 99]], tf.int64),  # as stored, 0 is unknown
    }
    spec = GroupSpec("item_id", groups=3, events=1, statistics=layer.statistics)
    groups = group_history(features, features["item_id"] > 0, spec)
    means = groups.statistics["mean_dwell"][0].numpy()
    by_key = dict(zip(groups.keys[0].numpy(), means, strict=True))
    assert by_key == {5: (31 + 12) // 2, 7: 0, 9: 1}
    embeddings = layer(groups.statistics, groups.mask).numpy()[0, :, 3:]
    assert len({tuple(row) for row in embeddings}) == 3
