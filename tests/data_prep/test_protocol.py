"""Settings that make no sense are refused where they are made."""

import pytest

from data_prep.protocol import (
    EVERY_EVENT,
    LAST_TIME,
    MULTI_BEHAVIOR,
    PAPER,
    STRICT,
    TIME,
    Limits,
    Protocol,
    make_protocol,
)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"name": "every"}, "expected name to be one of last_event, .* impressions; got 'every'"),
        ({"form": "loose"}, "expected form to be one of strict, paper"),
        ({"split_by": "day"}, "expected split_by to be one of user, time"),
        ({"negative_distribution": "zipf"}, "expected negative_distribution to be one of"),
        ({"negatives": 0}, "negatives must be at least 1; got 0"),
        ({"min_history": -1}, "min_history must be at least 0; got -1"),
        ({"fractions": (0.0, 0.5, 0.5)}, "expected three fractions"),
        ({"fractions": (0.5, 0.5)}, "expected three fractions"),
        ({"time_cuts": (7, 5)}, "expected two rising time cuts"),
        ({"positive_types": ("pv",)}, "positive_types with multi_behavior or every_event only"),
        ({"name": MULTI_BEHAVIOR}, "positive_types for multi_behavior"),
        ({"name": EVERY_EVENT, "targets_per_user": 2}, "no targets_per_user with every_event"),
        ({"name": EVERY_EVENT, "positive_types": ("like",)}, "no sampled negatives"),
        ({"own_negatives": 0.5}, "own_negatives with multi_behavior only"),
        (
            {"name": MULTI_BEHAVIOR, "positive_types": ("pv",), "own_negatives": 1.5},
            "own_negatives between 0 and 1",
        ),
    ],
)
def test_a_protocol_refuses_nonsense(choices, words):
    with pytest.raises(ValueError, match=words):
        Protocol(**choices)


@pytest.mark.parametrize(
    "choices", [{"buckets": -1}, {"memory_mb": 0}, {"max_bad_fraction": 1.5}, {"buckets": 10**6}]
)
def test_limits_refuse_nonsense(choices):
    with pytest.raises(ValueError, match="expected"):
        Limits(**choices)


def test_more_input_or_less_memory_means_more_buckets():
    large, small = [(False, 10**10)], [(False, 10**8)]
    assert Limits().bucket_count(large) > Limits().bucket_count(small) >= 1
    assert Limits(memory_mb=64).bucket_count(large) > Limits().bucket_count(large)
    assert Limits(buckets=7).bucket_count(large) == 7
    assert Limits().bucket_count([(True, 10**9)]) > Limits().bucket_count([(False, 10**9)])
    assert Limits().bucket_count([(False, 0)]) == 1


def test_every_candidate_that_an_event_brings_takes_memory():
    large = [(False, 10**10)]
    assert Limits().bucket_count(large, candidates=2) > Limits().bucket_count(large)


def test_every_event_is_split_by_time_and_has_no_negatives_where_behavior_types_are_labels():
    sampled = make_protocol(EVERY_EVENT, STRICT, negatives=None)
    assert (sampled.split_by, sampled.fractions, sampled.negatives) == (TIME, (0.72, 0.08, 0.2), 1)
    by_type = make_protocol(EVERY_EVENT, PAPER, positive_types=("like",))
    assert (by_type.fractions, by_type.negatives) == ((0.8, 0.0, 0.2), 0)
    assert (by_type.min_history, by_type.row_width) == (0, 1)


def test_the_paper_form_of_multi_behavior_has_ninety_nine_negatives_and_splits_by_last_click():
    paper = make_protocol(MULTI_BEHAVIOR, PAPER, positive_types=("pv",))
    assert (paper.negatives, paper.split_by, paper.max_history) == (99, LAST_TIME, 500)
    fewer = make_protocol(MULTI_BEHAVIOR, PAPER, positive_types=("pv",), negatives=3)
    assert fewer.negatives == 3
    with pytest.raises(ValueError, match="the paper form has own_negatives=0.0; got 0.5"):
        make_protocol(MULTI_BEHAVIOR, PAPER, positive_types=("pv",), own_negatives=0.5)
