"""Opens a store by its address, as flags and configurations name it."""

from dgin_tf.stores.lmdb_store import LmdbStore
from dgin_tf.stores.redis_store import RedisStore, without_password
from dgin_tf.stores.state_store import InMemoryStore, StateStore


def open_store(address: str, namespace: str = "") -> StateStore:
    """Opens the store at an address.

    Args:
      address: `memory:`, `lmdb:PATH` or `redis://host:port/db?prefix=NAME` (the prefix may be left
        out, and `rediss://` takes certificates, see `redis_store.split_address`).
      namespace: see `StateStore`.

    Raises:
      ValueError: the address is none of these.
      StoreError: the store cannot be opened.
    """
    scheme, _, rest = address.partition(":")
    if address == "memory:":
        return InMemoryStore(namespace)
    if scheme == "lmdb" and rest:
        return LmdbStore(rest, namespace)
    if scheme in ("redis", "rediss"):
        return RedisStore(address, namespace)
    raise ValueError(
        "expected a store as memory:, lmdb:PATH or redis://host:port/db?prefix=NAME; got "
        f"{without_password(address)!r}."
    )
