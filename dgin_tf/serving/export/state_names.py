"""Flat names for a nested user state: signatures and stores hold tensors by one name each.

A model's state is nested by encoder. `{"long": {"events": {"item_id": ids}}, "user": embedding}` becomes
`{"long__events__item_id": ids, "user": embedding}`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

SEPARATOR = "__"

# A name that began or ended with "_", or held the separator, could be split in two ways.
_NAME = re.compile(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*")


def flatten_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors of a nested state by the names on their path, joined by `SEPARATOR`.

    Raises:
      ValueError: a name is empty or could not be told from two joined ones.
    """
    return dict(_leaves(state))


def unflatten_state(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flatten_state`."""
    state: dict[str, Any] = {}
    for flat_name, tensor in tensors.items():
        *path, name = flat_name.split(SEPARATOR)
        branch = state
        for part in path:
            branch = branch.setdefault(part, {})
        branch[name] = tensor
    return state


def _leaves(state: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in state.items():
        if not _NAME.fullmatch(name):
            raise ValueError(
                "names within a state must be words joined by single underscores, so that "
                f"{SEPARATOR!r} can separate them; got {name!r}. Rename the encoder or the field."
            )
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}{SEPARATOR}")
        else:
            yield prefix + name, value
