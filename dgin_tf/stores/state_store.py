"""The one interface under which user states and late events are kept: bytes by user id.

Three stores follow it: in memory (here), embedded on disk (`lmdb_store`) and Redis (`redis_store`),
which several machines share. What the bytes mean is the matter of `values`.
"""

import abc
import copy
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{0,99}")
_LARGEST_USER = 2**63 - 1


class StoreError(OSError):
    """A store cannot be opened, read or written; the text says which one, why and what to do."""


class StateStore(abc.ABC):
    """Values, as bytes, by user id within a namespace.

    Users are whole numbers from 0 on: the dense ids of the schema. Stores may be shared by threads,
    never across a fork. Every method raises `StoreError` where the medium fails.

    Args:
      namespace: up to 99 letters, digits, `.`, `_` and `-`; values of different namespaces never meet.
    """

    def __init__(self, namespace: str = ""):
        self._namespace = check_namespace(namespace)
        self._owner = True

    def scoped(self, namespace: str) -> Self:
        """The same medium and connection under another namespace; closing it closes nothing."""
        view = copy.copy(self)
        view._namespace = check_namespace(namespace)
        view._owner = False
        return view

    def get(self, user: int) -> bytes | None:
        """The user's value, or None where there is none."""
        return self.get_many([user])[0]

    @abc.abstractmethod
    def get_many(self, users: Sequence[int]) -> list[bytes | None]:
        """The values of users, None for those that have none."""

    @abc.abstractmethod
    def put_many(self, values: Mapping[int, bytes]) -> None:
        """Writes all values or, where it fails, none: no reader ever sees a part of them."""

    @abc.abstractmethod
    def swap_many(self, expected: Mapping[int, bytes | None], values: Mapping[int, bytes]) -> bool:
        """Writes all values if nobody has written those users since they were read.

        Args:
          expected: what was read of each user of `values`, None for nothing.
          values: what to write.

        Returns:
          Whether the values were written; otherwise nothing was.
        """

    @abc.abstractmethod
    def delete(self, user: int) -> None:
        """Forgets a user; one that is not there is no error."""

    @abc.abstractmethod
    def users(self) -> Iterator[int]:
        """All users of the namespace.

        Others may write meanwhile: whoever is there from beginning to end is yielded, whoever comes
        or goes may or may not be.
        """

    def items(self) -> Iterator[tuple[int, bytes]]:
        """Users and their values, under the promise of `users`; each value is whole."""
        for user in self.users():
            value = self.get(user)
            if value is not None:
                yield user, value

    def swap_each(
        self, expected: Mapping[int, bytes | None], values: Mapping[int, bytes]
    ) -> set[int]:
        """As `swap_many`, but where somebody wrote one of the users, only that one is left out.

        Returns:
          The users whose values were written.
        """
        if not values or self.swap_many(expected, values):
            return set(values)
        return {
            user
            for user, value in values.items()
            if self.swap_many({user: expected[user]}, {user: value})
        }

    def close(self) -> None:
        """Lets go of the medium; the store is not to be used afterwards."""
        if self._owner:
            self._close()

    @abc.abstractmethod
    def _close(self) -> None:
        """What `close` does for the store that opened the medium."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class InMemoryStore(StateStore):
    """Values in this process alone, gone when it ends: for tests and for trying things out."""

    def __init__(self, namespace: str = ""):
        super().__init__(namespace)
        self._values: dict[str, dict[int, bytes]] = {}
        self._lock = threading.RLock()

    def get_many(self, users: Sequence[int]) -> list[bytes | None]:
        with self._lock:
            values = self._values.get(self._namespace, {})
            return [values.get(check_user(user)) for user in users]

    def put_many(self, values: Mapping[int, bytes]) -> None:
        checked = {check_user(user): bytes(value) for user, value in values.items()}
        with self._lock:
            self._values.setdefault(self._namespace, {}).update(checked)

    def swap_many(self, expected: Mapping[int, bytes | None], values: Mapping[int, bytes]) -> bool:
        with self._lock:
            held = self._values.get(self._namespace, {})
            if any(held.get(check_user(user)) != expected[user] for user in values):
                return False
            self.put_many(values)
            return True

    def delete(self, user: int) -> None:
        with self._lock:
            self._values.get(self._namespace, {}).pop(check_user(user), None)

    def _close(self) -> None:
        self._values.clear()

    def users(self) -> Iterator[int]:
        with self._lock:
            return iter(sorted(self._values.get(self._namespace, {})))


def check_user(user: int) -> int:
    """The user id as a Python integer; raises ValueError where it is no whole number from 0 on."""
    number = int(user)
    if number != user or not 0 <= number <= _LARGEST_USER:
        raise ValueError(f"expected a user id between 0 and {_LARGEST_USER}; got {user!r}.")
    return number


def check_namespace(namespace: str) -> str:
    """The namespace; raises ValueError where it has a character that no store could keep apart."""
    if not _NAMESPACE.fullmatch(namespace):
        raise ValueError(
            f"expected a namespace of up to 99 letters, digits, '.', '_' and '-'; got {namespace!r}."
        )
    return namespace
