"""Amounts as they are stored: what is unknown is neither zero nor in a mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgin_tf.numeric_features import LARGEST, PARTS, encode_numbers, mean_codes


def test_unknown_and_zero_are_different_and_both_are_kept():
    found = encode_numbers(np.array([np.nan, 0.0, 0.001, 12.5, LARGEST]))
    assert found.tolist() == [0, 1, 2, 12_501, 1 + LARGEST * PARTS]
    assert found.dtype == np.int64
    assert encode_numbers(2) == 1 + 2 * PARTS


@pytest.mark.parametrize("amount", [-0.001, 2 * LARGEST, np.inf])
def test_what_is_no_amount_is_refused(amount):
    with pytest.raises(ValueError, match=r"from 0 to 10,000,000,000; got 1\.0 to|got -0\.001 to"):
        encode_numbers(np.array([1.0, amount, np.nan]))


@given(st.lists(st.one_of(st.none(), st.integers(0, 10**6)), max_size=20))
def test_a_mean_is_that_of_what_is_known(thousandths):
    stored = np.array([0 if part is None else 1 + part for part in thousandths], np.int64)
    known = [part for part in thousandths if part is not None]
    mean = mean_codes(stored.sum(), np.count_nonzero(stored))
    assert mean == (1 + sum(known) // len(known) if known else 0)
    assert mean.dtype == np.int32


def test_means_beyond_their_type_are_the_largest():
    assert mean_codes(np.array(1 + LARGEST * PARTS), np.array(1)) == 2**31 - 1
