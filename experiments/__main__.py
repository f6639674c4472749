"""The command `dgin`, of which every command is a subcommand: `dgin train --config=dien/movielens:din ...`.

`dgin train` does what `python -m experiments.train` does; `dgin train --help` lists its flags.
"""

import ast
import difflib
import importlib.util
import pathlib
import runpy
import sys

from dgin_tf.commands.command_line import FAILURE

_PACKAGES = ("data_prep", "experiments")  # beside each other
_IS_COMMAND = "command_line.run("


def main() -> None:
    """Runs a subcommand with the arguments behind its name, as `python -m` would."""
    if len(sys.argv) < 2 or sys.argv[1] in ("--help", "-h", "help"):
        sys.stdout.write(_help())
        return
    # Flags have underscores, and so have commands; dashes are accepted for both.
    name = sys.argv[1].replace("-", "_")
    known = commands()
    if name not in known:
        alike = difflib.get_close_matches(name, known)
        hint = f"did you mean {' or '.join(alike)}?" if alike else f"there are {', '.join(known)}."
        sys.stderr.write(f"error: dgin has no command {sys.argv[1]!r}; {hint}\n")
        sys.exit(FAILURE)
    sys.argv[:2] = [f"{sys.argv[0]} {name}"]
    runpy.run_module(known[name], run_name="__main__", alter_sys=True)


def commands() -> dict[str, str]:
    """Name -> module of every command."""
    root = pathlib.Path(__file__).parents[1]
    found = {}
    for path in (path for package in _PACKAGES for path in sorted((root / package).rglob("*.py"))):
        if path == pathlib.Path(__file__) or _IS_COMMAND not in _source(path):
            continue
        place = path.parent if path.stem == "__main__" else path.with_suffix("")
        found[place.name] = ".".join(place.relative_to(root).parts)
    return found


def _help() -> str:
    """What each command does, without importing any of them, which would take seconds."""
    lines = ["usage: dgin COMMAND --flag=value ...", ""]
    for name, module in commands().items():
        spec = importlib.util.find_spec(module)
        path = pathlib.Path(spec.origin) if spec and spec.origin else pathlib.Path()
        if path.name == "__init__.py":
            path = path.with_name("__main__.py")
        first_line = (ast.get_docstring(ast.parse(_source(path))) or "").partition("\n")[0]
        summary = first_line.partition(": `")[0].rstrip(".")
        lines.append(f"  {name:18} {summary}")
    return "\n".join([*lines, "", "dgin COMMAND --help lists a command's flags.", ""])


def _source(path: pathlib.Path) -> str:
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
