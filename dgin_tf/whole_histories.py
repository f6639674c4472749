"""Whole histories of a prepared data set: every user with all events, for what serves requests.

The records of a split end before their user's newest target. `whole/` has, of every user, the events that come
behind the newest of these records, its head; so a history is stored once. Users without any record have all of
their events there.

This module needs neither TensorFlow nor pandas.
"""

import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping

import numpy as np

from dgin_tf.records import (
    LABEL,
    POSITION,
    SPLITS,
    WHOLE,
    Manifest,
    Shard,
    pack_record,
    read_records,
    record_features,
    record_shapes,
    record_values,
)
from dgin_tf.schema import CANDIDATE, CONTEXT, HISTORY, USER, USER_ID, Schema, feature_name

HEADS = (*SPLITS, "none")
"""Splits of the records that a tail continues; `none` where there is no record."""

LENGTHS = tuple(25 * 2**power for power in range(20))
"""Lengths of histories, one of which every file of records keeps to."""

_NAME = re.compile(rf"{WHOLE}/(\d+)-.*-({'|'.join(HEADS)})\.tfrecord")


def tail_path(bucket: int, number: int, head: str) -> str:
    """Path of a file of tails, relative to the data set.

    Args:
      bucket: of users; their records in the splits have file names that begin with it.
      number: of the file, among those of the bucket.
      head: of `HEADS`.
    """
    return f"{WHOLE}/{bucket:05d}-{number:05d}-{head}.tfrecord"


def history_limit(manifest: Manifest) -> int:
    """Newest events that whole histories have, as the data set's own limit has it; 0 for all."""
    return int(str(manifest.protocol.get("max_history") or 0))


def limit_sentence(manifest: Manifest) -> str:
    """Line for those who read counts of a data set whose histories are cut; empty where they are whole."""
    limit = history_limit(manifest)
    return (
        f"of each user the newest {limit:,} events, to which data_prep.prepare --max_history cut the data\n"
        if limit
        else ""
    )


def whole_records(
    data_dir: str | os.PathLike, manifest: Manifest, schema: Schema
) -> Iterator[tuple[int, bytes]]:
    """Records of all users with all of their events and no candidate, each with a length of `LENGTHS`.

    The length is the smallest that holds the history, whoever else is in the data set. The heads of one bucket
    and split are in memory at a time.

    Raises:
      ValueError: the data set has no whole histories, or a file is damaged.
    """
    shards = manifest.whole_shards(data_dir)
    longest = history_limit(manifest)
    shapes = record_shapes(schema)
    sizes = {
        name: np.dtype(dtype).itemsize * math.prod(shapes[name])
        for name, dtype in record_features(schema).items()
    }
    history, user, candidate, context = (
        [feature_name(role, field) for field in schema.with_role(role)]
        for role in (HISTORY, USER, CANDIDATE, CONTEXT)
    )
    no_candidates = dict.fromkeys((*candidate, *context, POSITION, LABEL), b"")
    place, heads = "", {}
    for shard in shards:
        if place != (place := _head_place(shard)):
            heads = _heads(pathlib.Path(data_dir), manifest, place)
        for payload in read_records(pathlib.Path(data_dir) / shard.path):
            tail = record_values(payload)
            head = heads.get(bytes(tail[USER_ID])) if heads else None
            record: dict[str, bytes | memoryview] = {name: tail[name] for name in user}
            for name in history:
                events = tail[name] if head is None else b"".join((head[name], tail[name]))
                # A record's own window may begin earlier, for its oldest target.
                record[name] = events[-longest * sizes[name] :] if longest else events
            length = len(record[history[0]]) // sizes[history[0]]
            bound = LENGTHS[int(np.searchsorted(LENGTHS, length))]
            yield bound, pack_record({**record, **no_candidates})


def _head_place(shard: Shard) -> str:
    """Beginning of the paths of the records that a file's tails continue; empty for none."""
    match = _NAME.fullmatch(shard.path)
    return f"{match[2]}/{match[1]}-" if match and match[2] in SPLITS else ""


def _heads(
    data_dir: pathlib.Path, manifest: Manifest, place: str
) -> dict[bytes, Mapping[str, memoryview]]:
    """User id, as stored -> values of the record, of the records in some files."""
    # Of all files: the paper form validates on the test split, whatever else was written.
    paths = {shard.path for shards in manifest.splits.values() for shard in shards}
    return {
        bytes(values[USER_ID]): values
        for path in sorted(paths.union(manifest.files))
        if place and path.startswith(place)
        for values in map(record_values, read_records(data_dir / path))
    }
