"""Sorting is compared with Python's own on tuples; grouping with a dictionary."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.events import BEHAVIOR, CATEGORY, ITEM, TIME, USER
from data_prep.stages.histories import Histories, build_histories, event_order

ROW = st.tuples(
    st.integers(1, 5), st.integers(0, 3), st.integers(-1, 2), st.integers(0, 3), st.integers(0, 4)
)
HUGE = st.tuples(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**62),
    st.integers(0, 2**62),
    st.integers(0, 3),
    st.integers(-(2**62), 2**62 - 1),
)


def columns_of(rows):
    user, item, category, behavior, time = np.array(rows, np.int64).reshape(-1, 5).T
    kinds = behavior.astype(np.uint8)
    return {USER: user, ITEM: item, CATEGORY: category, BEHAVIOR: kinds, TIME: time}


def in_order(row):
    user, item, category, behavior, time = row
    return user, time, item, category, behavior


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(ROW, HUGE), max_size=40))
def test_events_are_sorted_by_user_time_item_category_and_behaviour(rows):
    order = event_order(columns_of(rows))
    assert [rows[i] for i in order] == sorted(rows, key=in_order)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=60))
def test_histories_hold_each_distinct_row_once_under_its_user(rows):
    histories, dropped = build_histories(columns_of(rows))
    expected = sorted(set(rows), key=in_order)
    assert dropped == len(rows) - len(expected)
    assert histories.users.tolist() == sorted({row[0] for row in rows})
    assert histories.users[histories.owner].tolist() == [row[0] for row in expected]
    assert histories.events[ITEM].tolist() == [row[1] for row in expected]
    assert histories.events[TIME].tolist() == [row[4] for row in expected]


@settings(max_examples=30, deadline=None)
@given(st.lists(ROW, max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    first, second = build_histories(columns_of(rows))[0], build_histories(columns_of(shuffled))[0]
    for name, column in first.to_columns().items():
        np.testing.assert_array_equal(column, second.to_columns()[name])


@pytest.mark.parametrize("copies", [2, 3, 7])
def test_exact_duplicates_count_once(copies):
    histories, dropped = build_histories(columns_of([(1, 2, 3, 0, 5)] * copies))
    assert (dropped, histories.lengths.tolist()) == (copies - 1, [1])


def test_two_categories_of_one_item_in_one_second_are_two_events():
    histories, dropped = build_histories(columns_of([(1, 2, 3, 0, 5), (1, 2, 4, 0, 5)]))
    assert (dropped, histories.lengths.tolist()) == (0, [2])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(ROW, st.integers(0, 2)), max_size=40))
def test_events_that_differ_in_an_amount_alone_are_two(rows):
    columns = {**columns_of([row for row, _ in rows]), "dwell": np.array([d for _, d in rows])}
    histories, dropped = build_histories(columns)
    expected = sorted(set(rows), key=lambda found: (in_order(found[0]), found[1]))
    assert dropped == len(rows) - len(expected)
    assert histories.events["dwell"].tolist() == [amount for _, amount in expected]
    again = Histories.from_columns(histories.to_columns(), ["dwell"])
    assert again.events.keys() == histories.events.keys()
