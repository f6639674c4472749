"""Counting in buckets and ranges must equal one count over everything."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.stages.vocabulary import (
    Lookup,
    count_pairs,
    dense_ids,
    frequency_order,
    merge_pairs,
    range_boundaries,
)

EVENT = st.tuples(
    st.one_of(st.integers(0, 9), st.integers(2**40, 2**40 + 3)), st.integers(-1, 3), st.booleans()
)


def counted(events):
    item, category, training = np.array(events, np.int64).reshape(-1, 3).T
    return count_pairs(item, category, training.astype(bool))


def category_of(events, item):
    counts = Counter(category for i, category, _ in events if i == item)
    return min(counts, key=lambda category: (-counts[category], category))


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=50), st.integers(1, 4))
def test_merged_bucket_counts_equal_a_count_over_all_events(events, buckets):
    merged = merge_pairs([counted(events[n::buckets]) for n in range(buckets)])
    items = sorted({item for item, _, _ in events})
    assert merged["item"].tolist() == items
    assert merged["events"].tolist() == [sum(e[0] == i for e in events) for i in items]
    training = [sum(e[0] == i and e[2] for e in events) for i in items]
    assert merged["training_events"].tolist() == training
    assert merged["category"].tolist() == [category_of(events, i) for i in items]
    assert merged["categories"].tolist() == [
        len({e[1] for e in events if e[0] == i}) for i in items
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2**60), min_size=1, max_size=50), st.integers(1, 7))
def test_ranges_cover_every_key_once(keys, ranges):
    edges = range_boundaries(np.array(keys, np.int64), ranges).tolist()
    bounds = [-1, *edges, 2**61]
    inside = [sum(low <= key < high for key in keys) for low, high in itertools.pairwise(bounds)]
    assert (len(edges), sum(inside)) == (ranges - 1, len(keys))


@pytest.mark.parametrize("spread", [1, 10**12])
def test_look_ups_find_known_keys_and_no_others(spread):
    keys = np.arange(2, 60, 2, dtype=np.int64) * spread
    raw = np.array([2, 58, 59, 0, 3, -7, 10**15]) * spread
    assert Lookup.build(keys).rows(raw).tolist() == [0, 28, -1, -1, -1, -1, -1]


def test_looking_up_among_no_keys_finds_nothing():
    assert Lookup.build(np.zeros(0, np.int64)).rows(np.array([5, 0])).tolist() == [-1, -1]


def test_ids_begin_at_two_with_the_most_frequent_and_ties_rise_by_raw_value():
    order = frequency_order(np.array([3, 5, 3, 0]), np.array([70, 20, 30, 10]))
    assert order.tolist() == [1, 2, 0, 3]
    assert dense_ids(order[:3], 4).tolist() == [4, 2, 3, 1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(-3, 2**62)), unique_by=lambda r: r[1]))
def test_the_frequency_order_is_that_of_sorted_tuples(rows):
    counts, names = np.array(rows, np.int64).reshape(-1, 2).T
    expected = sorted(range(len(rows)), key=lambda n: (-rows[n][0], rows[n][1]))
    assert frequency_order(counts, names).tolist() == expected
