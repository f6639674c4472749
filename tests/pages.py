"""The commands and programs that README and docs/ show, and a reader who follows a page from top to bottom."""

import contextlib
import dataclasses
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

# An environment is there already: a page's .venv is the one that runs the tests.
_INSTALL = re.compile(r"python3 -m venv \.venv && \.venv/bin/pip install .*?(?: && |$)")
# What a page tells to run and is not run there: this suite itself, and what another page runs.
_NOT_RUN = {"README.md": ("-m pytest", "-m experiments.quickstart")}
# Commands that go on until they are stopped, and what they print when they are ready.
_SERVERS = {
    "experiments.serve": "http://",
    "experiments.explore": "http://",
    "--follow": "follows",
    "tensorboard": "http://",
}
_PORTS = ("6006", "8500", "8501", "8600")
_SECONDS = 900


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
      page: where it is.
      line: number of its first line.
      language: behind the fence's backticks.
      title: file name that the block is shown under; empty for none.
      text: without the fences.
    """

    page: pathlib.Path
    line: int
    language: str
    title: str
    text: str

    def commands(self) -> list[str]:
        """Shell commands, comments left out, continued lines joined."""
        commands, pending = [], ""
        for line in self.text.splitlines():
            if not pending and (not line.strip() or line.lstrip().startswith("#")):
                continue
            pending += line + "\n"
            if not line.endswith("\\") and _is_complete(pending):
                commands.append(pending.replace("\\\n", "").strip())
                pending = ""
        assert not pending, f"{self.page.name}, line {self.line}: an unfinished command"
        return commands


def _is_complete(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:  # an open quote
        return False
    return True


def blocks(page: pathlib.Path, *languages: str) -> list[Block]:
    """Blocks of a page in these languages, or in all, in order."""
    text = page.read_text(encoding="utf-8")
    fences = re.finditer(
        r'^```(\w+)(?: title="([^"]+)")?[^\n]*\n(.*?)^```$', text, re.DOTALL | re.MULTILINE
    )
    return [
        Block(page, text.count("\n", 0, match.start(3)) + 1, match[1], match[2] or "", match[3])
        for match in fences
        if not languages or match[1] in languages
    ]


class Reader:
    """Follows a page in a folder of its own.

    Args:
      folder: where commands run; holds the logs that the page takes for granted.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._servers: list[subprocess.Popen] = []
        self._ports = {port: _free_port() for port in _PORTS}
        (folder / ".venv").symlink_to(sys.prefix)
        # An answer that is an error ends a page's test, which curl by itself does not.
        (folder / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.fspath(ROOT),
            "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "CURL_HOME": os.fspath(folder),
            "CUDA_VISIBLE_DEVICES": "",
            "MPLBACKEND": "agg",
        }

    def follow(self, page: pathlib.Path) -> None:
        """Runs all blocks of a page, and stops its servers at the end."""
        try:
            for block in blocks(page):
                if block.title:
                    (self._folder / block.title).write_text(block.text, encoding="utf-8")
                elif block.language == "python":
                    self._run([sys.executable, "-c", block.text], block)
                elif block.language == "bash":
                    for command in block.commands():
                        self._run_shell(command, block)
            assert [server.args for server in self._servers if server.poll() is not None] == []
        finally:
            for server in self._servers:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(server.pid, signal.SIGKILL)
                server.wait()

    def _run_shell(self, command: str, block: Block) -> None:
        command = _INSTALL.sub("", command)
        elsewhere = _NOT_RUN.get(block.page.name, ())
        if not command or any(part in command for part in elsewhere):
            return
        for shown, free in self._ports.items():
            command = re.sub(rf"\b{shown}\b", str(free), command)
        for name, ready in _SERVERS.items():
            if name in command:
                self._start(command, ready, block)
                return
        self._run(["bash", "-euo", "pipefail", "-c", command], block)

    def _run(self, arguments: list[str], block: Block) -> None:
        done = subprocess.run(
            arguments,
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        sys.stdout.write(f"\n$ {arguments[-1]}\n{done.stdout}{done.stderr}")
        where = f"{block.page.relative_to(ROOT)}, block of line {block.line}"
        assert done.returncode == 0, f"{where}: {arguments[-1]}\n{done.stdout}\n{done.stderr}"

    def _start(self, command: str, ready: str, block: Block) -> None:
        output = self._folder / f"server-{len(self._servers)}.txt"
        with output.open("w") as file:
            server = subprocess.Popen(
                ["bash", "-c", command],
                cwd=self._folder,
                env=self._environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._servers.append(server)
        deadline = time.monotonic() + _SECONDS
        while ready not in output.read_text():
            assert server.poll() is None, f"{block.page.name}: {command}\n{output.read_text()}"
            assert time.monotonic() < deadline, command
            time.sleep(0.1)
        sys.stdout.write(f"\n$ {command} &\n{output.read_text()}")


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
