"""Builds the behavior index that search-based models are served with.

    python -m experiments.build_index --data_dir=D --output_dir=I --key=category_id

For DGIN's engine (UBPE) the statistics of all groups are counted in the same reading; events that a
stream has appended before or appends meanwhile count once:

    python -m experiments.build_index --data_dir=D --output_dir=I --key=category_id \\
        --totals_store=lmdb:T
"""

import contextlib
import itertools
import sys
import time
from collections.abc import Iterable

import numpy as np
from absl import flags
from tqdm import tqdm

from dgin_tf.commands import command_line
from dgin_tf.records import Manifest
from dgin_tf.schema import Schema
from dgin_tf.stores.behavior_blocks import Events
from dgin_tf.stores.behavior_engine import BehaviorEngine
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.index_building import MAX_EVENTS_PER_KEY, build_index
from dgin_tf.whole_histories import limit_sentence
from experiments.running import store_flags

flags.adopt_module_key_flags(store_flags)  # --help lists them too
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of the index.", required=True)
_KEY = flags.DEFINE_string("key", "category_id", "History field by which events are listed.")
_MAX_EVENTS_PER_KEY = flags.DEFINE_integer(
    "max_events_per_key", MAX_EVENTS_PER_KEY, "Events kept of each user and key, the newest.", 1
)
_PROGRESS = flags.DEFINE_boolean("progress", True, "Draw progress bars.")

_SAMPLE_SECONDS = 1.0
_SAMPLE_USERS = 1000
_KEYS_A_REQUEST = 20  # hundreds of candidates rarely have more categories (SIM, section 4)


def lookups_per_second(index: BehaviorIndex, users: int) -> float:
    """Keys looked up in a second of one core, in requests of several keys of a random user.

    Args:
      index: the index.
      users: number of user ids, from 0.
    """
    # All requests are drawn before the clock starts.
    rng = np.random.default_rng(0)
    with_events = (user for user in rng.permutation(users).tolist() if len(index.keys(user)))
    requests = [
        (user, rng.permutation(index.keys(user))[:_KEYS_A_REQUEST])
        for user in itertools.islice(with_events, _SAMPLE_USERS)
    ]
    if not requests:
        return 0.0
    done, began, seconds = 0, time.process_time(), 0.0
    while seconds < _SAMPLE_SECONDS:  # processor time of this one thread
        for user, keys in requests:
            index.lookup(user, keys)
            done += len(keys)
        seconds = time.process_time() - began
    return done / seconds


def main(_: object) -> None:
    """Builds the index, and prints its size and the throughput of lookups."""

    def bar(items: Iterable, total: int, description: str) -> Iterable:
        return tqdm(items, description, total, disable=not _PROGRESS.value, file=sys.stderr)

    schema = Schema.load(_DATA_DIR.value)
    totals = store_flags.open_totals(schema, _KEY.value)
    # Histories are read once, for the index and for the statistics.
    with totals.loading() if totals else contextlib.nullcontext(_ignore) as load:
        summary = build_index(
            _DATA_DIR.value,
            _OUTPUT_DIR.value,
            _KEY.value,
            _MAX_EVENTS_PER_KEY.value,
            progress=bar,
            on_history=load,
        )
    index = BehaviorIndex(_OUTPUT_DIR.value, schema, _KEY.value)
    rate = lookups_per_second(index, schema.vocabulary_sizes["user_id"])
    sys.stdout.write(
        f"{summary.users:,} users, {summary.lists:,} lists by {summary.key}, {summary.events:,} "
        f"events of {summary.events_seen:,} (the newest {summary.max_events_per_key} of each list)\n"
        f"{summary.bytes:,} bytes: {summary.bytes_per_user:.1f} a user, {summary.bytes_per_event:.2f} an "
        "event\n"
        f"{rate:,.0f} keys looked up in a second of one core, in requests of up to {_KEYS_A_REQUEST}\n"
    )
    sys.stdout.write(limit_sentence(Manifest.load(_DATA_DIR.value, schema)))
    if summary.records_skipped:
        sys.stdout.write(f"{summary.records_skipped:,} records without a user id were left out\n")
    if totals:
        # Events that were appended while the index was being built.
        beyond = BehaviorEngine(index, totals).catch_up()
        users = sum(1 for _ in totals.users())
        sys.stdout.write(
            f"{users:,} users with {', '.join(totals.names)} of every group; {beyond:,} late events "
            "count beside what was loaded\n"
        )


def _ignore(user: int, events: Events) -> None:
    """Counts nothing, for an index without statistics."""


if __name__ == "__main__":
    command_line.run(main)
