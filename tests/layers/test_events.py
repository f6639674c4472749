"""Raw events in a state: what is kept, found again, gathered and joined."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import (
    History,
    append_in_time,
    embed_events_at,
    embed_history,
    gather_features,
    store_events,
    stored_history,
)
from tests.layers.search import embedded

HISTORY = embedded.history((7, 3, 0), 7)


def test_the_ids_that_are_embedded_are_kept_and_times_where_asked_for():
    ids = {"item_id", "category_id"}
    state = store_events(HISTORY)
    assert set(state) == {"events", "mask"}
    assert set(state["events"]) == ids
    assert set(store_events(HISTORY, ("timestamp",))["events"]) == {*ids, "timestamp"}


@pytest.mark.parametrize("names", [(), ("timestamp",)])
def test_a_stored_history_is_embedded_as_the_history_was(names):
    stored = stored_history(store_events(HISTORY, names), embedded.TABLES)
    np.testing.assert_array_equal(embedded.events_of(stored), embedded.events_of(HISTORY))
    assert stored.tables == HISTORY.tables


def test_events_that_came_embedded_are_stored_as_they_are_and_read_again():
    events = embedded.events_of(HISTORY)
    state = store_events(History(events, HISTORY.mask))
    assert set(state["events"]) == {"embedding"}
    np.testing.assert_array_equal(embedded.events_of(stored_history(state, {})), events)


def test_gathered_events_are_those_at_the_places_of_each_user():
    places = tf.constant([[[6, 0]], [[2, 2]], [[1, 0]]])
    found = gather_features(store_events(HISTORY, ("timestamp",))["events"], places)
    assert set(found) == set(HISTORY.features)
    for name, values in found.items():
        for user in range(3):
            expected = HISTORY.features[name].numpy()[user, places[user]]
            np.testing.assert_array_equal(values[user], expected)


def test_states_of_two_stretches_join_into_that_of_both():
    parts = [store_events(embedded.part_of(HISTORY, *stretch)) for stretch in ((0, 3), (3, 7))]
    state, whole = append_in_time(*parts), store_events(HISTORY)
    np.testing.assert_array_equal(state["mask"], whole["mask"])
    assert set(state["events"]) == set(whole["events"])
    for name, values in state["events"].items():
        np.testing.assert_array_equal(values, whole["events"][name])


def test_events_are_embedded_once_and_never_by_being_looked_at():
    stored = stored_history(store_events(HISTORY), embedded.TABLES)
    assert stored.events is None
    with_events = embed_history(stored, tf.float32)
    assert stored.events is None
    assert embed_history(with_events, tf.float32) is with_events


def test_events_at_places_are_the_same_of_ids_and_of_embeddings():
    places, mask = tf.constant([[6, 0], [2, 2], [7, 0]]), tf.constant([[True, True]] * 3)
    alone = History(embedded.events_of(HISTORY), HISTORY.mask)
    for history in (HISTORY, alone):
        events = embed_events_at(history, places, mask, tf.float32)
        for user in range(2):
            expected = embedded.events_of(HISTORY).numpy()[user, places[user]]
            np.testing.assert_array_equal(events[user], expected)


@pytest.mark.parametrize("shift", [-10_000, 10_000])
def test_ids_beyond_a_vocabulary_are_refused_by_their_field(shift):
    features = {**HISTORY.features, "category_id": HISTORY.features["category_id"] + shift}
    size = embedded.TABLES["category_id"].shape[0]
    with pytest.raises(ValueError, match=f"'category_id' below .* {size}; got -?[0-9]+"):
        embed_history(HISTORY._replace(features=features), tf.float32)


def test_events_that_nobody_can_embed_are_refused_when_read():
    stored = stored_history(store_events(HISTORY), {})
    with pytest.raises(ValueError, match="need tables to be embedded"):
        embed_history(stored, tf.float32)
