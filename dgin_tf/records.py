"""One user's record, the files that hold many of them, and the manifest that lists the files.

A record is a `tf.train.Example` in which every feature is one bytes value of little-endian numbers
(int32 ids, int64 seconds, float32 standardized numbers), several a row for multi-valued ids. The history is stored once, oldest event first: a cut at a candidate's
position and a truncation to the model's length are then one substring of the same bytes. Candidates
follow each other by position; neighbors with the same `cand_position` share one history cut and
become one row of a batch, or several where the file's rows are narrower than that.

The protocol buffer is packed by hand (a bytes feature is four nested length-prefixed fields), which
is several times faster than building `tf.train.Example` objects and needs no TensorFlow in the
workers that prepare data. Files are ordinary TFRecord files.
"""

import dataclasses
import os
import pathlib
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import google_crc32c
import numpy as np

from dgin_tf.integrity import CHECKED_BYTES, Facts, check_files, load_arrays, read_json, sealed
from dgin_tf.schema import (
    CANDIDATE,
    CONTEXT,
    HISTORY,
    PADDING_ID,
    SCHEMA_FILE,
    UNKNOWN_ID,
    Field,
    Schema,
    feature_name,
    replacing,
    write_text,
)

Arrays = dict[str, np.ndarray]

MANIFEST_FILE = "manifest.json"
CATALOGUE_FILE = "catalogue.npz"
POSITION = "cand_position"
LABEL = "label"
SPLITS = ("train", "validation", "test")
WHOLE = "whole"  # folder of what whole histories have beside the records of the splits

_WHOLE_HISTORIES, _EARLIER_SCHEMAS = "whole_histories", "earlier_schemas"
_PREPARE = "prepare the data again with python -m data_prep.prepare"
# Endings of the files of a data set that programs read.
_READ = (SCHEMA_FILE, CATALOGUE_FILE, ".txt", ".tfrecord")
_MASK_DELTA = 0xA282EAD8
_WRITE_BUFFER = 1 << 22  # bytes; records are a few kilobytes, and a system call each is slow


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file of a split.

    Attributes:
      path: file name relative to the data directory.
      bucket: every history in the file has at most this many events.
      users: records in the file.
      rows: batch rows, each of one history cut.
      candidates: candidates over all rows.
      row_candidates: candidates in the widest row; neighbors of one position that are more are
        several rows.
    """

    path: str
    bucket: int
    users: int
    rows: int
    candidates: int
    row_candidates: int


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The files of a prepared data set, written last: without it a preparation is not finished.

    Attributes:
      schema_fingerprint: `Schema.fingerprint()` of the schema that the records follow.
      splits: split name -> its files.
      protocol: settings of the preparation, as plain JSON values.
      files: name of every other file of the data set -> {"bytes", "crc32c"}; empty where it was prepared
        by a version before 0.7.
      whole_histories: files with the events of every user of the log behind the newest of the user's records,
        for what serves requests, see `dgin_tf.whole_histories`; None where they were left out, or prepared by
        a version before 0.7.
      earlier_schemas: JSON of the schemas whose ids this data set keeps, the newest first: a model that was
        trained under one of them reads these records, with later ids as unknown ones.
    """

    schema_fingerprint: str
    splits: Mapping[str, tuple[Shard, ...]]
    protocol: Mapping[str, object] = dataclasses.field(default_factory=dict)
    files: Facts = dataclasses.field(default_factory=dict)
    whole_histories: tuple[Shard, ...] | None = None
    earlier_schemas: tuple[str, ...] = ()

    def save(self, data_dir: str | os.PathLike) -> None:
        content = dataclasses.asdict(self)
        if (
            self.whole_histories is None
        ):  # the manifest of a data set without them, as it always was
            del content[_WHOLE_HISTORIES]
        if not self.earlier_schemas:
            del content[_EARLIER_SCHEMAS]
        write_text(pathlib.Path(data_dir) / MANIFEST_FILE, sealed(content, sort_keys=True))

    @classmethod
    def load(cls, data_dir: str | os.PathLike, schema: Schema) -> "Manifest":
        """Reads the manifest and checks that the records follow `schema`.

        Raises:
          FileNotFoundError: the preparation never finished.
          ValueError: the manifest is damaged or belongs to another schema, or a file that it describes is
            damaged; what more than `CHECKED_BYTES` of records hold is compared when they are read.
        """
        content = read_manifest(data_dir)
        try:
            splits = {
                name: tuple(Shard(**shard) for shard in shards)
                for name, shards in content["splits"].items()
            }
            whole = content.get(_WHOLE_HISTORIES)
            manifest = cls(
                content["schema_fingerprint"],
                splits,
                content["protocol"],
                content.get("files", {}),
                None if whole is None else tuple(Shard(**shard) for shard in whole),
                tuple(content.get(_EARLIER_SCHEMAS, ())),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            path = pathlib.Path(data_dir) / MANIFEST_FILE
            raise ValueError(
                f"{path} is not a manifest of this version ({error!r}); {_PREPARE}."
            ) from error
        if manifest.schema_fingerprint != schema.fingerprint():
            raise ValueError(
                f"the records in {os.fspath(data_dir)!r} were written under schema "
                f"{manifest.schema_fingerprint}, but the schema in use is {schema.fingerprint()}; "
                "prepare the data again or use the schema.json that belongs to the records."
            )
        manifest._check_files(pathlib.Path(data_dir))
        return manifest

    def whole_shards(self, data_dir: str | os.PathLike) -> tuple[Shard, ...]:
        """Files of the whole histories.

        Args:
          data_dir: of the data set, for the message.

        Raises:
          ValueError: the data set has none.
        """
        if self.whole_histories is None:
            raise ValueError(
                f"the data in {os.fspath(data_dir)!r} have no whole histories, which serving reads: they were "
                f"prepared by an earlier version or with --nowhole_histories; {_PREPARE}."
            )
        return self.whole_histories

    def _check_files(self, data_dir: pathlib.Path) -> None:
        # Reports and the like are for people, who may do with them what they want.
        files = {name: facts for name, facts in self.files.items() if name.endswith(_READ)}
        all_shards = (*self.splits.values(), self.whole_histories or ())
        paths = {shard.path for shards in all_shards for shard in shards}
        small = {name: facts for name, facts in files.items() if name not in paths}
        size = sum(facts["bytes"] for facts in files.values())
        check_files(data_dir, files, _PREPARE, contents=size <= CHECKED_BYTES)
        if size > CHECKED_BYTES:
            check_files(data_dir, small, _PREPARE)


def read_manifest(data_dir: str | os.PathLike) -> dict[str, Any]:
    """Content of a manifest as it was written, without looking at what it describes.

    Raises:
      FileNotFoundError: the preparation never finished.
      ValueError: the file is damaged.
    """
    path = pathlib.Path(data_dir) / MANIFEST_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"expected {MANIFEST_FILE} in {os.fspath(data_dir)!r}, found none: the preparation "
            "did not finish; run data_prep.prepare again with the same flags to resume it."
        )
    return read_json(path, "the manifest of a prepared data set", _PREPARE)


def record_features(schema: Schema) -> dict[str, str]:
    """Feature name -> numpy dtype of everything in a record."""
    dtypes = {name: field.dtype for name, field in schema.features().items()}
    return {**dtypes, POSITION: "int32", LABEL: "int32"}


def record_shapes(schema: Schema) -> dict[str, tuple[int, ...]]:
    """Feature name -> shape of one value, () for most, of everything in a record."""
    shapes = {name: field.shape for name, field in schema.features().items()}
    return {**shapes, POSITION: (), LABEL: ()}


def unknown_value(field: Field) -> np.ndarray:
    """The value of a field of which nothing is known, in the field's type and shape."""
    if field.is_standardized:
        return np.full((), np.nan, field.dtype)
    value = np.full(field.shape, PADDING_ID, field.dtype)
    value.reshape(-1)[:1] = UNKNOWN_ID  # of several ids the first one
    return value


def check_record(schema: Schema, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError unless `arrays` are one user's record under `schema`."""
    names = set(record_features(schema))
    if set(arrays) != names:
        missing, extra = sorted(names - set(arrays)), sorted(set(arrays) - names)
        raise ValueError(f"a record needs the schema's features; missing {missing}, extra {extra}.")
    # The context of a request is stored for each of its candidates.
    context = [feature_name(CONTEXT, field) for field in schema.context_fields]
    for role, more in ((HISTORY, []), (CANDIDATE, [*context, POSITION, LABEL])):
        features = [feature_name(role, field) for field in schema.with_role(role)] + more
        lengths = {name: len(arrays[name]) for name in features}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"all {role} features need one length; got {lengths}.")
    position = np.asarray(arrays[POSITION])
    events = len(arrays[feature_name(HISTORY, schema.with_role(HISTORY)[0])])
    if np.any(np.diff(position) < 0) or np.any(position < 0) or np.any(position > events):
        raise ValueError(
            f"{POSITION} must rise from 0 at least to {events} at most, the number of stored events; "
            f"got {position.tolist()}."
        )
    times = arrays.get("hist_timestamp")
    if times is not None and np.any(np.diff(times) < 0):
        raise ValueError("a record's history must be stored oldest first; its timestamps fall.")


def pack_record(arrays: Mapping[str, bytes | memoryview]) -> bytes:
    """Serializes feature name -> little-endian bytes as a `tf.train.Example`."""
    return RecordPacker(tuple(arrays))(arrays.values())


class RecordPacker:
    """Serializes many records of the same features.

    Args:
      names: of the features, in the order of their values.
    """

    def __init__(self, names: Sequence[str]):
        self._names = tuple(names)
        # Records differ in their values far more than in their sizes.
        self._headers: list[dict[int, bytes]] = [{} for _ in names]

    def __call__(self, values: Iterable[bytes | memoryview]) -> bytes:
        """A `tf.train.Example` of little-endian bytes, one value a feature."""
        parts: list[bytes | memoryview] = [b""]
        size = 0
        for value, headers, name in zip(values, self._headers, self._names, strict=True):
            length = len(value)
            header = headers.get(length)
            if header is None:
                header = headers[length] = _entry_header(name, length)
            size += len(header) + length
            # Joined once at the end: values are slices of large arrays and are not copied before.
            parts.append(header)
            parts.append(value)
        parts[0] = _prefix(1, size)
        return b"".join(parts)


def encode_record(schema: Schema, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Checks one user's arrays and serializes them; histories oldest first."""
    check_record(schema, arrays)
    values = {}
    for name, dtype in record_features(schema).items():
        stored_dtype = np.dtype(dtype).newbyteorder("<")
        values[name] = np.ascontiguousarray(arrays[name], stored_dtype).tobytes()
    return pack_record(values)


def decode_record(schema: Schema, payload: bytes) -> dict[str, np.ndarray]:
    """Parses a serialized record; raises ValueError where the bytes are no record of `schema`."""
    dtypes, shapes = record_features(schema), record_shapes(schema)
    try:
        arrays = {}
        for name, value in _values(payload).items():
            values = np.frombuffer(value, dtype=np.dtype(dtypes[name]).newbyteorder("<"))
            arrays[name] = values.reshape(-1, *shapes[name]) if shapes[name] else values
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"these bytes are no record of the schema ({error!r}).") from error
    check_record(schema, arrays)
    return arrays


def record_values(payload: bytes) -> dict[str, memoryview]:
    """Feature name -> little-endian bytes of a serialized record; raises ValueError where it is none."""
    try:
        return _values(payload)
    except (ValueError, IndexError) as error:
        raise ValueError(f"these bytes are no record ({error!r}).") from error


def _values(payload: bytes) -> dict[str, memoryview]:
    (example,) = _fields(payload)
    values = {}
    for entry in _fields(example):
        key, feature = _fields(entry)
        (bytes_list,) = _fields(feature)
        (values[bytes(key).decode()],) = _fields(bytes_list)
    return values


def frame(payload: bytes) -> bytes:
    """Wraps a serialized record for a TFRecord file: length, checksum, data, checksum."""
    length = struct.pack("<Q", len(payload))
    length_crc, crc = (struct.pack("<I", _masked_crc(part)) for part in (length, payload))
    return b"".join((length, length_crc, payload, crc))


def length_prefixed(number: int, value: bytes) -> bytes:
    """One length-prefixed protocol-buffer field, of a message, string or bytes."""
    return _prefix(number, len(value)) + value


def write_records(path: str | os.PathLike, payloads: Iterable[bytes]) -> int:
    """Writes a TFRecord file, whole or not at all; returns the record count."""
    count = 0
    with replacing(path) as temporary, open(temporary, "wb", buffering=_WRITE_BUFFER) as file:
        for payload in payloads:
            file.write(frame(payload))
            count += 1
    return count


def read_records(path: str | os.PathLike) -> Iterator[bytes]:
    """Yields the serialized records of a TFRecord file.

    Raises:
      ValueError: a record is cut short or its checksum does not match.
    """
    with open(path, "rb") as file:
        index = 0
        while header := file.read(12):
            fault = ValueError(
                f"{os.fspath(path)} is damaged at record {index}: it is cut short or its checksum does "
                "not match; write it again, data with python -m data_prep.prepare."
            )
            if len(header) < 12 or struct.unpack("<I", header[8:])[0] != _masked_crc(header[:8]):
                raise fault
            (size,) = struct.unpack("<Q", header[:8])
            payload, crc = file.read(size), file.read(4)
            if len(crc) < 4 or struct.unpack("<I", crc)[0] != _masked_crc(payload):
                raise fault
            yield payload
            index += 1


def save_catalogue(data_dir: str | os.PathLike, attributes: Mapping[str, np.ndarray]) -> None:
    """Writes attributes of items: one array a candidate field, plus `count`.

    `count` is the number of training events of each item; the arrays are indexed by item id.
    """
    path = pathlib.Path(data_dir) / CATALOGUE_FILE
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **attributes)  # type: ignore[arg-type]


def load_catalogue(data_dir: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the catalogue; raises FileNotFoundError where there is none, ValueError for a damaged one."""
    path = pathlib.Path(data_dir) / CATALOGUE_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"expected {CATALOGUE_FILE} in {os.fspath(data_dir)!r}, found none."
        )
    return load_arrays(path, "the attributes of items", _PREPARE)


def stack_padded(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks arrays of several users on a new first axis, each padded with zeros at the end of its axes.

    Args:
      arrays: at least one, all of one dtype and rank.
    """
    shape = tuple(np.max([array.shape for array in arrays], axis=0))
    stack = np.zeros((len(arrays), *shape), arrays[0].dtype)
    for row, array in zip(stack, arrays, strict=True):
        row[tuple(slice(size) for size in array.shape)] = array
    return stack


def shard_paths(data_dir: str | os.PathLike, shards: Sequence[Shard]) -> list[str]:
    """Full paths of a split's files."""
    return [os.path.join(os.fspath(data_dir), shard.path) for shard in shards]


def _masked_crc(data: bytes) -> int:
    # Rotated and offset, as TFRecord files have it.
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _prefix(number: int, size: int) -> bytes:
    """Tag and length, the bytes before the `size` bytes of a protocol-buffer field."""
    return bytes([number << 3 | 2]) + _varint(size)


def _entry_header(name: str, size: int) -> bytes:
    """All bytes before the value in one entry of `Features.feature`."""
    value = _prefix(1, size)  # BytesList.value
    bytes_list = _prefix(1, len(value) + size)  # Feature.bytes_list
    feature = _prefix(2, len(bytes_list) + len(value) + size)  # the map entry's value
    key = _prefix(1, len(name.encode())) + name.encode()
    header = key + feature + bytes_list + value
    return _prefix(1, len(header) + size) + header


def _fields(data: bytes | memoryview) -> Iterator[memoryview]:
    """Values of the length-prefixed fields in `data`, in order."""
    view, offset = memoryview(data), 0
    while offset < len(view):
        if view[offset] & 7 != 2:
            raise ValueError(f"unexpected wire type at byte {offset}")
        size, shift, offset = 0, 0, offset + 1
        while True:
            byte = view[offset]
            size |= (byte & 0x7F) << shift
            shift, offset = shift + 7, offset + 1
            if byte < 0x80:
                break
        if offset + size > len(view):
            raise ValueError("a field runs past the end")
        yield view[offset : offset + size]
        offset += size
