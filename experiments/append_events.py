"""Appends events to a behavior index or to DGIN's engine (UBPE), so that requests know of them.

    python -m experiments.append_events --data_dir=D --index_dir=I --totals_store=lmdb:T \\
        --events=log.jsonl --follow

An event is a JSON line, {"user_id": "u17", "sequence": 12, "item_id": "B0017", "timestamp": 1700000000},
with ids as the log has them (--ids=dense for the model's); docs/events.md has the format. `--events` takes a
file or - for standard input; `data_prep.make_events` makes such a file of any log that `data_prep.prepare` reads.
An event that is read again changes nothing; lines that are no events go to a dead-letter file, as do those of
users whose stored events are damaged (--drop_damaged deletes what is stored of them).
With --state_store in the place of --totals_store events are appended to an index alone. Each event is
one write to the store; one process at a time may append the events of one user.
"""

import contextlib
import pathlib
import signal
import sys
import threading
import time

from absl import flags

from dgin_tf.commands import command_line
from dgin_tf.records import load_catalogue
from dgin_tf.schema import Schema
from dgin_tf.serving.center.dead_letters import DeadLetters
from dgin_tf.serving.center.event_sources import EventSource, GrowingFile, StandardInput
from dgin_tf.serving.center.events import BadEventError, EventParser
from dgin_tf.serving.export.versions import history_fields_read, open_bundle
from dgin_tf.serving.export.vocabularies import Vocabularies
from dgin_tf.stores.behavior_engine import BehaviorEngine
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.values import DamagedValueError
from experiments.running import store_flags

flags.adopt_module_key_flags(store_flags)  # --help lists them too
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Prepared data set of the index, whose vocabularies are used.", required=True
)
_INDEX_DIR = flags.DEFINE_string("index_dir", None, "Behavior index.", required=True)
_EXPORT_DIR = flags.DEFINE_string(
    "export_dir",
    "",
    "Model that the index serves, so that events may leave out fields that it does not read.",
)
_STATE_STORE = flags.DEFINE_string(
    "state_store", "", f"Where events go that belong to an index alone: {store_flags.STORES}."
)
_EVENTS = flags.DEFINE_string("events", None, "A file, or - for standard input.", required=True)
_IDS = flags.DEFINE_enum("ids", "raw", ["raw", "dense"], "Which ids events carry.")
_FOLLOW = flags.DEFINE_boolean("follow", False, "Wait for more at the end of the file.")
_OFFSET_FILE = flags.DEFINE_string("offset_file", "", "How far it was read; by default beside it.")
_DEAD_LETTERS = flags.DEFINE_string("dead_letters", "", "For bad lines; by default beside it.")

_DROP_DAMAGED = flags.DEFINE_boolean(
    "drop_damaged",
    False,
    "First delete the late events of users of whom they are damaged, and with --totals_store their "
    "statistics too, which experiments.build_index counts anew.",
)

_LINES = 1024  # read between two acknowledgements
_DAMAGED = (
    "what is stored of this user's events is damaged; --drop_damaged deletes it, and with --totals_store "
    "experiments.build_index counts it anew"
)


def append_all(
    source: EventSource,
    index: BehaviorIndex | BehaviorEngine,
    parser: EventParser,
    letters: DeadLetters,
    stop: threading.Event,
) -> tuple[int, int, int]:
    """Appends a source's events until it ends; returns the numbers of new, repeated and bad ones."""
    new = repeats = bad = 0
    while not (source.is_finished or stop.is_set()):
        bad_lines = []
        lines = source.read(_LINES)
        for line in lines:
            try:
                event = parser(line)
                if index.append(event.user, event.values, event.sequence):
                    new += 1
                else:
                    repeats += 1
            # Neither one bad line nor one user's damaged value must stop a stream.
            except BadEventError as error:
                bad_lines.append((line, str(error)))
            except DamagedValueError:
                bad_lines.append((line, _DAMAGED))
        if bad_lines:
            letters.write(bad_lines)
            bad += len(bad_lines)
        if lines:  # after they are stored: a kill in between repeats events, and loses none
            source.acknowledge()
    return new, repeats, bad


def main(_: object) -> None:
    """Appends, and prints the number of events and the throughput."""
    schema = Schema.load(_DATA_DIR.value)
    vocabularies = Vocabularies(_DATA_DIR.value) if _IDS.value == "raw" else None
    fields_read = None
    if _EXPORT_DIR.value:
        fields_read = history_fields_read(open_bundle(_EXPORT_DIR.value)[1], schema)
    catalogue = load_catalogue(_DATA_DIR.value)
    parser = EventParser(schema, catalogue, vocabularies, fields_read=fields_read)
    late = store_flags.open_late_events(_STATE_STORE.value) if _STATE_STORE.value else None
    index = store_flags.open_index(_INDEX_DIR.value, schema, late)
    # An index on disk is never written to; appended events lie in a store beside it.
    if late is None and isinstance(index, BehaviorIndex):
        raise ValueError("events need a place: give --totals_store, or --state_store.")
    if _DROP_DAMAGED.value:
        for user in list(index.damaged_users()):
            sys.stdout.write(f"user {user}: damaged, dropped\n")
            index.drop(user)
    stop, began = threading.Event(), time.monotonic()
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # the batch of lines in progress is finished first
        signal.signal(number, lambda *_: stop.set())
    source: EventSource = StandardInput()
    if _EVENTS.value != "-":
        offset_file = _OFFSET_FILE.value or _beside("append_events.offset")
        source = GrowingFile(_EVENTS.value, offset_file, _FOLLOW.value)
    letters = DeadLetters(_DEAD_LETTERS.value or _beside("append_events.dead_letters.jsonl"))
    with contextlib.closing(source):
        new, repeats, bad = append_all(source, index, parser, letters, stop)
    seconds = time.monotonic() - began
    sys.stdout.write(
        f"{new:,} events appended, {repeats:,} were known, {bad:,} bad lines; "
        f"{(new + repeats) / max(seconds, 1e-9):,.0f} events/s\n"
    )
    if summary := letters.summary(new + repeats + bad, new + repeats):
        sys.stderr.write(summary + "\n")


def _beside(suffix: str) -> str:
    """A file beside the events, or in the working directory for standard input."""
    if _EVENTS.value == "-":
        return suffix
    path = pathlib.Path(_EVENTS.value)
    return str(path.with_name(f"{path.name}.{suffix}"))


if __name__ == "__main__":
    command_line.run(main)
