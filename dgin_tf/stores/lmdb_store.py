"""The embedded store: an LMDB environment in a folder, for one machine.

LMDB is copy-on-write with one fsync a commit: a process that is killed in the middle of a write
leaves the values as they were. Any number of processes may read while one writes; writes are
cheapest many at a time (`put_many`).
"""

import contextlib
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dgin_tf.stores.state_store import StateStore, StoreError, check_user, optional_package

ENVIRONMENT_FILES = ("data.mdb", "lock.mdb")
# Of a meta page: magic number, bytes of a page, last page, number of the transaction (lmdb's mdb.c).
_META = struct.Struct("<16xI20xI92xQQ")
_MAGIC, _META_END = 0xBEEFC0DE, _META.size
_READ_ALL = """
import sys, lmdb
environment = lmdb.open(sys.argv[1])
with environment.begin() as transaction:
    sum(len(value) for _, value in transaction.cursor())
with environment.begin(write=True) as transaction:
    transaction.put(b"probe", bytes(1 << 14))
    transaction.abort()
"""
_PROBE_SECONDS = 600.0
_USER = struct.Struct(">Q")  # big-endian, so that LMDB's order of bytes is the order of users
_SCAN = 1024  # users listed in a transaction


class LmdbStore(StateStore):
    """Values in an LMDB environment.

    An environment may be open only once in a process: use `scoped` for further namespaces.

    Args:
      path: folder, created where it is missing.
      namespace: see `StateStore`.
      map_bytes: initial size of the memory map (address space, not disk), doubled whenever it is full.

    Raises:
      StoreError: lmdb is not installed, or the folder cannot be opened for writing.
    """

    def __init__(
        self, path: str | os.PathLike, namespace: str = "", map_bytes: int = 1 << 26
    ) -> None:
        super().__init__(namespace)
        self._lmdb = optional_package("lmdb", "LMDB store")
        self._path = os.fspath(path)
        self._process = os.getpid()
        # The map may only grow while no transaction of this process is open.
        self._lock = threading.RLock()
        with self._errors("open"):
            os.makedirs(self._path, exist_ok=True)
        self._check_whole()
        with self._errors("open"):
            self._environment = self._lmdb.open(self._path, map_size=map_bytes)

    def _check_whole(self) -> None:
        """Raises StoreError for a cut file, of which LMDB would map pages that are not there (SIGBUS)."""
        data, lock = (os.path.join(self._path, name) for name in ENVIRONMENT_FILES)
        if not os.path.exists(data):
            if os.path.exists(lock):
                raise self._damage("data.mdb is missing, though lock.mdb is there")
            return
        size = os.path.getsize(data)
        if not size:
            raise self._damage("data.mdb is empty")
        with open(data, "rb") as file:
            head = file.read(_META_END)
            if len(head) < _META_END or _META.unpack_from(head)[0] != _MAGIC:
                raise self._damage("data.mdb is no LMDB file")
            page_bytes = _META.unpack_from(head)[1]
            file.seek(page_bytes)
            metas = [_META.unpack_from(head)]
            head = file.read(_META_END)
        metas += [_META.unpack_from(head)] if len(head) == _META_END else []
        last_page = max(metas, key=lambda meta: meta[3])[2]
        # A file may lack pages at its end that were allocated and freed in one transaction.
        if size < (last_page + 1) * page_bytes and not _can_be_read(self._path):
            raise self._damage(f"data.mdb was cut short at {size:,} bytes")

    def _damage(self, fault: str) -> StoreError:
        return StoreError(
            f"the LMDB store {self._path!r} is damaged: {fault}; put it back from a copy or a snapshot, or "
            "delete the folder and fill it again."
        )

    def get_many(self, users: Sequence[int]) -> list[bytes | None]:
        keys = [self._key(user) for user in users]
        with self._transaction("read") as transaction:
            return [transaction.get(key) for key in keys]

    def put_many(self, values: Mapping[int, bytes]) -> None:
        self._write([(self._key(user), bytes(value)) for user, value in values.items()])

    def swap_many(self, previous: Mapping[int, bytes | None], values: Mapping[int, bytes]) -> bool:
        rows = [(self._key(user), bytes(value)) for user, value in values.items()]
        return self._write(rows, [(self._key(user), previous[user]) for user in values])

    def delete(self, user: int) -> None:
        self._write([(self._key(user), None)])

    def copy(self, path: str | os.PathLike) -> None:
        """Copies all namespaces, as of one moment and without free pages, into an empty folder."""
        with self._errors("copy"):
            os.makedirs(path, exist_ok=True)
            self._environment.copy(os.fspath(path), compact=True)

    def _write(
        self,
        rows: Sequence[tuple[bytes, bytes | None]],
        previous: Sequence[tuple[bytes, bytes | None]] = (),
    ) -> bool:
        """Writes, or for None deletes, all rows in one transaction, in a larger map if necessary.

        Returns:
          False, and nothing is written, where the keys of `previous` have other values.
        """
        with self._lock:
            while True:
                try:
                    with self._transaction("write") as transaction:
                        if any(transaction.get(key) != value for key, value in previous):
                            return False
                        for key, value in rows:
                            if value is None:
                                transaction.delete(key)
                            else:
                                transaction.put(key, value)
                    return True
                except self._lmdb.MapFullError:
                    with self._errors("grow"):
                        self._environment.set_mapsize(2 * self._environment.info()["map_size"])

    def users(self) -> Iterator[int]:
        prefix, following = self._key(0)[: -_USER.size], 0
        while True:
            # Short transactions: an open one holds back the reuse of pages.
            users: list[int] = []
            with self._transaction("read") as transaction, transaction.cursor() as cursor:
                more = cursor.set_range(prefix + _USER.pack(following))
                while more and len(users) < _SCAN and cursor.key().startswith(prefix):
                    users.append(_USER.unpack(cursor.key()[len(prefix) :])[0])
                    more = cursor.next()
            yield from users
            if len(users) < _SCAN:
                return
            following = users[-1] + 1

    def _close(self) -> None:
        with self._lock:
            self._environment.close()

    def _key(self, user: int) -> bytes:
        # The zero byte ends the namespace, so that no namespace is the beginning of another's keys.
        return self._namespace.encode() + b"\0" + _USER.pack(check_user(user))

    @contextlib.contextmanager
    def _transaction(self, purpose: str) -> Iterator[Any]:
        """An open transaction, committed at the end or, on an error, undone."""
        if os.getpid() != self._process:
            raise StoreError(
                f"the LMDB store {self._path!r} was opened before this process was forked, which LMDB "
                "does not allow; open it in the process that uses it."
            )
        with self._lock, self._errors(purpose):
            try:
                transaction = self._environment.begin(write=purpose == "write")
            except self._lmdb.MapResizedError:  # another process has enlarged the map
                self._environment.set_mapsize(0)
                transaction = self._environment.begin(write=purpose == "write")
            with transaction:
                yield transaction

    @contextlib.contextmanager
    def _errors(self, purpose: str) -> Iterator[None]:
        try:
            yield
        except self._lmdb.MapFullError:
            raise
        except (self._lmdb.Error, OSError) as error:
            raise StoreError(
                f"could not {purpose} the LMDB store {self._path!r} ({error}); check that the folder "
                "is writable, that the disk has space and that no other store has it open here."
            ) from error


def _can_be_read(path: str) -> bool:
    """True unless a process that reads the whole environment, and would write to it, fails or is killed."""
    command = [sys.executable, "-c", _READ_ALL, path]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:  # another process holds the lock of writers: it can be read
        return True
    return not done.returncode
