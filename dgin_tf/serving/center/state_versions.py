"""Which model version's states requests are answered from, and which are warm.

A new model cannot read an old model's states (the paper's out-of-sync setting): it gets a namespace of
its own, is warmed up from a prepared data set and follows the events beside the old one, which goes on
answering. Once the new states are warm, one switch makes requests read them.
"""

import json
import os
import pathlib
from typing import Any

from dgin_tf.serving.export.versions import ASSETS, METADATA_FILE, state_namespace, state_version
from dgin_tf.stores.state_store import StateStore

_KEY = 0  # the only value of its namespace


class StateVersions:
    """The versions of one model's states in a store.

    Args:
      store: the medium; its own namespace does not matter.
      name: of the model, as servers know it.
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

    def mark_warm(self, metadata: dict[str, Any]) -> None:
        """Says that the states of an exported version are complete."""
        self._change(lambda content: {*content["warm"], state_version(metadata)}, "warm")

    def switch(self, metadata: dict[str, Any]) -> None:
        """Lets requests read the states of an exported version from now on.

        Raises:
          ValueError: they are not warm.
        """
        if state_version(metadata) not in self.warm:
            raise ValueError(
                f"the states of {state_version(metadata)} are not warm; warm are: "
                f"{', '.join(self.warm) or 'none'}. Run --action=warm_up with its bundle first."
            )
        self._change(lambda _: state_namespace(metadata), "live")

    def live_bundle(self, export_dir: str | os.PathLike) -> pathlib.Path:
        """Directory of the exported version that requests are to be answered with.

        Raises:
          ValueError: nothing was switched to, or the version is not in `export_dir`.
        """
        if self.live is None:
            raise ValueError(
                f"no version of {self._name!r} is live; run --action=switch with a bundle whose states "
                "are warm."
            )
        number = self.live.rpartition(".")[2]
        version = pathlib.Path(export_dir) / number
        if not (version / ASSETS / METADATA_FILE).is_file():
            raise ValueError(
                f"requests are to be answered from the states of {self.live}, but there is no version "
                f"{number} in {os.fspath(export_dir)!r}; export it there, or switch."
            )
        return version

    def _change(self, value, name: str) -> None:
        while True:
            held, content = self._read()
            new = value(content)
            content[name] = sorted(new) if isinstance(new, set) else new
            text = json.dumps(content, sort_keys=True).encode()
            if self._store.swap_many({_KEY: held}, {_KEY: text}):
                return

    def _read(self) -> tuple[bytes | None, dict[str, Any]]:
        held = self._store.get(_KEY)
        return held, {"live": None, "warm": []} if held is None else json.loads(held)
