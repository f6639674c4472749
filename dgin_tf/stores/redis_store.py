"""The store that several machines share: a Redis server.

Keys are `prefix:namespace:user`. Reads and writes of many users are one command each (MGET, MSET),
which Redis carries out as a whole. Only with `appendonly yes` and `appendfsync always` is everything
that the server confirmed on its disk.
"""

import contextlib
import hashlib
import os
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
_URL = re.compile(r"rediss?://[^/?#]*(/\d*)?")
_PREFIX = "prefix"
_TLS_FILES = {
    "ssl_ca_certs": "certificate of the authority that signed the server's",
    "ssl_certfile": "client's own certificate",
    "ssl_keyfile": "client's key",
}
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
      address: as for `connect`, and with `prefix=NAME` among its options the beginning of all keys, so
        that several applications can share a database.
      namespace: as for every store.

    Raises:
      ValueError: this is no address.
      StoreError: the package redis is not installed, or the server cannot be reached.
    """

    def __init__(self, address: str, namespace: str = "") -> None:
        super().__init__(namespace)
        self._redis = optional_package("redis", "Redis store")
        url, options = split_address(address)
        self._prefix = check_namespace(options.pop(_PREFIX, "dgin_tf"))
        self._name = without_password(url)
        self._client = _client(self._redis, url, options)
        with self._errors():
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
                user = self._user(key, start)
                if user not in listed_users:  # SCAN may repeat a key while the server rehashes
                    listed_users.add(user)
                    yield user
            if cursor == 0:
                return

    def _user(self, key: bytes, start: str) -> int:
        """The user of a key; raises StoreError where the key is another application's."""
        name = key[len(start) :]
        if not name.isdigit():
            raise StoreError(
                f"the Redis server at {self._name} has a key {key.decode(errors='replace')!r}, which is "
                "none of ours: a user's number was expected at its end. Delete it, or give the address "
                "another ?prefix=NAME."
            )
        return int(name)

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
        except (self._redis.RedisError, OSError) as error:
            raise StoreError(
                f"the Redis server at {self._name} did not do what was asked ({error}); check its "
                f"address, that it runs, and that it has memory and accepts writes.{tls_hint(self._name)}"
            ) from error


def without_password(address: str) -> str:
    """A server's address as messages may show it."""
    scheme, _, place = address.partition(":")
    # A password may hold any character, an @ too.
    slashes = "//" if place.startswith("//") else ""
    return f"{scheme}:{slashes}{place.removeprefix('//').rpartition('@')[2]}"


def split_address(address: str) -> tuple[str, dict[str, str]]:
    """URL and options of `redis://[user:password@]host:port/db?NAME=VALUE&NAME=VALUE`.

    The options are `prefix`, and with `rediss://`, for TLS, the files `ssl_ca_certs`, `ssl_certfile` and
    `ssl_keyfile`, which the package redis calls so too.

    Raises:
      ValueError: the address is none, without the password.
    """
    credentials, at, place = address.rpartition("@")
    place, _, query = place.partition("?")
    url = credentials + at + place
    options = dict(part.partition("=")[::2] for part in query.split("&") if part)
    known = {_PREFIX, *(_TLS_FILES if url.startswith("rediss:") else ())}
    if not _URL.fullmatch(url) or set(options) - known:
        raise ValueError(
            "expected a store as redis://[user:password@]host:port/db?prefix=NAME, or rediss://... with "
            f"{', '.join(f'{name}=FILE' for name in _TLS_FILES)} too; got "
            f"{without_password(address)!r}. In a password, / is written %2F, ? is %3F and # is %23."
        )
    for name, content in _TLS_FILES.items():
        if name in options and not os.path.isfile(options[name]):
            raise ValueError(
                f"expected {name} to name the file of the {content}; there is no {options[name]!r}."
            )
    return url, options


def connect(redis: Any, address: str) -> Any:
    """A client of the package `redis` that does not wait for a dead server.

    Args:
      redis: the package.
      address: see `split_address`; without a prefix.

    Raises:
      ValueError: this is no address.
    """
    url, options = split_address(address)
    if _PREFIX in options:
        raise ValueError("streams have names of their own; leave ?prefix= out of their address.")
    return _client(redis, url, options)


def tls_hint(address: str) -> str:
    """Advice behind a message about a server that speaks TLS; "" for others."""
    # Not by the error's text: a missing certificate of the client shows as a closed connection too.
    if not address.startswith("rediss:"):
        return ""
    return (
        " ?ssl_ca_certs=FILE names a certificate authority of your own, and "
        "&ssl_certfile=FILE&ssl_keyfile=FILE a certificate of this client, where the server wants one."
    )


def _client(redis: Any, url: str, options: Mapping[str, str]) -> Any:
    try:
        return redis.Redis.from_url(
            url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS, **options
        )
    except ValueError:  # its text may quote a part of the password
        raise ValueError(
            f"{without_password(url)!r} is no address of a Redis server; expected host:port/db."
        ) from None


def _digest(value: bytes | None) -> str:
    """The result of `redis.sha1hex` for a value; "" for none."""
    return "" if value is None else hashlib.sha1(value, usedforsecurity=False).hexdigest()
