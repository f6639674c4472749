"""Runs commands quickly: a process that has imported everything forks one child for each of them.

What is forked is a whole command, `python -m MODULE FLAGS`; only the imports of libraries are done before,
and TensorFlow has run nothing yet in this process, so that its threads are the child's own.
"""

import dataclasses
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback

_LONGEST = 300  # seconds of a command
ROOT = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and what it printed on both streams."""

    code: int
    text: str

    @property
    def errors(self):
        """Lines that begin with error:, of which a command that refuses prints one."""
        return [line for line in self.text.splitlines() if line.startswith("error: ")]


class Commands:
    """The process that forks commands; a context manager."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.commands.processes"],
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_):
        self._process.communicate()

    def run(self, module, *flags):
        """Runs a command to its end."""
        with tempfile.NamedTemporaryFile("r") as log:
            line = json.dumps([module, log.name, *map(str, flags)])
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            return Ended(code, log.read())

    def succeed(self, module, *flags):
        """Runs a command, which must succeed; returns what it printed."""
        ended = self.run(module, *flags)
        assert ended.code == 0, f"{module} {' '.join(map(str, flags))}: {ended.text[-3000:]}"
        return ended.text


def _import_libraries():
    import experiments.analysis.searches
    import experiments.running.publishing  # noqa: F401


def _run(module, log, *flags):
    descriptor = os.open(log, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = [module, *flags]
    signal.alarm(_LONGEST)  # a server that should not have started
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main():
    """For each line, a module, the file of its output and its flags: the exit code."""
    _import_libraries()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            code = _run(*json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 1)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
