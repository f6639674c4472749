"""Targets and cuts against a direct reading of the definition, user by user."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.events import BEHAVIOR, CATEGORY, ITEM, TIME, USER
from data_prep.stages.histories import build_histories
from data_prep.stages.splits import split_of_times
from data_prep.stages.targets import last_events, targets_of_lines

EVENTS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 12)), min_size=1, max_size=50)


def histories_of(events):
    user, time = np.array(events, np.int64).T
    item = np.arange(len(events))  # all different, so that nothing is a duplicate
    kinds = np.zeros(len(events), np.uint8)
    columns = {USER: user, ITEM: item, CATEGORY: item, BEHAVIOR: kinds, TIME: time}
    return build_histories(columns)[0]


def expected_targets(events, cuts, targets_per_user, strict):
    for row, user in enumerate(sorted({user for user, _ in events})):
        times = sorted(time for u, time in events if u == user)
        for split in range(3):
            own = [n for n, t in enumerate(times) if (t >= cuts[0]) + (t >= cuts[1]) == split]
            for event in own[-targets_per_user:]:
                before = sum(t < times[event] for t in times) if strict else event
                yield row, event, before, split


@settings(max_examples=80, deadline=None)
@given(EVENTS, st.tuples(st.integers(0, 13), st.integers(0, 13)), st.integers(1, 4), st.booleans())
def test_the_last_events_of_each_split_are_targets_with_their_own_cuts(events, cuts, count, strict):
    cuts = sorted(cuts)
    histories = histories_of(events)
    split = split_of_times(histories.events[TIME], cuts)
    targets = last_events(histories, split, count, strict=strict)
    found = zip(targets.user, targets.event, targets.cut, targets.split, strict=True)
    assert [tuple(map(int, row)) for row in found] == list(
        expected_targets(events, cuts, count, strict)
    )


def lines_of(histories, **changes):
    """Lines that name every second event of every user."""
    index = np.arange(len(histories.owner)) - histories.offsets[histories.owner]
    lines = {
        "user": histories.users[histories.owner],
        "split": histories.owner % 3,
        "position": index,
        "time": histories.events[TIME],
        "positive": histories.events[ITEM],
    }
    lines = {name: column[::-2].copy() for name, column in lines.items()}
    for name, change in changes.items():
        lines[name][3] += change
    return lines


@settings(max_examples=40, deadline=None)
@given(EVENTS)
def test_lines_that_name_an_event_become_targets_at_their_position(events):
    histories = histories_of(events)
    lines = lines_of(histories)
    targets, order, wrong = targets_of_lines(histories, lines)
    assert not len(wrong)
    assert histories.users[targets.user].tolist() == lines["user"][order].tolist()
    assert targets.cut.tolist() == targets.event.tolist() == lines["position"][order].tolist()


@pytest.mark.parametrize("name", ["user", "position", "time", "positive"])
def test_a_line_that_names_no_event_is_found(name):
    histories = histories_of([(user, time) for user in (1, 2) for time in range(7)])
    wrong = targets_of_lines(histories, lines_of(histories, **{name: 100}))[2]
    assert wrong.tolist() == [3]
