"""Copies of one namespace of a store in a folder, from which it can be restored.

LMDB copies itself, as of one moment and without its free pages. Any other store is read user by user
into a file of records, each with its checksum; a value that is written meanwhile may be the old or the
new one, but every value is complete.
"""

import contextlib
import itertools
import pathlib
import struct
from collections.abc import Generator

from dgin_tf.records import read_records, write_records
from dgin_tf.stores.lmdb_store import ENVIRONMENT_FILES, LmdbStore
from dgin_tf.stores.state_store import StateStore

_VALUES, _ENVIRONMENT = "values.tfrecord", "store"
# Names of the files of a dump, relative to its folder.
FILES = (_VALUES, *(f"{_ENVIRONMENT}/{name}" for name in ENVIRONMENT_FILES))
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


def restore_dump(store: StateStore, folder: pathlib.Path, namespace: str) -> int:
    """Replaces the store's namespace by that of a folder that `write_dump` wrote.

    Others may read meanwhile, and get a user's old or new value. After an interruption it can be run
    again.

    Returns:
      Number of users in the namespace.
    """
    users: set[int] = set()
    with contextlib.closing(read_dump(folder, namespace)) as items:
        while chunk := dict(itertools.islice(items, _CHUNK)):
            store.put_many(chunk)
            users.update(chunk)
    for user in store.users():
        if user not in users:  # one that came after the dump
            store.delete(user)
    return len(users)
