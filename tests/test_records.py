"""Records: TensorFlow must read what the hand-written packer writes, and damage must be noticed."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.records import (
    Manifest,
    Shard,
    decode_record,
    encode_record,
    load_catalogue,
    read_records,
    record_features,
    save_catalogue,
    stack_padded,
    write_records,
)
from tests.prepared import make_record, make_schema


@pytest.fixture
def record():
    return make_record(make_schema(), user=5, rng=np.random.default_rng(3), cuts=3, negatives=2)


def test_a_record_decodes_to_the_arrays_it_was_made_of(record):
    decoded = decode_record(make_schema(), encode_record(make_schema(), record))
    for name, values in record.items():
        np.testing.assert_array_equal(decoded[name], values)


def test_tensorflow_parses_the_packed_bytes_as_an_example(record):
    example = tf.train.Example.FromString(encode_record(make_schema(), record))
    assert set(example.features.feature) == set(record_features(make_schema()))
    stored = example.features.feature["hist_item_id"].bytes_list.value[0]
    np.testing.assert_array_equal(np.frombuffer(stored, "<i4"), record["hist_item_id"])


def test_values_longer_than_one_varint_byte_survive():
    schema = make_schema(max_history=5003)
    record = make_record(schema, 5, np.random.default_rng(1), cuts=1)
    record = {
        k: np.sort(np.resize(v, 5003)) if k.startswith("hist_") else v for k, v in record.items()
    }
    decoded = decode_record(schema, encode_record(schema, record))
    np.testing.assert_array_equal(decoded["hist_timestamp"], record["hist_timestamp"])


def test_tensorflow_reads_the_file_and_its_checksums(tmp_path, record):
    payload = encode_record(make_schema(), record)
    assert write_records(tmp_path / "a.tfrecord", [payload, b"", payload]) == 3
    read = list(tf.data.TFRecordDataset(str(tmp_path / "a.tfrecord")).as_numpy_iterator())
    assert read == [payload, b"", payload] == list(read_records(tmp_path / "a.tfrecord"))


@pytest.mark.parametrize("cut", [1, 5, 13, 40])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path, record, cut):
    path = tmp_path / "a.tfrecord"
    write_records(path, [encode_record(make_schema(), record)])
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ValueError, match=r"a\.tfrecord is damaged at record 0"):
        list(read_records(path))


def test_a_flipped_bit_is_noticed(tmp_path, record):
    path = tmp_path / "a.tfrecord"
    write_records(path, [encode_record(make_schema(), record)])
    damaged = bytearray(path.read_bytes())
    damaged[57] ^= 4
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="damaged"):
        list(read_records(path))


def test_an_interrupted_write_leaves_nothing_behind(tmp_path):
    def payloads():
        yield b"first"
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_records(tmp_path / "a.tfrecord", payloads())
    assert list(tmp_path.iterdir()) == []


def test_features_of_different_lengths_are_refused(record):
    with pytest.raises(ValueError, match="one length"):
        encode_record(make_schema(), {**record, "hist_item_id": record["hist_item_id"][:-1]})


def test_a_missing_feature_is_named(record):
    del record["label"]
    with pytest.raises(ValueError, match=r"missing \['label'\]"):
        encode_record(make_schema(), record)


def test_a_position_beyond_the_history_is_refused(record):
    events = len(record["hist_item_id"])
    with pytest.raises(ValueError, match=f"{events} at most"):
        encode_record(make_schema(), {**record, "cand_position": record["cand_position"] + 1})


def test_a_history_that_is_not_oldest_first_is_refused(record):
    with pytest.raises(ValueError, match="oldest first"):
        encode_record(make_schema(), {**record, "hist_timestamp": record["hist_timestamp"][::-1]})


def test_bytes_that_are_no_record_are_refused():
    with pytest.raises(ValueError, match="no record"):
        decode_record(make_schema(), b"\x0a\x03abc")


def test_a_manifest_of_another_schema_is_refused(tmp_path):
    shard = Shard("train/a.tfrecord", bucket=5, users=3, rows=3, candidates=6, row_candidates=2)
    Manifest(make_schema().fingerprint(), {"train": (shard,)}).save(tmp_path)
    assert Manifest.load(tmp_path, make_schema()).splits["train"] == (shard,)
    with pytest.raises(ValueError, match="written under schema"):
        Manifest.load(tmp_path, make_schema(max_history=48))


def test_a_preparation_without_manifest_has_not_finished(tmp_path):
    with pytest.raises(FileNotFoundError, match="did not finish"):
        Manifest.load(tmp_path, make_schema())


def test_a_damaged_manifest_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="not a manifest"):
        Manifest.load(tmp_path, make_schema())


def test_the_catalogue_round_trips_without_pickle(tmp_path):
    save_catalogue(tmp_path, {"category_id": np.arange(7), "count": np.arange(7) * 2})
    np.testing.assert_array_equal(load_catalogue(tmp_path)["count"], np.arange(7) * 2)


def test_arrays_are_padded_at_the_end_of_every_axis():
    rows = [np.array([[1, 2]], np.int32), np.array([[3], [4]], np.int32)]
    stack = stack_padded(rows)
    assert stack.dtype == np.int32
    assert stack.tolist() == [[[1, 2], [0, 0]], [[3, 0], [4, 0]]]


def test_arrays_of_one_length_are_stacked_as_they_are():
    rows = [np.array([1.5, 2.5]), np.array([3.5, 4.5])]
    np.testing.assert_array_equal(stack_padded(rows), np.stack(rows))
