"""What people's groups mean to an exported model, kept until they do something or the model changes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dgin_tf.serving.export.versions import state_namespace, value_header
from dgin_tf.stores.state_store import StateStore
from dgin_tf.stores.values import StaleValueError, decode_value, encode_value

Arrays = dict[str, np.ndarray]


class CachedGroups:
    """States of groups by person, each with the version of what the person did.

    Args:
      store: the medium; its own namespace does not matter.
      metadata: the model's `model.json`.
    """

    def __init__(self, store: StateStore, metadata: Mapping[str, Any]):
        self._store = store.scoped(state_namespace(metadata))
        self._marks = value_header(metadata)

    def read(self, person: int, version: int) -> Arrays | None:
        """The state of this version, name -> [1, ...]; None where there is none or another one."""
        data = self._store.get(person) if person >= 0 else None
        if data is None:
            return None
        try:
            value = decode_value(data, **self._marks)
        except StaleValueError:
            return None  # of the model before, which had the same number
        return dict(value.arrays) if value.sequence == version else None

    def write(self, states: Mapping[int, tuple[int, Mapping[str, np.ndarray]]]) -> None:
        """Keeps states in the place of those before, person -> (version, state)."""
        self._store.put_many(
            {
                person: encode_value(state, sequence=version, **self._marks)
                for person, (version, state) in states.items()
            }
        )
