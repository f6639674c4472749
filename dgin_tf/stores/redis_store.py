"""The store that several machines share: a Redis server.

Keys are `prefix:namespace:user`. Reads and writes of many users are one command each (MGET, MSET),
which Redis carries out as a whole. Only with `appendonly yes` and `appendfsync always` is everything
that the server confirmed on its disk.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dgin_tf.stores.state_store import (
    StateStore,
    StoreError,
    check_namespace,
    check_user,
    optional_package,
)

_SECONDS = 5.0  # without an answer for so long, the server counts as unreachable
_SCAN = 1024
# Redis runs a script as a whole. Digests save sending values that the server has already.
_SWAP = """
for place, key in ipairs(KEYS) do
  local held = redis.call('GET', key)
  if (held and redis.sha1hex(held) or '') ~= ARGV[2 * place - 1] then return 0 end
end
for place, key in ipairs(KEYS) do redis.call('SET', key, ARGV[2 * place]) end
return 1
"""


class RedisStore(StateStore):
    """Values in a Redis server.

    Args:
      url: `redis://[user:password@]host:port/db`, or `rediss://` for TLS.
      namespace: as for every store.
      prefix: of all keys, so that several applications can share a database.

    Raises:
      StoreError: the package redis is not installed, or the server cannot be reached.
    """

    def __init__(self, url: str, namespace: str = "", prefix: str = "dgin_tf") -> None:
        super().__init__(namespace)
        self._redis = optional_package("redis", "Redis store")
        self._prefix = check_namespace(prefix)
        self._name = without_password(url)
        with self._errors():
            self._client = connect(self._redis, url)
            self._client.ping()
            self._swap = self._client.register_script(_SWAP)

    def get_many(self, users: Sequence[int]) -> list[bytes | None]:
        keys = [self._key(user) for user in users]
        if not keys:
            return []
        with self._errors():
            values: Any = self._client.mget(keys)
        return list(values)

    def put_many(self, values: Mapping[int, bytes]) -> None:
        rows = {self._key(user): bytes(value) for user, value in values.items()}
        with self._errors():
            if rows:
                self._client.mset(rows)

    def swap_many(self, previous: Mapping[int, bytes | None], values: Mapping[int, bytes]) -> bool:
        arguments: list[str | bytes] = []
        for user, value in values.items():
            arguments += [_digest(previous[user]), bytes(value)]
        with self._errors():
            return bool(self._swap([self._key(user) for user in values], arguments))

    def delete(self, user: int) -> None:
        key = self._key(user)
        with self._errors():
            self._client.delete(key)

    def users(self) -> Iterator[int]:
        start = self._key("")
        cursor, listed_users = 0, set()
        while True:
            with self._errors():
                cursor, keys = self._client.scan(cursor, match=f"{start}*", count=_SCAN)
            for key in keys:
                user = int(key[len(start) :])
                if user not in listed_users:  # SCAN may repeat a key while the server rehashes
                    listed_users.add(user)
                    yield user
            if cursor == 0:
                return

    def _close(self) -> None:
        with self._errors():
            self._client.close()

    def _key(self, user: int | str) -> str:
        name = user if isinstance(user, str) else check_user(user)
        return f"{self._prefix}:{self._namespace}:{name}"

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (self._redis.RedisError, ValueError, OSError) as error:
            raise StoreError(
                f"the Redis server at {self._name} did not do what was asked ({error}); check its "
                "address, that it runs, and that it has memory and accepts writes."
            ) from error


def without_password(url: str) -> str:
    """A server's address as messages may show it."""
    return re.sub(r"//[^@/]*@", "//", url)


def connect(redis: Any, url: str) -> Any:
    """A client of the package `redis` that does not wait for a dead server."""
    return redis.Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)


def _digest(value: bytes | None) -> str:
    """The result of `redis.sha1hex` for a value; "" for none."""
    return "" if value is None else hashlib.sha1(value, usedforsecurity=False).hexdigest()
