"""Groups of events against a scan in numpy, and what is true of any grouping."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops import grouping
from tests.oracles import dgin

USERS, TIME, TYPES = 5, 23, 3


def random_log(keys=7, lengths=(23, 13, 2, 1, 0), seed=0, left=False):
    """Keys, types and mask of users with histories of some lengths, padded with ids of their own."""
    random = np.random.default_rng(seed)
    mask = np.arange(TIME) < np.array(lengths)[:, None]
    return (
        random.integers(2, 2 + keys, (USERS, TIME)).astype(np.int32),
        random.integers(2, 2 + TYPES, (USERS, TIME)).astype(np.int32),
        mask[:, ::-1] if left else mask,
    )


def grouped(keys, mask, groups, events):
    return grouping.group_events(tf.constant(keys), tf.constant(mask), groups, events)


def as_lists(found):
    """Groups as the oracle has them, without the places of all events."""
    found = [value.numpy() for value in found[:4]]
    return [
        [
            (int(key), list(places[real]))
            for key, is_group, places, real in zip(*user, strict=True)
            if is_group
        ]
        for user in zip(*found, strict=True)
    ]


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize(("groups", "events"), [(11, 29), (3, 29), (11, 2), (1, 1), (50, 50)])
@pytest.mark.parametrize("keys", [1, 7, 1000])
def test_groups_are_those_of_a_scan(keys, groups, events, left):
    key, _, mask = random_log(keys, left=left)
    expected = [
        [(k, newest) for k, _, newest in dgin.group_events(*row, groups, events)]
        for row in zip(key, mask, strict=True)
    ]
    found = grouped(key, mask, groups, events)
    assert as_lists(found) == expected
    assert found.places.shape == (USERS, groups, events)


@pytest.mark.parametrize("static", [True, False])
def test_without_a_limit_every_event_is_in_a_group(static):
    key, _, mask = random_log(keys=1000)
    spec = tf.TensorSpec([USERS, TIME if static else None], tf.int32)
    group = tf.function(lambda k, m: grouping.group_events(k, m, None, 2))
    group = group.get_concrete_function(spec, tf.TensorSpec(spec.shape, tf.bool))
    found = group(tf.constant(key), tf.constant(mask))
    assert group.structured_outputs.mask.shape[1] == (TIME if static else None)
    np.testing.assert_array_equal(np.sum(found.counts, axis=1), mask.sum(axis=1))
    for ours, limited in zip(found, grouped(key, mask, TIME, 2), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, ours, limited)


def test_events_of_the_groups_that_remain_are_counted_beside_all():
    key = np.array([[5, 5, 8, 3, 8, 9], [7, 7, 7, 7, 4, 6]], np.int32)
    mask = np.array([[True] * 6, [True] * 5 + [False]])
    assert grouped(key, mask, 2, 1).kept_of_all.numpy().tolist() == [[3, 6], [5, 5]]
    assert grouped(key, mask, None, 1).kept_of_all.numpy().tolist() == [[6, 6], [5, 5]]


def test_counts_are_of_all_events_also_of_those_beyond_b():
    key, types, mask = random_log(keys=2)
    found = grouped(key, mask, 2, 3)
    per_type = grouping.count_values(found, tf.constant(types), range(2, 2 + TYPES)).numpy()
    for user in range(USERS):
        for n, (_, places, _) in enumerate(dgin.group_events(key[user], mask[user], 2, 3)):
            assert found.counts[user, n] == len(places)
            expected = np.bincount(types[user, places], minlength=2 + TYPES)[2:]
            np.testing.assert_array_equal(per_type[user, n], expected)


def test_grouping_is_a_partition():
    key, types, mask = random_log()
    found = grouped(key, mask, TIME, 1)
    np.testing.assert_array_equal(np.sum(found.counts, axis=1), mask.sum(axis=1))
    per_type = grouping.count_values(found, tf.constant(types), range(2, 2 + TYPES))
    np.testing.assert_array_equal(np.sum(per_type, axis=-1), found.counts)


def test_distinct_values_are_counted_within_their_group():
    key, _, mask = random_log(keys=3)
    values = np.random.default_rng(1).integers(2, 6, key.shape).astype(np.int32)
    found = grouped(key, mask, 3, 2)
    distinct = grouping.count_distinct(found, *map(tf.constant, (key, mask, values))).numpy()
    for user in range(USERS):
        groups = dgin.group_events(key[user], mask[user], 3, 2)
        expected = [len(set(values[user, places])) for _, places, _ in groups]
        np.testing.assert_array_equal(distinct[user, : len(expected)], expected)
        assert not np.any(distinct[user, len(expected) :])


def test_events_of_other_groups_in_between_change_nothing_but_places():
    key = np.array([[5, 5, 8, 5, 8, 3], [8, 5, 5, 8, 5, 3]], np.int32)
    found = grouped(key, np.ones_like(key, bool), 3, 4)
    counts = [
        dict(zip(*row, strict=True))
        for row in zip(found.keys.numpy(), found.counts.numpy(), strict=True)
    ]
    assert counts[0] == counts[1] == {3: 1, 8: 2, 5: 3}


def test_a_time_axis_of_no_length_has_no_groups():
    key = tf.zeros([2, 0], tf.int32)
    mask = tf.zeros([2, 0], tf.bool)
    assert grouping.group_events(key, mask, None, 2).mask.shape == (2, 1)
    found = grouping.group_events(key, mask, 3, 2)
    assert not np.any(found.mask)
    assert not np.any(found.event_mask)
    assert not np.any(grouping.count_values(found, key, [2]))
    assert not np.any(grouping.count_distinct(found, key, mask, key))
    assert grouping.session_keys(tf.zeros([2, 0], tf.int64), mask).shape == (2, 0)


def test_what_lies_under_the_padding_does_not_matter():
    key, types, mask = random_log()
    other = np.where(mask, key, 999).astype(np.int32)
    for found, wanted in zip(grouped(other, mask, 5, 3), grouped(key, mask, 5, 3), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_half_an_hour_is_one_session_and_a_second_more_are_two():
    times = tf.constant([[0, 1800, 1801, 3602, 99]], tf.int64)
    mask = tf.constant([[True, True, True, True, False]])
    np.testing.assert_array_equal(grouping.session_keys(times, mask)[0, :4], [0, 0, 0, 1])


@pytest.mark.parametrize("seed", range(3))
def test_sessions_are_those_of_a_scan_wherever_the_padding_is(seed):
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(0, 20_000, (USERS, TIME)))
    mask = random.random((USERS, TIME)) < 0.6
    found = grouping.session_keys(tf.constant(times), tf.constant(mask)).numpy()
    for user in range(USERS):
        expected = dgin.session_keys(times[user], mask[user], grouping.SESSION_GAP)
        np.testing.assert_array_equal(found[user][mask[user]], expected)


@pytest.mark.parametrize(("groups", "events"), [(0, 3), (3, 0)])
def test_no_groups_or_no_events_are_refused(groups, events):
    with pytest.raises(ValueError, match=f"at least 1; got {groups} and {events}"):
        grouped(*random_log()[::2], groups, events)
