"""User states in a store, each in one value together with its progress in the user's stream.

States belong to a model version: a new version has a namespace of its own beside the old one's, and a
value names the weights and schema that it belongs to, so that it is refused elsewhere.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dgin_tf.records import Arrays
from dgin_tf.serving.center.progress import Progress, state_arrays
from dgin_tf.serving.export.versions import state_namespace, state_type, value_header
from dgin_tf.state_types import narrow, widen
from dgin_tf.stores.state_store import StateStore
from dgin_tf.stores.values import DamagedValueError, StaleValueError, decode_value, encode_value


@dataclasses.dataclass(frozen=True)
class UserState:
    """One user's state.

    Attributes:
      arrays: name -> array, without the axis of users.
      progress: the part of the stream that it includes.
      data: bytes that it was read from; None for a user without a stored state.
    """

    arrays: Arrays
    progress: Progress
    data: bytes | None = None


@dataclasses.dataclass(frozen=True)
class DamagedState:
    """A stored value that is no state.

    Attributes:
      data: its bytes.
      reason: the text of the error that reading it raises.
    """

    data: bytes
    reason: str


class UserStates:
    """States of one exported version.

    Damaged ones can be set aside: they are stored a second time, in a namespace of their own, before others
    are written in their place.

    Args:
      store: the medium; its own namespace does not matter.
      metadata: the version's `model.json`.
    """

    def __init__(self, store: StateStore, metadata: Mapping[str, Any]):
        self.store = store.scoped(state_namespace(metadata))
        self.namespace = state_namespace(metadata)
        self.damaged = store.scoped(f"{self.namespace}.damaged")
        self._header = value_header(metadata)
        self._type = state_type(metadata)

    def read(self, users: Sequence[int]) -> list[UserState | None]:
        """States of users, None for those without one.

        Raises:
          StoreError: the store cannot be read.
          ValueError: a value is damaged, or another version wrote it.
        """
        states: list[UserState | None] = []
        for state in self.read_each(users):
            if isinstance(state, DamagedState):
                raise DamagedValueError(state.reason)
            states.append(state)
        return states

    def read_each(self, users: Sequence[int]) -> list[UserState | DamagedState | None]:
        """States of users, None for those without one, and damaged ones as they are.

        Raises:
          StoreError: the store cannot be read.
          StaleValueError: another version wrote a value.
        """
        # One request to the store for all users.
        values = zip(users, self.store.get_many(users), strict=True)
        return [None if data is None else self._decode_any(user, data) for user, data in values]

    def damaged_items(self) -> Iterator[tuple[int, DamagedState]]:
        """Damaged states that are still in their place, by user."""
        for user, data in self.store.items():
            state = self._decode_any(user, data)
            if isinstance(state, DamagedState):
                yield user, state

    def set_aside(self, states: Mapping[int, DamagedState]) -> None:
        """Stores damaged states a second time, so that they can be looked at when others are in their place."""
        self.damaged.put_many({user: state.data for user, state in states.items()})

    def swap(self, states: Mapping[int, UserState]) -> bool:
        """Writes states over the very bytes that they were read from; see `StateStore.swap_many`."""
        previous = {user: state.data for user, state in states.items()}
        values = {user: self.encode(state) for user, state in states.items()}
        return self.store.swap_many(previous, values)

    def items(self) -> Iterator[tuple[int, UserState]]:
        """States of all users."""
        for user, data in self.store.items():
            yield user, self.decode(user, data)

    def encode(self, state: UserState) -> bytes:
        """The one value of a state and its progress."""
        # One value, so that no crash can write the one without the other.
        arrays = {**narrow(state.arrays, self._type), **state.progress.to_arrays()}
        return encode_value(arrays, sequence=state.progress.sequence, **self._header)

    def decode(self, user: int, data: bytes) -> UserState:
        """Inverse of `encode`; raises ValueError where the value is damaged or of another version."""
        try:
            value = decode_value(data, **self._header)
            if not Progress.is_in(value.arrays):
                raise DamagedValueError("it does not say which events it includes; delete it.")
        except (DamagedValueError, StaleValueError) as error:
            raise type(error)(
                f"the state of user {user} in {self.namespace!r} cannot be used: {error}"
            ) from error
        progress = Progress.from_arrays(value.sequence, value.arrays)
        return UserState(widen(state_arrays(value.arrays)), progress, data)

    def _decode_any(self, user: int, data: bytes) -> UserState | DamagedState:
        try:
            return self.decode(user, data)
        except DamagedValueError as error:
            return DamagedState(data, str(error))
