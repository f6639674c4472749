"""Copies of one namespace of a store in a folder, from which it can be brought back.

LMDB copies itself, as of one moment and without its free pages. Any other store is read user by user
into a file of records, each with its checksum; what is written meanwhile may or may not be in it, but
every value is whole.
"""

import contextlib
import pathlib
import struct
from collections.abc import Generator

from dgin_tf.records import read_records, write_records
from dgin_tf.stores.lmdb_store import LmdbStore
from dgin_tf.stores.state_store import StateStore

_VALUES, _ENVIRONMENT = "values.tfrecord", "store"
_USER = struct.Struct("<q")
_CHUNK = 1000  # users written at once


def write_dump(store: StateStore, folder: pathlib.Path) -> None:
    """Writes the store's namespace into an empty folder.

    Raises:
      StoreError: the store cannot be read.
      OSError: the folder cannot be written.
    """
    if isinstance(store, LmdbStore):
        store.copy(folder / _ENVIRONMENT)
        return
    write_records(folder / _VALUES, (_USER.pack(user) + value for user, value in store.items()))


def read_dump(folder: pathlib.Path, namespace: str) -> Generator[tuple[int, bytes], None, None]:
    """Users and values of a namespace in a folder that `write_dump` wrote.

    Raises:
      ValueError: the file of records is damaged.
    """
    if (folder / _ENVIRONMENT).is_dir():
        with LmdbStore(folder / _ENVIRONMENT, namespace) as store:
            yield from store.items()
        return
    for record in read_records(folder / _VALUES):
        yield _USER.unpack_from(record)[0], record[_USER.size :]


def bring_back(store: StateStore, folder: pathlib.Path, namespace: str) -> int:
    """Makes the store's namespace what it was when the folder was written.

    Others may read meanwhile; each of them sees a user's old or new value. Where it is interrupted,
    it can be run again.

    Returns:
      How many users the namespace has now.
    """
    kept: set[int] = set()
    with contextlib.closing(read_dump(folder, namespace)) as found:
        chunk: dict[int, bytes] = {}
        for user, value in found:
            chunk[user] = value
            kept.add(user)
            if len(chunk) == _CHUNK:
                store.put_many(chunk)
                chunk = {}
        store.put_many(chunk)
    for user in store.users():
        if user not in kept:
            store.delete(user)
    return len(kept)
