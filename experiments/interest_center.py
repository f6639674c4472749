"""MIMN's User Interest Center: keeps the states of users up to date with their events.

    # States of all users of a data set; then events, as JSON lines, from a file that grows.
    python -m experiments.interest_center --action=warm_up --export_dir=E --store=lmdb:S --data_dir=D
    python -m experiments.interest_center --export_dir=E --store=lmdb:S --events=log.jsonl --follow \\
        --snapshot_dir=P

An event is {"user_id": "u17", "sequence": 12, "item_id": "B0017", "timestamp": 1700000000}, with ids as
the log has them (--ids=dense for the model's); docs/events.md has the format. `--events` takes a file,
- for standard input, or redis://host:port/db with --streams and --group. `data_prep.make_events` makes such a
file of any log that `data_prep.prepare` reads.

    --action=switch    lets requests (Ranker) read this version's states, once they are warm
    --action=snapshot  takes today's snapshot; a center with --snapshot_dir does so every day by itself
    --action=rollback  with --day: restores the states of that day, and has later events read again
    --action=status    prints the number of states, the live version and the snapshots
    --action=damaged   lists damaged states, those that a center set aside among them; --drop deletes them

Stop the center of a version before rolling it back. A damaged state is its user's affair alone: it is set
aside, and the user goes on from the history in --data_dir, or without it from the empty state.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import contextlib
import datetime
import functools
import logging
import pathlib
import signal
import sys
import threading
import time

from absl import flags

from dgin_tf.commands import command_line
from dgin_tf.stores.addresses import open_store
from dgin_tf.stores.redis_store import without_password

CONSUME, WARM_UP, SWITCH = "consume", "warm_up", "switch"
SNAPSHOT, ROLLBACK, STATUS, DAMAGED = "snapshot", "rollback", "status", "damaged"
RAW, DENSE = "raw", "dense"

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "action",
    CONSUME,
    [CONSUME, WARM_UP, SWITCH, SNAPSHOT, ROLLBACK, STATUS, DAMAGED],
    "What to do.",
)
flags.DEFINE_string("export_dir", None, "Exported versions, or one of them.", required=True)
flags.DEFINE_string("store", None, "lmdb:PATH or redis://host:port/db?prefix=NAME.", required=True)
flags.DEFINE_string("events", "", "A file, - for standard input, or redis://host:port/db.")
flags.DEFINE_enum("ids", RAW, [RAW, DENSE], "Which ids events carry: the log's or the model's.")
flags.DEFINE_boolean("follow", False, "Wait for more at the end of the file.")
flags.DEFINE_string("offset_file", "", "How far the file was read; by default beside it.")
flags.DEFINE_list("streams", [], "Redis Streams that this process reads.")
flags.DEFINE_string("group", "", "Consumer group; the version's where empty.")
flags.DEFINE_string("consumer", "center", "Name within the group.")
flags.DEFINE_string(
    "dead_letters", "", "File for what cannot be applied; by default beside the events."
)
flags.DEFINE_integer("batch_events", 1024, "Most events of a micro-batch.", 1)
flags.DEFINE_float("acknowledge_seconds", 1.0, "How often what is stored is acknowledged.", 0.0)
flags.DEFINE_float("patience", 60.0, "Seconds for which a failing store is asked again.", 0.0)
flags.DEFINE_integer(
    "longest_gap",
    10**9,
    "How far beyond the newest number of its user an event's number may be. One that is far ahead by mistake "
    "would make all later events of the user come too late. A user's own events hardly number a billion; "
    "raise it for numbers that are positions in a longer log, or times.",
    1,
)
flags.DEFINE_float("log_seconds", 10.0, "Seconds between two lines of the report.", 0.1)
flags.DEFINE_string(
    "snapshot_dir", "", "Folder of the daily snapshots; none are taken where empty."
)
flags.DEFINE_string("day", "", "Snapshot to roll back to, as 2026-11-21.")
flags.DEFINE_string(
    "data_dir",
    "",
    "Prepared data set to warm up from; beside --events, for users whose stored state is damaged.",
)
flags.DEFINE_integer("days", 0, "Days of it that count, before its newest event; 0 for all.", 0)
flags.DEFINE_boolean("drop", False, "Delete the damaged states that --action=damaged lists.")
flags.DEFINE_boolean("progress", True, "Draw progress bars.")


def main(_: object) -> None:
    """Runs the action of `--action`."""
    # TensorFlow takes seconds: after the flags were checked, and only where a model runs.
    _check_flags()
    # TensorFlow calls its loader of graphs, the one that TF Serving has, deprecated.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    {
        CONSUME: _consume,
        WARM_UP: _warm_up,
        SWITCH: _switch,
        SNAPSHOT: _snapshot,
        ROLLBACK: _roll_back,
        STATUS: _status,
        DAMAGED: _damaged,
    }[FLAGS.action]()


def _consume() -> None:
    from dgin_tf.serving.center.dead_letters import DeadLetters
    from dgin_tf.serving.center.events import EventParser
    from dgin_tf.serving.center.interest_center import InterestCenter, Limits, Rebuild, consume
    from dgin_tf.serving.center.snapshots import DailySnapshots, Snapshots
    from dgin_tf.serving.center.state_updates import StateUpdater
    from dgin_tf.serving.center.user_states import UserStates
    from dgin_tf.serving.export.versions import state_namespace

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    updater = StateUpdater(FLAGS.export_dir)
    namespace = state_namespace(updater.metadata)
    vocabularies = updater.vocabularies if FLAGS.ids == RAW else None
    parser = EventParser(
        updater.schema, updater.catalogue, vocabularies, fields_read=updater.fields_read
    )
    rebuild: Rebuild = lambda users: {}  # noqa: E731
    if FLAGS.data_dir:
        from dgin_tf.inputs.pipeline import PreparedData
        from dgin_tf.serving.rebuilt_states import RebuiltStates

        rebuild = RebuiltStates(PreparedData(FLAGS.data_dir), updater, FLAGS.days, _say)
    limits = Limits(FLAGS.patience, FLAGS.longest_gap)
    with open_store(FLAGS.store) as store, contextlib.ExitStack() as at_the_end:
        states = UserStates(store, updater.metadata)
        letters = DeadLetters(FLAGS.dead_letters or _beside(f"{namespace}.dead_letters.jsonl"))
        # `retry` tries again: a store or a source that is away for a while stops nothing.
        center = InterestCenter(updater, states, parser, letters, limits, _say, rebuild)
        source = center.retry(lambda: _source(namespace))
        at_the_end.callback(source.close)
        daily = None
        if FLAGS.snapshot_dir:
            snapshots = Snapshots(FLAGS.snapshot_dir, states)
            daily = DailySnapshots(snapshots, lambda: center.retry(source.position), _say)
        report = _Report(center)
        at_the_end.callback(report.at_the_end)
        _say(f"{namespace} follows {without_password(FLAGS.events)}")

        # A snapshot's position is an acknowledged one, so that no event after it is lost.
        def after_acknowledging() -> None:
            report.now_and_then()
            if daily is not None:
                daily.take_if_due(datetime.datetime.now(datetime.UTC).date())

        consume(
            center,
            source,
            stop.is_set,
            FLAGS.batch_events,
            FLAGS.acknowledge_seconds,
            after_acknowledging=after_acknowledging,
        )
    if summary := letters.summary(center.counts.lines, center.counts.usable):
        _say(summary)


def _warm_up() -> None:
    from tqdm import tqdm

    from dgin_tf.inputs.pipeline import PreparedData
    from dgin_tf.serving.center.state_updates import check_is_incremental
    from dgin_tf.serving.center.state_versions import StateVersions
    from dgin_tf.serving.center.user_states import UserStates
    from dgin_tf.serving.encode_users import UserStateSink, encode_users
    from dgin_tf.serving.export.signatures import ENCODE_USER
    from dgin_tf.serving.online.bundle_model import BundleModel
    from dgin_tf.serving.user_records import RecordUsers
    from dgin_tf.whole_histories import limit_sentence

    def bar(items, total, description):
        return tqdm(items, description, total, disable=not FLAGS.progress, file=sys.stderr)

    model = BundleModel(FLAGS.export_dir)
    check_is_incremental(model.metadata)
    data = PreparedData(FLAGS.data_dir)
    users = RecordUsers(data, model.metadata, days=FLAGS.days)
    encode = functools.partial(model.run, ENCODE_USER)
    with open_store(FLAGS.store) as store:
        states = UserStates(store, model.metadata)
        sink = UserStateSink(states)
        report = encode_users(users, encode, sink, progress=bar)
        versions = StateVersions(store, model.name)
        versions.mark_warm(model.metadata, sink.incomplete)
        sys.stdout.write(
            f"{report.users:,} states of {states.namespace} were written, {report.current:,} were up to date; "
            f"they are warm. Live is {versions.live or 'none'}.\n{limit_sentence(data.manifest)}"
        )


def _switch() -> None:
    metadata = _metadata()
    from dgin_tf.serving.center.state_versions import StateVersions

    with open_store(FLAGS.store) as store:
        versions = StateVersions(store, metadata["name"])
        before = versions.live
        versions.switch(metadata)
        sys.stdout.write(f"requests read the states of {versions.live}; before: {before}.\n")


def _snapshot() -> None:
    metadata = _metadata()
    from dgin_tf.serving.center.snapshots import Snapshots
    from dgin_tf.serving.center.user_states import UserStates
    from dgin_tf.serving.export.versions import state_namespace

    # First the acknowledged position, then the states, which include at least the events up to it.
    position = _position(state_namespace(metadata))
    with open_store(FLAGS.store) as store:
        snapshots = Snapshots(FLAGS.snapshot_dir, UserStates(store, metadata))
        snapshot = snapshots.take(position, datetime.datetime.now(datetime.UTC).date())
        sys.stdout.write(f"snapshot in {snapshot.folder}\n")


def _roll_back() -> None:
    metadata = _metadata()
    from dgin_tf.serving.center.snapshots import Snapshots
    from dgin_tf.serving.center.user_states import UserStates
    from dgin_tf.serving.export.versions import state_namespace

    with open_store(FLAGS.store) as store:
        snapshots = Snapshots(FLAGS.snapshot_dir, UserStates(store, metadata))
        snapshot = snapshots.find(FLAGS.day)
        again = "no source of events was named, so that none will be read again"
        if FLAGS.events and FLAGS.events != "-":
            # Before the states: events that are read once more by newer states change nothing.
            with contextlib.closing(_source(state_namespace(metadata))) as source:
                source.check_quiet()
                source.rewind(snapshot.position)
            again = "the events since then will be read again"
        count = snapshots.roll_back(snapshot)
        sys.stdout.write(f"{count:,} states are those of {snapshot.day}; {again}.\n")


def _status() -> None:
    metadata = _metadata()
    from dgin_tf.serving.center.snapshots import Snapshots
    from dgin_tf.serving.center.state_versions import StateVersions
    from dgin_tf.serving.center.user_states import UserStates
    from dgin_tf.serving.export.versions import state_version

    with open_store(FLAGS.store) as store:
        states, versions = UserStates(store, metadata), StateVersions(store, metadata["name"])
        count = sum(1 for _ in states.store.users())
        days = [s.day for s in Snapshots(FLAGS.snapshot_dir, states).list()]
        sys.stdout.write(
            f"{count:,} states of {state_version(metadata)}\nlive: {versions.live or 'none'}\n"
            f"warm: {', '.join(versions.warm) or 'none'}\nsnapshots: {', '.join(days) or 'none'}\n"
        )


def _damaged() -> None:
    metadata = _metadata()
    from dgin_tf.serving.center.user_states import UserStates

    with open_store(FLAGS.store) as store:
        states = UserStates(store, metadata)
        count = 0
        for user, state in states.damaged_items():
            count += 1
            sys.stdout.write(f"user {user}: {len(state.data):,} bytes, in use: {state.reason}\n")
            # A center may have begun the user anew meanwhile.
            if FLAGS.drop and states.store.get(user) == state.data:
                states.store.delete(user)
        for user, data in states.damaged.items():
            count += 1
            sys.stdout.write(f"user {user}: {len(data):,} bytes, set aside\n")
            if FLAGS.drop:
                states.damaged.delete(user)
        verb = "dropped" if FLAGS.drop else "found; --drop deletes them"
        sys.stdout.write(f"{count:,} damaged states of {states.namespace} were {verb}.\n")


class _Report:
    """Prints the counts of a center in one line, at intervals and at the end."""

    def __init__(self, center):
        self._center = center
        self._start_time = self._last_time = time.monotonic()

    def now_and_then(self) -> None:
        if time.monotonic() - self._last_time >= FLAGS.log_seconds:
            self._last_time = time.monotonic()
            _say(str(self._center.counts))

    def at_the_end(self) -> None:
        seconds = time.monotonic() - self._start_time
        counts = self._center.counts
        sys.stdout.write(f"{counts}; {counts.lines / seconds:,.0f} events/s\n")


def _check_flags() -> None:
    required_flags = {
        CONSUME: ["events"],
        WARM_UP: ["data_dir"],
        SNAPSHOT: ["snapshot_dir"],
        ROLLBACK: ["snapshot_dir", "day"],
    }.get(FLAGS.action, [])
    if missing := [f"--{name}" for name in required_flags if not FLAGS[name].value]:
        raise ValueError(f"--action={FLAGS.action} needs {' and '.join(missing)}.")
    if _is_redis(FLAGS.events) and not FLAGS.streams:
        raise ValueError("events from Redis need --streams, the names of the streams to read.")
    if FLAGS.store == "memory:":
        raise ValueError("states in memory are gone with the process; give --store=lmdb:PATH.")


def _source(namespace: str):
    from dgin_tf.serving.center.event_sources import GrowingFile, StandardInput
    from dgin_tf.serving.center.event_streams import RedisStreams

    if FLAGS.events == "-":
        return StandardInput()
    if _is_redis(FLAGS.events):
        group = FLAGS.group or namespace
        return RedisStreams(FLAGS.events, FLAGS.streams, group, FLAGS.consumer)
    return GrowingFile(FLAGS.events, _offset_file(namespace), FLAGS.follow)


def _position(namespace: str) -> dict:
    from dgin_tf.serving.center.event_sources import position_of_file

    if _is_redis(FLAGS.events):
        with contextlib.closing(_source(namespace)) as source:
            return source.position()
    is_file = FLAGS.events not in ("", "-")
    return position_of_file(_offset_file(namespace)) if is_file else {}


def _offset_file(namespace: str) -> str:
    return FLAGS.offset_file or f"{FLAGS.events}.{namespace}.offset"


def _beside(name: str) -> str:
    """Path of a file beside the events, or in the working directory where those are no file."""
    is_file = FLAGS.events != "-" and not _is_redis(FLAGS.events)
    return str(pathlib.Path(FLAGS.events).parent / name) if is_file else name


def _metadata() -> dict:
    from dgin_tf.serving.export.versions import open_bundle

    return open_bundle(FLAGS.export_dir)[1]


def _is_redis(address: str) -> bool:
    return address.startswith(("redis://", "rediss://"))


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    command_line.run(main)
