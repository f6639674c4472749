"""The program that decides a run's figures: a digest of source files and versions of packages."""

import ast
import contextlib
import functools
import hashlib
import pathlib
import platform
from importlib import metadata

import dgin_tf
from dgin_tf.models import registry

PROGRAM = "program"  # in the config of a run and in a common result: the digest
_ROOT = pathlib.Path(dgin_tf.__file__).parents[1]
# A run goes through these modules, that of its model's class, and all of the package that they import.
_ENTRIES = ("experiments.running.tasks", "dgin_tf.training.loop")
_PACKAGES = ("tensorflow", "tf-keras", "tensorflow-recommenders", "numpy")


@functools.cache
def program_digest(model: str) -> str:
    """Digest of all that decides the figures of a model's runs, beside config, seed, data and machine.

    It is of the source files that training and evaluation of this model go through, so that a change of
    another model leaves it as it is, and of the versions of the packages below them. Comments, docstrings
    and layout of the files do not count.

    Args:
      model: its name in `dgin_tf.models.registry.MODELS`.

    Returns:
      Twelve hexadecimal digits.

    Raises:
      ValueError: there is no such model.
    """
    modules: dict[str, str] = {}
    waiting = [*_ENTRIES, registry.find(model).__module__]
    while waiting:
        name = waiting.pop()
        if name not in modules and (path := _ROOT / f"{name.replace('.', '/')}.py").is_file():
            modules[name], imports = _read(path)
            waiting += imports
    packages = {name: version for name, version in versions().items() if name in _PACKAGES}
    text = repr((sorted(modules.items()), sorted(packages.items())))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    # The metadata of an editable installation keep the version of its day; the package has its own.
    versions_by_name = {"python": platform.python_version(), "dgin_tf": dgin_tf.__version__}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):  # a checkout is not installed
            versions_by_name[package] = metadata.version(package)
    return versions_by_name


@functools.cache
def _read(path: pathlib.Path) -> tuple[str, tuple[str, ...]]:
    """Code of a file without comments and docstrings, and the modules of the package it may import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # What is imported is a module of a package, or a name in a module.
            imports += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body[0] = ast.Pass()
    return ast.unparse(tree), tuple(name for name in imports if name.startswith("dgin_tf."))
