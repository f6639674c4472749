"""Flat names of nested states: inverse, and never the same for two tensors."""

import pytest

from dgin_tf.serving.export.state_names import flatten_state, unflatten_state

STATES = [
    {"user": 1},
    {"interest": {"events": {"item_id": 2, "category_id": 3}, "mask": 5}, "user": 7},
    {"long": {"term_sum": 2, "sum": 3}, "long_term": {"sum": 5}},
]


@pytest.mark.parametrize("state", STATES)
def test_flattened_and_unflattened_a_state_is_the_same(state):
    assert unflatten_state(flatten_state(state)) == state


def test_encoders_whose_names_begin_alike_do_not_collide():
    names = flatten_state(STATES[2])
    assert names == {"long__term_sum": 2, "long__sum": 3, "long_term__sum": 5}


@pytest.mark.parametrize("name", ["", "a__b", "_a", "a_", "a.b"])
def test_a_name_that_two_paths_could_share_is_refused(name):
    with pytest.raises(ValueError, match="single underscores"):
        flatten_state({"interest": {name: 2}})
