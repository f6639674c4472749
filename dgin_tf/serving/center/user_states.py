"""The states of people in a store, each in one value together with how far its stream was read.

States are kept by model version: a new version has a namespace of its own beside the old one's, and a
value says once more which weights and schema it belongs to, so that it is refused elsewhere.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dgin_tf.serving.center.progress import Progress, state_arrays
from dgin_tf.serving.export.versions import state_namespace, value_header
from dgin_tf.stores.state_store import StateStore
from dgin_tf.stores.values import DamagedValueError, StaleValueError, decode_value, encode_value

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class UserState:
    """One person's state.

    Attributes:
      arrays: name -> array, without the axis of users.
      progress: what of the stream it includes.
      stored: the bytes that it was read from; None for a person of whom nothing is stored.
    """

    arrays: Arrays
    progress: Progress
    stored: bytes | None = None


class UserStates:
    """States of one exported version.

    Args:
      store: the medium; its own namespace does not matter.
      metadata: the version's `model.json`.
    """

    def __init__(self, store: StateStore, metadata: Mapping[str, Any]):
        self.store = store.scoped(state_namespace(metadata))
        self.namespace = state_namespace(metadata)
        self._marks = value_header(metadata)

    def read(self, people: Sequence[int]) -> list[UserState | None]:
        """The states of people, None for those of whom nothing is stored.

        Raises:
          StoreError: the store cannot be read.
          ValueError: a value is damaged, or another version wrote it.
        """
        found = self.store.get_many(people)
        return [
            None if value is None else self.decode(person, value)
            for person, value in zip(people, found, strict=True)
        ]

    def swap(self, states: Mapping[int, UserState]) -> bool:
        """Writes states that replace those whose `stored` they carry; see `StateStore.swap_many`."""
        return self.store.swap_many(
            {person: state.stored for person, state in states.items()},
            {person: self.encode(state) for person, state in states.items()},
        )

    def items(self) -> Iterator[tuple[int, UserState]]:
        """Everybody's state."""
        for person, value in self.store.items():
            yield person, self.decode(person, value)

    def encode(self, state: UserState) -> bytes:
        """The one value of a state and its progress."""
        arrays = {**state.arrays, **state.progress.to_arrays()}
        return encode_value(arrays, sequence=state.progress.sequence, **self._marks)

    def decode(self, person: int, value: bytes) -> UserState:
        """Inverse of `encode`; raises ValueError where the value is damaged or of another version."""
        try:
            decoded = decode_value(value, **self._marks)
        except (DamagedValueError, StaleValueError) as error:
            raise type(error)(
                f"the state of person {person} in {self.namespace!r} cannot be used: {error}"
            ) from error
        progress = Progress.from_arrays(decoded.sequence, decoded.arrays)
        return UserState(state_arrays(decoded.arrays), progress, value)
