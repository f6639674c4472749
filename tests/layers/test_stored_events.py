"""Raw events in a state: what is kept, found again, gathered and joined."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.stored_events import (
    append_events,
    gather_events,
    history_of,
    store_events,
    stored_history,
)
from tests.layers.search import embedded

HISTORY = embedded.history((7, 3, 0), 7)


def test_the_ids_that_are_embedded_are_kept_and_times_where_asked_for():
    ids = {"past_item_id", "past_category_id", "past_mask"}
    assert set(store_events(HISTORY)) == ids
    assert set(store_events(HISTORY, times=True)) == {*ids, "past_timestamp"}


@pytest.mark.parametrize("times", [False, True])
def test_a_stored_history_is_embedded_as_the_history_was(times):
    stored = stored_history(store_events(HISTORY, times), embedded.embed)
    np.testing.assert_array_equal(stored.events, HISTORY.events)
    assert stored.embedded_features == embedded.NAMES


def test_gathered_events_are_those_at_the_places_of_each_user():
    places = tf.constant([[[6, 0]], [[2, 2]], [[1, 0]]])
    found = gather_events(store_events(HISTORY, times=True), places)
    assert set(found) == set(HISTORY.features)
    for name, values in found.items():
        for user in range(3):
            expected = HISTORY.features[name].numpy()[user, places[user]]
            np.testing.assert_array_equal(values[user], expected)


def test_states_of_two_stretches_join_into_that_of_both():
    parts = [store_events(embedded.part_of(HISTORY, *stretch)) for stretch in ((0, 3), (3, 7))]
    for name, values in append_events(*parts).items():
        np.testing.assert_array_equal(values, store_events(HISTORY)[name])


def test_events_are_not_embedded_before_somebody_reads_them():
    calls = []

    def embed(features):
        calls.append(features)
        return embedded.embed(features)

    stored = stored_history(store_events(HISTORY), embed)
    assert not calls
    assert stored.events is stored.events
    assert len(calls) == 1


def test_events_that_nobody_can_embed_are_refused_when_read():
    stored = history_of(HISTORY.features, HISTORY.mask, None, embedded.NAMES)
    with pytest.raises(ValueError, match="need History.embed"):
        _ = stored.events
