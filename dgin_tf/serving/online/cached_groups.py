"""States of DGIN's groups by user, cached until the user does something or the model is replaced."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dgin_tf.records import Arrays
from dgin_tf.serving.export.versions import state_namespace, state_type, value_header
from dgin_tf.state_types import narrow, widen
from dgin_tf.stores.state_store import StateStore
from dgin_tf.stores.values import DamagedValueError, StaleValueError, decode_value, encode_value


class CachedGroups:
    """States of groups by user, each with the version of the user's events.

    Args:
      store: the medium; its own namespace does not matter.
      metadata: the model's `model.json`.
    """

    def __init__(self, store: StateStore, metadata: Mapping[str, Any]):
        self._store = store.scoped(state_namespace(metadata))
        self._header = value_header(metadata)
        self._type = state_type(metadata)

    def read(self, user: int, version: int) -> Arrays | None:
        """The state of this version, name -> [1, ...]; None where there is none or another one."""
        data = self._store.get(user) if user >= 0 else None
        if data is None:
            return None
        try:
            value = decode_value(data, **self._header)
        except (StaleValueError, DamagedValueError):
            return None  # damaged, or of an earlier model that had the same number
        return widen(value.arrays) if value.sequence == version else None

    def write(self, states: Mapping[int, tuple[int, Mapping[str, np.ndarray]]]) -> int:
        """Replaces states, user -> (version, state); returns their bytes."""
        values = {
            user: encode_value(narrow(state, self._type), sequence=version, **self._header)
            for user, (version, state) in states.items()
        }
        self._store.put_many(values)
        return sum(map(len, values.values()))
