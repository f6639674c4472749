"""Events from Redis Streams through a consumer group.

An entry has one field, `event`, a JSON object. Several machines share the work by streams: a producer
chooses an event's stream by the user, so that a user's events keep their order. A second consumer of a
stream is a standby: it reads nothing while another consumer has entries that it has not acknowledged, and
takes over entries that are pending for long. (Where two read at the very same moment, no state is harmed;
the later events are refused.) Entries that a consumer did not acknowledge itself are delivered to it once
more and first.

The set `<group>.streams` has all streams that consumers of the group ever named: a position is one in all
of them, because the store has the states of all users.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from dgin_tf.serving.center.event_sources import OFFSET, EventSource, Position, is_in_file
from dgin_tf.stores.redis_store import connect, tls_hint, without_password
from dgin_tf.stores.state_store import StoreError, optional_package

FIELD = b"event"

_BLOCK = 100  # milliseconds to wait for new entries
_QUIET = 1.0  # seconds: a consumer that has not read for so long is not running
_TAKE_OVER = 60.0  # seconds: an entry that is pending for so long goes to another consumer
_LARGEST = 2**64 - 1


class RedisStreams(EventSource):
    """Entries of streams, as one consumer of a group.

    Args:
      url: address of the server, see `dgin_tf.stores.redis_store.split_address`.
      streams: names.
      group: of consumers; created, from the beginning of the streams, where it is missing.
      consumer: name within the group; one that returns under its name continues at once.
      take_over: seconds after which another consumer's entries are taken over; longer than a
        micro-batch takes, and than its store may fail.

    Raises:
      StoreError: the package redis is not installed, or the server cannot be reached.
    """

    def __init__(
        self,
        url: str,
        streams: Sequence[str],
        group: str,
        consumer: str,
        take_over: float = _TAKE_OVER,
    ):
        self._redis = optional_package("redis", "reader of Redis Streams")
        self._name = without_password(url)
        self._streams = [name.encode() for name in streams]
        self._group, self._consumer = group, consumer
        self._registry = f"{group}.streams"
        self._take_over = take_over
        self._unacknowledged: dict[bytes, list[bytes]] = {name: [] for name in self._streams}
        self._redelivered_until: dict[bytes, bytes] = {}
        self._next_claim = 0.0
        self._client = connect(self._redis, url)
        self._start_over()
        with self._errors():
            self._make_groups(self._streams)

    def read(self, limit: int) -> Sequence[bytes]:
        try:
            with self._errors():
                return self._read(limit)
        except StoreError:
            # Entries that the server sent may not have arrived: they are pending and come again.
            self._start_over()
            raise

    def acknowledge(self) -> None:
        with self._errors():
            for stream, ids in self._unacknowledged.items():
                if ids:
                    self._client.xack(stream, self._group, *ids)
                    ids.clear()

    def position(self) -> Position:
        """The last entry of each of the group's streams before which everything was acknowledged."""
        position = {}
        with self._errors():
            for stream in self._all_streams():
                groups = {g["name"]: g for g in self._client.xinfo_groups(stream)}
                last = groups[self._group.encode()]["last-delivered-id"]
                pending: Any = self._client.xpending(stream, self._group)
                entry = _before(pending["min"]) if pending["pending"] else last
                position[stream.decode()] = entry.decode()
        return position

    def check_quiet(self) -> None:
        """Raises ValueError where a consumer of the group seems to be running."""
        with self._errors():
            for stream in self._all_streams():
                for consumer in self._client.xinfo_consumers(stream, self._group):
                    if consumer["idle"] < 1000 * _QUIET:
                        raise ValueError(
                            f"consumer {consumer['name'].decode()!r} of group {self._group!r} asked "
                            f"for events of stream {stream.decode()!r} {consumer['idle']:,} ms ago; "
                            "stop its center first."
                        )

    def rewind(self, position: Position) -> None:
        """Delivers again all entries after a position, and all of a stream that the position lacks.

        Raises:
          ValueError: the position is in a file.
        """
        if is_in_file(position):
            raise ValueError(
                f"expected a position in streams; got byte {position[OFFSET]:,} of a file. Name the "
                "source that the events came from when it was taken."
            )
        with self._errors():
            self._make_groups(self._all_streams())
            for stream in self._all_streams():
                last = position.get(stream.decode(), "0")
                # A new group has no pending entries, which would be delivered first.
                with self._client.pipeline(transaction=True) as change:
                    change.xgroup_destroy(stream, self._group)
                    change.xgroup_create(stream, self._group, id=last, mkstream=True)
                    change.execute()
        self._start_over()

    def close(self) -> None:
        self._client.close()

    def _read(self, limit: int) -> Sequence[bytes]:
        if not self._has_groups:
            self._make_groups(self._streams)
        busy_streams = self._busy_streams()
        if busy_streams or time.monotonic() >= self._next_claim:
            self._next_claim = time.monotonic() + self._take_over
            self._claim()
            busy_streams = self._busy_streams()
        # Our own pending entries first, from the oldest on.
        positions: dict[Any, Any] = {
            n: last for n, last in self._redelivered_until.items() if n not in busy_streams
        }
        if positions:
            lines = self._take(self._client.xreadgroup(*self._me, positions, limit))
            if lines:
                return lines
            self._redelivered_until = {
                n: last for n, last in self._redelivered_until.items() if n in busy_streams
            }
        positions = {name: ">" for name in self._streams if name not in busy_streams}  # new entries
        if not positions:
            time.sleep(_BLOCK / 1000)
            return []
        return self._take(self._client.xreadgroup(*self._me, positions, limit, _BLOCK))

    def _busy_streams(self) -> set[bytes]:
        """Streams of which other consumers have pending entries, older than those to be read next."""
        with self._client.pipeline(transaction=False) as requests:
            for stream in self._streams:
                requests.xpending(stream, self._group)
            replies = requests.execute()
        return {
            stream
            for stream, pending in zip(self._streams, replies, strict=True)
            if any(c["name"] != self._consumer.encode() for c in pending["consumers"])
        }

    def _all_streams(self) -> list[bytes]:
        registry: Any = self._client.smembers(self._registry)
        return sorted({*registry, *self._streams})

    def _take(self, reply: Any) -> list[bytes]:
        """Lines of a reply; entries that were deleted meanwhile have none."""
        lines: list[bytes] = []
        pairs = reply.items() if isinstance(reply, dict) else reply
        for stream, entries in pairs or ():
            if isinstance(reply, dict):
                entries = [entry for part in entries for entry in part]
            for identity, fields in entries:
                self._unacknowledged[stream].append(identity)
                if stream in self._redelivered_until:
                    self._redelivered_until[stream] = identity
                if fields:  # an entry that was deleted meanwhile has none
                    lines.append(fields.get(FIELD, b"a stream entry without the field 'event'"))
        return lines

    def _claim(self) -> None:
        """Takes over entries that are pending at other consumers for long; they are then our own."""
        # By pages: XAUTOCLAIM returns where to continue.
        for stream in self._streams:
            following: Any = "0-0"
            while True:
                following, entries, *_ = self._client.xautoclaim(
                    stream, *self._me, int(1000 * self._take_over), following, justid=False
                )
                if entries:
                    self._redelivered_until[stream] = b"0"
                if following == b"0-0":
                    break

    def _start_over(self) -> None:
        self._redelivered_until = dict.fromkeys(self._streams, b"0")
        self._next_claim = 0.0
        self._has_groups = False  # a server that comes back may have lost them

    def _make_groups(self, streams: Sequence[bytes]) -> None:
        for stream in streams:
            try:
                self._client.xgroup_create(stream, self._group, id="0", mkstream=True)
            except self._redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):  # it is there already
                    raise
        self._client.sadd(self._registry, *streams)
        self._has_groups = True

    @property
    def _me(self) -> tuple[str, str]:
        return self._group, self._consumer

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (self._redis.RedisError, OSError) as error:
            raise StoreError(
                f"the Redis server at {self._name} did not give or acknowledge events ({error}); check "
                "its address, that it runs, and that it still has the streams and their group."
                f"{tls_hint(self._name)}"
            ) from error


def _before(identity: bytes) -> bytes:
    """The largest entry id below another."""
    milliseconds, number = map(int, identity.split(b"-"))
    if number:
        return b"%d-%d" % (milliseconds, number - 1)
    return b"%d-%d" % (milliseconds - 1, _LARGEST) if milliseconds else b"0-0"
