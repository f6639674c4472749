"""Builds the behavior index of a prepared data set.

Records are read once and distributed by user over parts that fit in memory; each part becomes the
blocks of a range of users. The index is written into a temporary folder and renamed at the end, so that
readers see the old index or the new one.
"""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from dgin_tf.integrity import facts_of, read_json
from dgin_tf.ownership import replacing_folder
from dgin_tf.records import Manifest, decode_record, frame, read_records
from dgin_tf.schema import FIRST_ID, HISTORY, USER, Schema, check_positive, feature_name, write_text
from dgin_tf.stores.behavior_blocks import TIME, BlockCodec, Events
from dgin_tf.stores.behavior_index import (
    BLOCKS_FILE,
    METADATA_FILE,
    OFFSETS_FILE,
    IndexMetadata,
)
from dgin_tf.whole_histories import whole_records

MAX_EVENTS_PER_KEY = 200  # where SIM cuts the lists that it serves
PART_BYTES = 256 << 20  # of records that are sorted in memory at a time
_MAX_PARTS = 500  # files that are open at a time

Progress = Callable[[Iterable, int, str], Iterable]
OnHistory = Callable[[int, Events], None]


def build_index(
    data_dir: str | os.PathLike,
    output_dir: str | os.PathLike,
    key: str,
    max_events_per_key: int = MAX_EVENTS_PER_KEY,
    *,
    part_bytes: int = PART_BYTES,
    progress: Progress = lambda items, total, description: items,
    on_history: OnHistory = lambda user, events: None,
) -> IndexMetadata:
    """Indexes the whole histories of a prepared data set: every user with all events.

    Args:
      data_dir: where `data_prep.prepare` wrote it.
      output_dir: directory of the index; an earlier index there is replaced.
      key: a categorical history field.
      max_events_per_key: length at which the list of each user and key is cut, the newest events
        remaining.
      part_bytes: bytes of records to hold in memory.
      progress: wraps the items of a stage, given their number and the stage's name.
      on_history: called with every user and the whole history, before lists are cut; such as the
        function of `BehaviorTotals.loading`.

    Raises:
      FileNotFoundError: `data_dir` is no finished preparation.
      ValueError: there is no such key, the data have no whole histories, the records are damaged or name
        no users, or `output_dir` holds something else.
    """
    schema = Schema.load(data_dir)
    manifest = Manifest.load(data_dir, schema)
    codec = BlockCodec(schema, key)
    check_positive(max_events_per_key=max_events_per_key)
    users = schema.vocabulary_sizes[_user_field(schema)]
    output = pathlib.Path(output_dir).absolute()
    shards = manifest.whole_shards(data_dir)
    with replacing_folder(output, _own_files, "a behavior index") as folder:
        files = {shard.path for split in (shards, *manifest.splits.values()) for shard in split}
        size = sum((pathlib.Path(data_dir) / path).stat().st_size for path in files)
        # As many parts as memory needs, but no more files than may be open.
        parts = min(size // part_bytes + 1, _MAX_PARTS, users)
        records = sum(shard.users for shard in shards)
        payloads: Iterable[bytes] = (
            payload for _, payload in whole_records(data_dir, manifest, schema)
        )
        payloads = progress(payloads, records, "reading records")
        records_skipped = _deal(payloads, schema, folder, parts, users)
        counts, sizes = _write_blocks(
            progress(range(parts), parts, "writing blocks"),
            folder,
            schema,
            codec,
            max_events_per_key,
            users,
            on_history,
        )
        np.append(0, np.cumsum(sizes)).astype("<i8").tofile(folder / OFFSETS_FILE)
        facts = facts_of(folder, (BLOCKS_FILE, OFFSETS_FILE))
        metadata = IndexMetadata(
            schema=schema.fingerprint(),
            key=key,
            max_events_per_key=max_events_per_key,
            **counts,
            records_skipped=records_skipped,
            bytes=sum(file["bytes"] for file in facts.values()),
            files=facts,
        )
        write_text(folder / METADATA_FILE, metadata.to_json())
    return metadata


def _user_field(schema: Schema) -> str:
    """Vocabulary of the user ids."""
    for field in schema.user_fields:
        if field.name == "user_id":
            return field.vocabulary
    raise ValueError(
        "an index needs the user field 'user_id' to tell histories apart, which this schema lacks; "
        "prepare the data with it."
    )


def _deal(
    payloads: Iterable[bytes], schema: Schema, folder: pathlib.Path, parts: int, users: int
) -> int:
    """Copies records to the files of their users' parts; returns how many have no user id."""
    unknown_users = 0
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(_part_path(folder, part), "wb")) for part in range(parts)]
        for payload in payloads:
            user = int(decode_record(schema, payload)["user_id"][0])
            if user < FIRST_ID:
                unknown_users += 1
            else:
                # Ranges of users, so that blocks are written in the order of ids.
                files[user * parts // users].write(frame(payload))
    return unknown_users


def _write_blocks(
    parts: Iterable[int],
    folder: pathlib.Path,
    schema: Schema,
    codec: BlockCodec,
    max_events_per_key: int,
    users: int,
    on_history: OnHistory,
) -> tuple[Mapping[str, int], np.ndarray]:
    """Writes the blocks in the order of users; returns counts, and the bytes of every user."""
    sizes = np.zeros(users, np.int64)
    counts = dict.fromkeys(("users", "lists", "events", "events_seen"), 0)
    with open(folder / BLOCKS_FILE, "wb") as file:
        for part in parts:
            path = _part_path(folder, part)
            for user, history in _histories(path, schema):
                on_history(user, history)
                block = codec.encode(history, max_events_per_key)
                sizes[user] = file.write(block)
                if block:
                    lengths = codec.lengths(block, 0)
                    counts["users"] += 1
                    counts["lists"] += len(lengths)
                    counts["events"] += int(lengths.sum(dtype=np.int64))
                    counts["events_seen"] += len(history[TIME])
            path.unlink()
    return counts, sizes


def _histories(path: pathlib.Path, schema: Schema) -> Iterator[tuple[int, Events]]:
    """Users of a part, by rising id, with their whole histories."""
    histories: dict[int, Events] = {}
    names = {field.name: feature_name(HISTORY, field) for field in schema.stored_fields}
    user_feature = feature_name(USER, schema.field("user_id"))
    for payload in read_records(path):
        record = decode_record(schema, payload)
        histories[int(record[user_feature][0])] = {n: record[f] for n, f in names.items()}
    for user in sorted(histories):
        yield user, histories.pop(user)


def _part_path(folder: pathlib.Path, part: int) -> pathlib.Path:
    return folder / f"part{part:05d}.records"


def _own_files(folder: pathlib.Path) -> tuple[str, ...]:
    """Names of an index's files; none where the folder has no index whose description can be read."""
    path, files = folder / METADATA_FILE, (BLOCKS_FILE, OFFSETS_FILE)
    try:
        content = read_json(path, "the description of a behavior index", "")
    except ValueError:
        return ()
    return (METADATA_FILE, *files) if set(content.get("files", ())) == {*files} else ()
