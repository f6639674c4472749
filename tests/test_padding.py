"""Arrays of several lengths side by side."""

import numpy as np

from dgin_tf.padding import stack_padded


def test_arrays_are_padded_at_the_end_of_every_axis():
    rows = [np.array([[1, 2]], np.int32), np.array([[3], [4]], np.int32)]
    found = stack_padded(rows)
    assert found.dtype == np.int32
    assert found.tolist() == [[[1, 2], [0, 0]], [[3, 0], [4, 0]]]


def test_arrays_of_one_length_are_stacked_as_they_are():
    rows = [np.array([1.5, 2.5]), np.array([3.5, 4.5])]
    np.testing.assert_array_equal(stack_padded(rows), np.stack(rows))
