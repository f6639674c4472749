"""Edges of the statistics' classes, and which class a count is in."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.group_statistics import GroupStatistics, log_edges, quantile_edges
from dgin_tf.layers.stored_events import history_of
from dgin_tf.ops.grouping import group_events


def test_two_classes_for_every_doubling():
    assert log_edges(20) == [1, 2, 3, 4, 6, 8, 12, 16]
    assert log_edges()[-1] <= 10_000 < 2 * log_edges()[-1]


def test_quantiles_cut_a_sample_into_classes_of_about_one_size():
    values = np.arange(1, 1001)
    edges = quantile_edges(values, classes=4)
    sizes = np.diff(np.searchsorted(values, [0, *edges, 2000]))
    assert len(sizes) == 4
    np.testing.assert_allclose(sizes, 250, atol=2)


def test_a_value_that_is_frequent_in_itself_makes_fewer_classes():
    assert quantile_edges([1] * 90 + [2] * 5 + [7] * 5, classes=10) == [2]
    assert quantile_edges([3, 3, 3]) == []


@pytest.mark.parametrize(("values", "classes"), [([], 4), ([1, 2], 1)])
def test_edges_need_values_and_two_classes(values, classes):
    with pytest.raises(ValueError, match="at least 2 classes"):
        quantile_edges(values, classes)


def test_counts_of_a_class_share_a_row_and_statistics_share_none():
    layer = GroupStatistics(3, ["view", "buy"], edges={"count": [2, 5]})
    assert layer.names == ["count", "types", "count_view", "count_buy"]
    same = tf.constant([[0, 1, 2, 4, 5, 90]])
    found = layer(dict.fromkeys(layer.names, same), same >= 0).numpy()[0].reshape(6, 4, 3)
    count = found[:, 0]
    for left, right in ((0, 1), (2, 3), (4, 5)):
        np.testing.assert_array_equal(count[left], count[right])
    rows = {tuple(row) for row in found[[0, 2, 4]].reshape(-1, 3)}
    assert len(rows) == 3 * 4


def test_where_there_is_no_group_there_is_nothing():
    layer, values = GroupStatistics(3), tf.constant([[3, 0, 7]])
    mask = tf.constant([[True, False, True]])
    found = layer({"count": values}, mask).numpy()
    assert not np.any(found[0, 1])
    np.testing.assert_array_equal(found[0, ::2], layer({"count": values}, values >= 0)[0, ::2])


@pytest.mark.parametrize(
    ("edges", "message"),
    [({"price": [1]}, r"got \['price'\]"), ({"count": [1, 1]}, "must rise")],
)
def test_edges_that_mean_nothing_are_refused(edges, message):
    with pytest.raises(ValueError, match=message):
        GroupStatistics(edges=edges)


def test_means_are_of_known_amounts_alone_and_a_group_without_any_has_its_own_class():
    layer = GroupStatistics(3, numeric_features=["dwell"])
    keys = tf.constant([[5, 7, 5, 9, 7, 5, 0]])
    mask = tf.constant([[True] * 6 + [False]])
    dwell = tf.constant([[31, 0, 12, 1, 0, 0, 99]], tf.int64)  # as stored, 0 is unknown
    history = history_of({"hist_dwell": dwell}, mask, None, ())
    groups = group_events(keys, mask, 3, 1)
    found = layer.count(groups, keys, history)
    by_key = dict(zip(groups.keys[0].numpy(), found["mean_dwell"][0].numpy(), strict=True))
    assert by_key == {5: (31 + 12) // 2, 7: 0, 9: 1}
    assert layer.event_features == ("hist_dwell",)
    embedded = layer(found, groups.mask).numpy()[0, :, 3:]
    assert len({tuple(row) for row in embedded}) == 3
