"""Names of runs in flags: `--model_dirs=din=M1,mimn=M2`."""

from collections.abc import Sequence


def named(values: Sequence[str]) -> dict[str, str]:
    """Name -> directory of runs given as NAME=PATH each.

    Raises:
      ValueError: one has no name, or two have the same.
    """
    directories: dict[str, str] = {}
    for value in values:
        name, separator, path = value.partition("=")
        if not (name and separator and path):
            raise ValueError(f"expected runs as NAME=PATH in --model_dirs; got {value!r}.")
        if name in directories:
            raise ValueError(f"expected runs of different names; {name!r} occurs twice.")
        directories[name] = path
    return directories
