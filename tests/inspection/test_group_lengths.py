"""Lengths of histories before and after grouping."""

import numpy as np
import pytest

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.inspection import group_lengths, plots
from dgin_tf.inspection.group_lengths import GroupLengths
from experiments import inspect_groups
from tests.prepared import write_prepared

RECORD = {
    "hist_item_id": np.array([5, 7, 5, 9, 7, 5]),
    "hist_timestamp": np.array([0, 10, 1_900, 3_701, 3_702, 9_000]),
    "cand_position": np.array([0, 3, 3, 6]),
}


def test_every_cut_is_a_sample_that_counts_what_it_sees():
    lengths = group_lengths.measure([RECORD], "item_id")
    assert lengths.events.tolist() == [0, 3, 6]
    assert lengths.groups.tolist() == [0, 2, 3]
    assert sorted(lengths.sizes.tolist()) == [1, 2, 3]


def test_a_break_of_more_than_half_an_hour_begins_a_session():
    keys = group_lengths.interest_keys(RECORD, "session")
    assert keys.tolist() == [0, 0, 1, 2, 2, 3]


def test_a_key_that_events_do_not_have_is_refused():
    with pytest.raises(ValueError, match="expected a key among .*item_id.* got 'price'"):
        group_lengths.interest_keys(RECORD, "price")


def test_no_records_are_refused():
    with pytest.raises(ValueError, match="at least one record"):
        group_lengths.measure([], "item_id")


def test_quantiles_rank_samples_by_events_and_average_equals():
    lengths = GroupLengths(np.array([8, 2, 4, 4, 16]), np.array([5, 1, 2, 4, 7]), np.array([1]))
    found = group_lengths.at_quantiles(lengths, (0.0, 0.5, 0.75, 1.0))
    assert found == [(0.0, 2, 1), (0.5, 4, 3), (0.75, 8, 5), (1.0, 16, 7)]


def test_shares_of_groups_by_size_add_up_to_one():
    lengths = GroupLengths(np.zeros(1), np.zeros(1), np.array([1, 1, 2, 3, 5, 5, 70, 1]))
    found = group_lengths.size_shares(lengths, (1, 2, 3, 6))
    assert found == [("1", 3 / 8), ("2", 1 / 8), ("3-5", 3 / 8), ("6 and more", 1 / 8)]


def test_the_figure_is_drawn_from_a_prepared_data_set(tmp_path):
    write_prepared(tmp_path, users=13)
    lengths = inspect_groups.measure(PreparedData(tmp_path), "test", "item_id")
    assert np.all(lengths.groups <= lengths.events)
    text = inspect_groups.table(lengths, "item_id")
    assert f"{len(lengths.events):,} samples" in text
    assert f"{lengths.events.max():,}" in text.splitlines()[-2]
    figure = plots.grouping_lengths(
        group_lengths.at_quantiles(lengths), group_lengths.size_shares(lengths)
    )
    assert plots.to_png(figure).startswith(b"\x89PNG")
