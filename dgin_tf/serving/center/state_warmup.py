"""States of everybody in a prepared data set, encoded at once (the paper's 120 days before the start).

A state that was warmed up includes all events of its person up to the newest one, whatever their
numbers in the stream: events that are not newer are passed over. It comes before the version's center
starts, or a person's state begins empty and lacks what came before.
"""

import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from dgin_tf.records import Manifest, decode_record, read_records
from dgin_tf.schema import FIRST_ID, HISTORY, USER, Schema, feature_name
from dgin_tf.serving.center.events import PERSON, TIME
from dgin_tf.serving.center.progress import Progress
from dgin_tf.serving.center.state_updates import StateUpdater
from dgin_tf.serving.center.user_states import Arrays, UserState, UserStates

_SPLITS = ("test", "validation", "train")  # the longest history of a person comes first
_PEOPLE = 512  # encoded and written at once
_DAY = 86_400

Progressing = Callable[[Iterable, int], Iterable]


class WarmedUp(NamedTuple):
    """What a warm-up did.

    Attributes:
      written: states that were encoded.
      incomplete: people whose state the stream had begun already, without the history before. Nobody
        can tell them where events have no times.
    """

    written: int
    incomplete: int


def warm_up(
    updater: StateUpdater,
    states: UserStates,
    data_dir: str | os.PathLike,
    days: int = 0,
    progress: Progressing = lambda items, total: items,
) -> WarmedUp:
    """Encodes the stored histories of a data set; people who have a state already keep it.

    It can be interrupted and run again.

    Args:
      updater: the model.
      states: where its states are kept.
      data_dir: prepared under the schema of the model.
      days: how many days before the newest event of all count; 0 for all.
      progress: wraps the records, given how many there are, to draw a bar.

    Raises:
      ValueError: the data follow another schema, or hold no user ids or no times to cut by.
    """
    schema = Schema.load(data_dir)
    if schema.fingerprint() != updater.schema.fingerprint():
        raise ValueError(
            f"the data in {os.fspath(data_dir)!r} follow schema {schema.fingerprint()}, but the model "
            f"was exported under {updater.schema.fingerprint()}; warm up from the data that it was "
            "trained on, or others prepared with the same vocabularies."
        )
    names = {feature_name(HISTORY, field): field.name for field in schema.with_role(HISTORY)}
    if PERSON not in [feature_name(USER, f) for f in schema.user_fields]:
        raise ValueError(f"the data in {os.fspath(data_dir)!r} hold no user ids to keep states by.")
    if days and TIME not in names.values():
        raise ValueError("the data hold no times of events to cut by; leave --days out.")
    manifest = Manifest.load(data_dir, schema)
    shards = [shard for split in _SPLITS for shard in manifest.splits.get(split, ())]
    total = sum(shard.users for shard in shards)

    def records() -> Iterator[Arrays]:
        for shard in shards:
            for payload in read_records(pathlib.Path(data_dir) / shard.path):
                yield decode_record(schema, payload)

    since = 0
    if days:
        newest = (int(r["hist_timestamp"][-1]) for r in records() if len(r["hist_timestamp"]))
        since = max(newest, default=0) - days * _DAY
    written, incomplete, batch = 0, set[int](), []
    for record in progress(records(), total):
        if record[PERSON][0] >= FIRST_ID:
            batch.append(record)
        if len(batch) == _PEOPLE:
            written += _encode(updater, states, batch, names, since, incomplete)
            batch = []
    written += _encode(updater, states, batch, names, since, incomplete)
    return WarmedUp(written, len(incomplete))


def _encode(updater, states, records, names, since, incomplete: set[int]) -> int:
    # A person may be in several splits; the first record counts.
    people = {int(record[PERSON][0]): record for record in reversed(records)}
    held = states.read(list(people))
    new = [person for person, state in zip(people, held, strict=True) if state is None]
    for person, state in zip(people, held, strict=True):
        if state and state.progress.sequence and state.progress.included_until < 0:
            history = _history(people[person], names, since)
            if TIME in history and len(history[TIME]):
                incomplete.add(person)
    histories = [_history(people[person], names, since) for person in new]
    users = {
        feature_name(USER, field): np.array([people[p][feature_name(USER, field)][0] for p in new])
        for field in updater.schema.user_fields
    }
    found = {}
    for person, history, arrays in zip(
        new, histories, updater.encode(histories, users), strict=True
    ):
        newest = int(history[TIME][-1]) if TIME in history and len(history[TIME]) else -1
        found[person] = UserState(arrays, Progress.up_to(newest))
    values = {person: states.encode(state) for person, state in found.items()}
    written = states.store.swap_each(dict.fromkeys(found), values)
    incomplete.update(found.keys() - written)
    return len(written)


def _history(record: Arrays, names: dict[str, str], since: int) -> Arrays:
    first = np.searchsorted(record["hist_timestamp"], since) if since else 0
    return {field: record[name][first:] for name, field in names.items()}
