"""Runs commands quickly: a process that has imported TensorFlow forks one for each of them.

What is forked is a whole command, `python -m MODULE FLAGS`: only the imports of libraries are done before.
TensorFlow has run nothing yet in the process that forks, so that its threads are the child's own. A command
is imported in its child, since several commands define flags of the same names.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
_LONGEST = 300  # seconds of a command, which may be a server that should not have started


@dataclasses.dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def text(self):
        """What it printed on both streams."""
        return self.stdout + self.stderr

    @property
    def errors(self):
        """Lines that begin with error:, of which a command that refuses prints one."""
        return [line for line in self.text.splitlines() if line.startswith("error: ")]


class ForkedCommands:
    """Starts commands, one at a time.

    Args:
      folder: takes their output.
    """

    def __init__(self, folder):
        self._files = folder / "stdout", folder / "stderr"
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked_commands"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, module, *arguments):
        """Starts a command; returns its process id."""
        for path in self._files:  # nobody should read what the command before wrote
            path.unlink(missing_ok=True)
        request = [module, *map(str, arguments), *map(str, self._files)]
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def wait(self):
        """Waits for the command that was started."""
        code = int(self._process.stdout.readline())
        return Done(code, *(path.read_text() for path in self._files))

    def run(self, module, *arguments):
        """Runs a command to its end."""
        self.start(module, *arguments)
        return self.wait()

    def succeed(self, module, *arguments):
        """Runs a command, which must succeed; returns what it printed."""
        done = self.run(module, *arguments)
        assert done.returncode == 0, f"{module} {arguments}: {done.text[-3000:]}"
        return done.text

    @contextlib.contextmanager
    def running(self, module, *arguments):
        """A command that runs meanwhile; gives the file of its output."""
        pid = self.start(module, *arguments)
        try:
            yield self._files[0]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.wait()

    def close(self):
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def _run_child(module, arguments, files):
    for descriptor, path in zip((1, 2), files, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = [module, *arguments]
    signal.alarm(_LONGEST)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()


def main():
    """For each line, a module, its flags and two files: the child's process id, then how it ended."""
    import experiments.analysis.searches
    import experiments.running.publishing  # noqa: F401

    for line in sys.stdin:
        module, *arguments, stdout, stderr = json.loads(line)
        child = os.fork()
        if not child:
            _run_child(module, arguments, (stdout, stderr))
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        status = os.waitpid(child, 0)[1]
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
