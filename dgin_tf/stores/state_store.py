"""The one interface of stores of user states and pending events: bytes by user id.

Three stores implement it: in memory (here), embedded on disk (`lmdb_store`) and Redis (`redis_store`),
which several machines share. The bytes are those of `values`.
"""

import abc
import copy
import importlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{0,99}")
_LARGEST_USER = 2**63 - 1


class StoreError(OSError):
    """A store cannot be opened, read or written; the text names it, the cause and a remedy."""


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
        """A view of this store's medium under another namespace; closing it closes nothing."""
        view = copy.copy(self)  # shares the connection
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
        """Writes all values or, on failure, none: no reader ever gets a part of them."""

    @abc.abstractmethod
    def swap_many(self, previous: Mapping[int, bytes | None], values: Mapping[int, bytes]) -> bool:
        """Writes all values if no value of these users has changed since it was read (compare and swap).

        Args:
          previous: user -> the value that was read, None for none; of every user of `values`.
          values: user -> the new value.

        Returns:
          True where the values were written, False where nothing was.
        """

    @abc.abstractmethod
    def delete(self, user: int) -> None:
        """Deletes a user's value; a user without one is no error."""

    @abc.abstractmethod
    def users(self) -> Iterator[int]:
        """All users of the namespace.

        Others may write meanwhile: users that are there from beginning to end are yielded, those that
        are added or deleted may be.
        """

    def items(self) -> Iterator[tuple[int, bytes]]:
        """Users and their values, with the guarantees of `users`; each value is complete."""
        for user in self.users():
            value = self.get(user)
            if value is not None:
                yield user, value

    def swap_each(
        self, previous: Mapping[int, bytes | None], values: Mapping[int, bytes]
    ) -> set[int]:
        """Compares and swaps each user's value alone, see `swap_many`.

        Returns:
          The users whose values were written.
        """
        # All at once first, which nearly always succeeds.
        if not values or self.swap_many(previous, values):
            return set(values)
        return {
            user
            for user, value in values.items()
            if self.swap_many({user: previous[user]}, {user: value})
        }

    def close(self) -> None:
        """Closes the medium; the store must not be used afterwards."""
        if self._owner:
            self._close()

    @abc.abstractmethod
    def _close(self) -> None:
        """Closes the medium, of the store that opened it."""

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
        rows = {check_user(user): bytes(value) for user, value in values.items()}
        with self._lock:
            self._values.setdefault(self._namespace, {}).update(rows)

    def swap_many(self, previous: Mapping[int, bytes | None], values: Mapping[int, bytes]) -> bool:
        with self._lock:
            current = self._values.get(self._namespace, {})
            if any(current.get(check_user(user)) != previous[user] for user in values):
                return False
            self.put_many(values)
            return True

    def delete(self, user: int) -> None:
        with self._lock:
            self._values.get(self._namespace, {}).pop(check_user(user), None)

    def _close(self) -> None:
        self._values.clear()

    def users(self) -> Iterator[int]:
        with self._lock:  # a copy, since others may write while it is read
            return iter(sorted(self._values.get(self._namespace, {})))


def optional_package(name: str, user: str) -> Any:
    """A package of the extra `serve`; where it is missing, a StoreError that names its user."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise StoreError(
            f'the {user} needs the package {name}; pip install "dgin_tf[serve]".'
        ) from error


def check_user(user: int) -> int:
    """The user id as a Python integer; raises ValueError where it is no whole number from 0 on."""
    number = int(user)
    if number != user or not 0 <= number <= _LARGEST_USER:
        raise ValueError(f"expected a user id between 0 and {_LARGEST_USER}; got {user!r}.")
    return number


def check_namespace(namespace: str) -> str:
    """The namespace; raises ValueError where it has characters with a meaning in a store's keys."""
    if not _NAMESPACE.fullmatch(namespace):
        raise ValueError(
            f"expected a namespace of up to 99 letters, digits, '.', '_' and '-'; got {namespace!r}."
        )
    return namespace
