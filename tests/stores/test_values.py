"""A stored value comes back as it was, or not at all."""

import struct

import google_crc32c
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dgin_tf.stores.values import (
    DamagedValueError,
    StaleValueError,
    decode_value,
    encode_value,
)

OWNER = {"model_version": "sim_soft-7", "schema": "0123456789abcdef"}
STATE = {"memory": np.arange(15, dtype=np.float32).reshape(3, 5), "count": np.array(7)}

dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="<"),
    hnp.unsigned_integer_dtypes(endianness="<"),
    hnp.floating_dtypes(endianness="<", sizes=(16, 32, 64)),
)
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
arrays = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shapes))


@hypothesis.given(
    state=st.dictionaries(st.text(max_size=9), arrays, max_size=4),
    sequence=st.integers(-(2**63), 2**63 - 1),
    model_version=st.text(max_size=9),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_any_named_arrays_come_back_as_they_were(state, sequence, model_version):
    owner = {**OWNER, "model_version": model_version}
    value = decode_value(encode_value(state, sequence=sequence, **owner), **owner)
    assert value.sequence == sequence
    assert set(value.arrays) == set(state)
    for name, array in state.items():
        assert value.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(value.arrays[name], array)


def test_the_same_state_gives_the_same_bytes():
    backwards = dict(reversed(STATE.items()))
    assert encode_value(STATE, sequence=3, **OWNER) == encode_value(backwards, sequence=3, **OWNER)


def test_a_value_cut_off_at_any_byte_is_refused():
    data = encode_value(STATE, sequence=3, **OWNER)
    for size in range(len(data)):
        with pytest.raises(DamagedValueError):
            decode_value(data[:size], **OWNER)


def test_a_flip_of_any_bit_is_refused():
    data = encode_value(STATE, sequence=3, **OWNER)
    for position in range(len(data)):
        broken_value = bytearray(data)
        broken_value[position] ^= 1 << position % 8
        with pytest.raises(DamagedValueError):
            decode_value(bytes(broken_value), **OWNER)


def test_a_value_of_another_model_version_is_refused():
    data = encode_value(STATE, sequence=3, **OWNER)
    with pytest.raises(StaleValueError, match="model version 'sim_soft-7', but .* 'sim_soft-8'"):
        decode_value(data, **{**OWNER, "model_version": "sim_soft-8"})


def test_a_value_of_another_schema_is_refused():
    data = encode_value(STATE, sequence=3, **OWNER)
    with pytest.raises(StaleValueError, match="schema '0123456789abcdef', but .* 'fedc'"):
        decode_value(data, **{**OWNER, "schema": "fedc"})


def test_a_value_of_another_format_is_refused():
    data = bytearray(encode_value(STATE, sequence=3, **OWNER)[:-4])
    data[4:6] = struct.pack("<H", 2)
    data += struct.pack("<I", google_crc32c.value(bytes(data)))
    with pytest.raises(StaleValueError, match="format version 2"):
        decode_value(bytes(data), **OWNER)


def test_an_array_of_objects_is_refused():
    with pytest.raises(ValueError, match="array 'names' must hold booleans"):
        encode_value({"names": np.array(["a", "b"])}, sequence=3, **OWNER)


def test_big_endian_arrays_are_stored_as_the_same_numbers():
    data = encode_value({"a": np.arange(7, dtype=">i4")}, sequence=3, **OWNER)
    np.testing.assert_array_equal(decode_value(data, **OWNER).arrays["a"], np.arange(7))
