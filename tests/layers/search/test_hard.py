"""Hard search: Eq. (1) by a scan, and what it does where there is little or nothing to find."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import MASK, History, Target, store_events
from dgin_tf.layers.search.hard import HardSearch
from tests.layers.search import embedded
from tests.oracles import sim

LENGTHS, TIME, CANDIDATES = (23, 11, 2, 0), 23, 5
HISTORY = embedded.history(LENGTHS, TIME)
TARGET = embedded.target(len(LENGTHS), CANDIDATES)
CATEGORY = HISTORY.features["category_id"].numpy()
WANTED = TARGET.features["category_id"].numpy()
both_ways = pytest.mark.parametrize("training", [False, True], ids=["ordered", "compared"])


def find(unit, history=HISTORY, target=TARGET, training=False):
    """Places that were found, user -> candidate -> list."""
    state = {**store_events(history), **unit.prepare(history, training=training)}
    found = unit.search(state, target, training=training)
    return [
        [list(row[real]) for row, real in zip(rows, reals, strict=True)]
        for rows, reals in zip(found.topk_indices.numpy(), found.mask.numpy(), strict=True)
    ]


def with_categories(target, category):
    ids = tf.constant(category, tf.int32)
    return target._replace(features={**target.features, "category_id": ids})


@both_ways
@pytest.mark.parametrize("k", [1, 3, TIME, 5 * TIME])
def test_the_newest_events_of_the_category_are_found_newest_first(k, training):
    found = find(HardSearch(k), training=training)
    for user, length in enumerate(LENGTHS):
        for candidate, wanted in enumerate(WANTED[user]):
            expected = sim.hard_search(CATEGORY[user, :length], wanted, k)
            assert found[user][candidate] == expected


@both_ways
def test_a_category_that_the_user_never_met_finds_nothing(training):
    target = with_categories(TARGET, np.full_like(WANTED, embedded.CATEGORIES + 5))
    assert not np.any([len(row) for rows in find(HardSearch(), target=target) for row in rows])


@both_ways
@pytest.mark.parametrize("backfill", [False, True])
def test_an_unknown_category_is_nobodys_not_even_an_unknown_one(training, backfill):
    unknown = embedded.history_of(
        HISTORY.mask.numpy(),
        HISTORY.features["item_id"].numpy(),
        np.ones_like(CATEGORY),
        HISTORY.features["timestamp"].numpy(),
    )
    target = with_categories(TARGET, np.ones_like(WANTED))
    found = find(HardSearch(2, backfill=backfill), unknown, target, training)
    assert found[0][0] == ([LENGTHS[0] - 1, LENGTHS[0] - 2] if backfill else [])


@both_ways
@pytest.mark.parametrize("k", [1, 6, 2 * TIME])
def test_backfill_gives_what_is_left_over_to_the_newest_others(k, training):
    found = find(HardSearch(k, backfill=True), training=training)
    for user, length in enumerate(LENGTHS):
        for candidate, wanted in enumerate(WANTED[user]):
            own = sim.hard_search(CATEGORY[user, :length], wanted, k)
            others = [place for place in range(length)[::-1] if CATEGORY[user, place] != wanted]
            assert found[user][candidate] == (own + others)[:k]


def test_padding_is_never_found_and_padding_candidates_find_nothing():
    target = with_categories(TARGET, np.zeros_like(WANTED))
    assert not np.any([len(row) for rows in find(HardSearch(), target=target) for row in rows])


def test_another_field_can_be_searched_by():
    unit = HardSearch(3, field="item_id")
    item = HISTORY.features["item_id"].numpy()
    target = TARGET._replace(features={**TARGET.features, "item_id": item[:, :1]})
    assert find(unit, target=target)[0][0] == sim.hard_search(item[0], item[0, 0], 3)


def test_a_field_that_histories_do_not_have_is_refused():
    with pytest.raises(ValueError, match="by 'shop_id' needs this feature; .*Name another field"):
        HardSearch(field="shop_id").prepare(HISTORY)


def test_appended_events_are_found_in_the_order_of_time():
    unit, whole = HardSearch(4), embedded.history((13, 13), 13)
    target = embedded.target(2, CANDIDATES)
    state, newer = (
        {**store_events(part), **unit.prepare(part)}
        for part in (embedded.part_of(whole, 0, 9), embedded.part_of(whole, 9, 13))
    )
    found = unit.search(unit.append(state, newer, whole.tables), target)
    expected = unit.search({**store_events(whole), **unit.prepare(whole)}, target)
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_array_equal(
        np.where(found.mask, found.topk_indices, -1),
        np.where(expected.mask, expected.topk_indices, -1),
    )


@both_ways
def test_a_time_axis_of_no_length_finds_nothing(training):
    nobody = embedded.part_of(HISTORY, 0, 0)
    for backfill in (False, True):
        unit = HardSearch(3, backfill=backfill)
        state = {**store_events(nobody), **unit.prepare(nobody, training=training)}
        assert state[MASK].shape[1] == 0
        assert unit.search(state, TARGET).topk_indices.shape == (len(LENGTHS), CANDIDATES, 0)


@both_ways
def test_called_alone_it_needs_no_more_than_keys(training):
    keys = tf.constant([[7, 4, 7, 7, 5]])
    history = History(None, tf.constant([[True, True, True, True, True]]), {"shop_id": keys})
    shop = {"shop_id": tf.constant([[7, 3]])}
    target = Target(tf.zeros([1, 2, 3]), tf.ones([1, 2], tf.bool), shop)
    result = HardSearch(2, "shop_id")(target, history, training=training)
    assert result.topk_indices[0, 0].numpy().tolist() == [3, 2]
    np.testing.assert_array_equal(result.mask, [[[True, True], [False, False]]])
