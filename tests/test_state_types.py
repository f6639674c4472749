"""Tests of the number types that states are stored in."""

import numpy as np
import pytest

from dgin_tf.state_types import STATE_TYPES, narrow, stored_bytes, widen
from dgin_tf.stores.values import decode_value, encode_value

HEADER = {"model_version": "m.1", "schema": "s"}


def a_state():
    rng = np.random.default_rng(4)
    memory = rng.normal(size=(3, 4, 16)).astype(np.float32)
    memory[0, 1] = 0  # a slot that nothing was written to
    return {
        "memory": memory,
        "usage": np.array([[0.5, 1e-9, 3]], np.float32),  # shorter than a scale is worth
        "items": np.arange(20, dtype=np.int32),
        "mask": np.array([True, False]),
    }


@pytest.mark.parametrize(("state_type", "tolerance"), [("float32", 0), ("bfloat16", 2**-8)])
def test_numbers_come_back_to_the_last_bit_that_was_stored(state_type, tolerance):
    state = a_state()
    for name, array in widen(narrow(state, state_type)).items():
        assert array.dtype == state[name].dtype
        np.testing.assert_allclose(array, state[name], rtol=tolerance)


def test_eight_bits_are_off_by_half_a_step_of_their_vector():
    state = a_state()
    array = widen(narrow(state, "int8"))["memory"]
    step = np.abs(state["memory"]).max(axis=-1, keepdims=True) / 127
    assert (np.abs(array - state["memory"]) <= step / 2 + 1e-7).all()
    assert (array[0, 1] == 0).all()


@pytest.mark.parametrize("state_type", STATE_TYPES)
def test_what_a_state_takes_is_what_is_said(state_type):
    stored = narrow(a_state(), state_type)
    said = sum(stored_bytes(a.dtype, a.shape, state_type) for a in a_state().values())
    assert sum(array.nbytes for array in stored.values()) == said


@pytest.mark.parametrize("state_type", STATE_TYPES)
def test_a_stored_value_says_how_it_was_stored(state_type):
    data = encode_value(narrow(a_state(), state_type), sequence=7, **HEADER)
    arrays = widen(decode_value(data, **HEADER).arrays)
    assert {name: array.shape for name, array in arrays.items()} == {
        name: array.shape for name, array in a_state().items()
    }


def test_infinite_numbers_are_not_rounded_to_eight_bits():
    state = {"logits": np.full([2, 16], -np.inf, np.float32)}
    np.testing.assert_array_equal(widen(narrow(state, "int8"))["logits"], state["logits"])


def test_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match="float32, bfloat16, int8; got 'int4'"):
        narrow({}, "int4")
