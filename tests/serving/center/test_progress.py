"""A number is new, came before, or was passed over."""

import pytest

from dgin_tf.serving.center.progress import FORGOTTEN, LATE, MAX_GAPS, NEW, REPEATED, Progress


def test_numbers_that_follow_each_other_leave_no_gap():
    progress = Progress().after(1, 10).after(2, 12)
    assert progress == Progress(sequence=2, newest=12)
    assert [progress.order_of(number) for number in (1, 2, 3)] == [REPEATED, REPEATED, NEW]


def test_what_was_passed_over_is_late_once_and_then_repeated():
    progress = Progress(sequence=4).after(9, 20)
    assert progress.gaps == ((5, 8),)
    assert progress.order_of(6) == LATE
    after = progress.after(6)
    assert after.gaps == ((5, 5), (7, 8))
    assert after.sequence == 9
    assert after.newest == 20
    assert after.order_of(6) == REPEATED


@pytest.mark.parametrize(("number", "gaps"), [(5, ((6, 8),)), (8, ((5, 7),))])
def test_a_gap_shrinks_from_its_ends(number, gaps):
    assert Progress(9, gaps=((5, 8),)).after(number).gaps == gaps


def test_a_gap_of_one_number_closes():
    assert Progress(6, gaps=((5, 5),)).after(5).gaps == ()


def test_only_the_newest_gaps_are_kept():
    progress = Progress()
    for number in range(2, 2 * (MAX_GAPS + 3), 2):
        progress = progress.after(number)
    assert len(progress.gaps) == MAX_GAPS
    assert progress.gaps[-1][1] == progress.sequence - 1
    oldest = progress.gaps[0][0]
    assert progress.order_of(oldest) == LATE
    assert progress.order_of(oldest + 1) == REPEATED
    assert progress.order_of(oldest - 2) == progress.order_of(1) == FORGOTTEN


@pytest.mark.parametrize("progress", [Progress(), Progress(9, 70, 50, ((4, 4), (6, 8)), 2)])
def test_what_is_stored_is_read_back(progress):
    assert Progress.from_arrays(progress.sequence, progress.to_arrays()) == progress
