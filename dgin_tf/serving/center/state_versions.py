"""The model version whose states requests read, and the versions whose states are warm.

A new model cannot read an old model's states (the paper's out-of-sync setting): it gets a namespace of
its own, is warmed up from a prepared data set and follows the events beside the old one, which keeps
answering. Once the new states are warm, one switch makes requests read them.
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from dgin_tf.serving.export.versions import state_namespace, state_version
from dgin_tf.stores.state_store import StateStore

_KEY = 0  # the only value of its namespace


class StateVersions:
    """The versions of one model's states in a store.

    Args:
      store: the medium; its own namespace does not matter.
      name: of the model in servers.
    """

    def __init__(self, store: StateStore, name: str):
        self._store = store.scoped(f"{name}.versions")
        self._name = name

    @property
    def live(self) -> str | None:
        """Namespace of the states that requests read; None before the first switch."""
        return self._read()[1]["live"]

    @property
    def warm(self) -> list[str]:
        """Versions, with the digest of their weights, whose states are complete."""
        return self._read()[1]["warm"]

    def mark_warm(self, metadata: Mapping[str, Any], incomplete: Collection[int] = ()) -> None:
        """Marks the states of an exported version as complete.

        Args:
          metadata: the version's `model.json`.
          incomplete: users whose state began with a stream and lacks the history before.

        Raises:
          ValueError: there are such users.
        """
        if incomplete:
            raise ValueError(
                f"the states of {len(incomplete):,} users began with their events and lack the history "
                f"before: {state_namespace(metadata)} is not warm. Export the model as another version, "
                "and warm that up before its center starts."
            )
        version = state_version(metadata)
        self._change(lambda content: {"warm": sorted({*content["warm"], version})})

    def switch(self, metadata: Mapping[str, Any]) -> None:
        """Lets requests read the states of an exported version from now on.

        Raises:
          ValueError: they are not warm.
        """
        if state_version(metadata) not in self.warm:
            raise ValueError(
                f"the states of {state_version(metadata)} are not warm; warm are: "
                f"{', '.join(self.warm) or 'none'}. Run --action=warm_up with its bundle first."
            )
        self._change(lambda _: {"live": state_namespace(metadata)})

    def _change(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Replaces the content; `change` is called anew where another process was faster."""
        while True:
            data, content = self._read()
            # Compare and swap: another command may change the versions at the same time.
            text = json.dumps({**content, **change(content)}, sort_keys=True).encode()
            if self._store.swap_many({_KEY: data}, {_KEY: text}):
                return

    def _read(self) -> tuple[bytes | None, dict[str, Any]]:
        data = self._store.get(_KEY)
        return data, {"live": None, "warm": []} if data is None else json.loads(data)
