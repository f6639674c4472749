"""Configs by path, by name or by module: `--config=dien/movielens:din` works from any directory."""

import difflib
import importlib.util
import os
import pathlib
from typing import Any

from absl import flags
from ml_collections import config_flags

import experiments
from dgin_tf.models.base import MODELS

_PACKAGE = pathlib.Path(experiments.__file__).parent
_DEFAULTS = pathlib.Path("running/defaults.py")
_GET_CONFIG = "\ndef get_config("
_NO_DATA = ("defaults", "variants")  # they have settings of models, and none of a data set


def names() -> list[str]:
    """Names of the configs in the package, such as `dien/movielens`; `defaults` are of no data set."""
    return ["defaults", *sorted(_paths())]


def find(config: str) -> str:
    """Path of a config's file, with the model that was asked for behind a colon.

    Args:
      config: a file (`my/config.py`), a name (`dien/movielens`, see `names`) or a module that can be
        imported (`experiments.dien.movielens`); each with `:model` behind it, or without.

    Returns:
      `PATH` or `PATH:model`.

    Raises:
      ValueError: there is no such config; names those that are called alike.
    """
    place, colon, model = config.partition(":")
    path = _path(place)
    if path is None:
        raise ValueError(
            f"expected --config=FILE.py, a name such as dien/movielens or a module such as "
            f"experiments.dien.movielens, with :model behind it; got {config!r}.{_alike(place)}"
        )
    return f"{path}{colon}{model}"


def define_config(name: str = "config") -> flags.FlagHolder:
    """Defines the flag of a config, `--config=dien/movielens:din`, and `--config.x.y` of its settings."""
    holder = config_flags.DEFINE_config_file(
        name,
        None,
        "Config: a file, a name such as dien/movielens or a module, with :model behind it.",
    )
    # The library's flag opens a path; this one finds it first.
    flag = flags.FLAGS[name]
    flag.parser = _ConfigParser(flag.parser)
    return holder


class _ConfigParser(flags.ArgumentParser):
    """Finds a config, and has another parser load its file."""

    def __init__(self, parser: flags.ArgumentParser):
        self._parser = parser

    def parse(self, argument: str) -> Any:
        return self._parser.parse(find(argument))

    def flag_type(self) -> str:
        return self._parser.flag_type()


def _path(place: str) -> pathlib.Path | None:
    path = pathlib.Path(place)
    if path.is_file():
        return path
    # A path of this project's checkout, from anywhere.
    if path.suffix == ".py" and path.parts[:1] == (experiments.__name__,):
        return _existing(_PACKAGE.joinpath(*path.parts[1:]))
    if place == "defaults":
        return _PACKAGE / _DEFAULTS
    if place in _paths():
        return _PACKAGE / f"{place}.py"
    if all(part.isidentifier() for part in place.split(".")):
        return _module(place)
    return None


def _module(name: str) -> pathlib.Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # a parent is none
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    return _existing(pathlib.Path(spec.origin))


def _existing(path: pathlib.Path) -> pathlib.Path | None:
    return path if path.is_file() and _has_config(path) else None


def _paths() -> dict[str, pathlib.Path]:
    """Name -> file of every config in the package's folders of papers."""
    files = (path for path in _PACKAGE.glob("*/*.py") if path.stem not in _NO_DATA)
    return {
        path.relative_to(_PACKAGE).with_suffix("").as_posix(): path
        for path in files
        if _has_config(path)
    }


def _has_config(path: pathlib.Path) -> bool:
    return _GET_CONFIG in path.read_text(encoding="utf-8")


def _alike(place: str) -> str:
    """A sentence with the names that are written alike, or with all of them."""
    known = names()
    short = place.removesuffix(".py").replace(".", "/").replace(os.sep, "/")
    short = short.removeprefix(f"{experiments.__name__}/")
    alike = difflib.get_close_matches(short, known, n=3, cutoff=0.6)
    # A name without its folder, or without its data set.
    alike += [name for name in known if short and short in name.split("/") and name not in alike]
    if short in MODELS:
        alike = [f"{name}:{short}" for name in ("defaults", "dien/movielens")]
    if alike:
        return f" Did you mean {' or '.join(alike)}?"
    return f" There are {', '.join(known)}."
