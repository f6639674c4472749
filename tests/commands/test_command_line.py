"""Commands end with one sentence and a code that scripts can test."""

import errno
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from dgin_tf.commands.command_line import FAILURE, FAULT, INTERRUPTED, sentence

ROOT = pathlib.Path(__file__).resolve().parents[2]


def ended(body, *arguments):
    program = f"from dgin_tf.commands import command_line\ndef main(_):\n    {body}\ncommand_line.run(main)"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("body", "code", "errors"),
    [
        ("pass", 0, ""),
        ("raise ValueError('expected a,\\n  got b.')", FAILURE, "error: expected a, got b.\n"),
        ("raise FileNotFoundError('no file x.')", FAILURE, "error: no file x.\n"),
        ("raise KeyboardInterrupt", INTERRUPTED, "interrupted.\n"),
    ],
)
def test_a_command_ends_with_its_code_and_at_most_one_sentence(body, code, errors):
    done = ended(body)
    assert (done.returncode, done.stderr) == (code, errors)


def test_a_fault_of_ours_is_one_sentence_and_a_file_with_the_traceback():
    done = ended("raise RuntimeError('bug')")
    assert (done.returncode, done.stderr.count("\n")) == (FAULT, 1)
    (path,) = re.findall(r"report it with (\S+), its traceback: RuntimeError: bug", done.stderr)
    assert "RuntimeError: bug" in pathlib.Path(path).read_text()
    pathlib.Path(path).unlink()


def test_without_room_for_the_traceback_it_is_printed(tmp_path):
    done = ended("import tempfile; tempfile.tempdir = '/nowhere'; raise RuntimeError('bug')")
    assert done.returncode == FAULT
    assert "Traceback" in done.stderr


def test_an_interrupt_while_tensorflow_is_imported_is_quiet():
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "experiments.evaluate"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    errors = ""
    for line in process.stderr:
        if not line.startswith("import time:"):
            errors += line
        elif "tensorflow" in line and process.poll() is None:
            process.send_signal(signal.SIGINT)  # again and again
    assert (process.wait(), errors) == (INTERRUPTED, "interrupted.\n")


def test_an_argument_that_is_no_flag_is_refused():
    done = ended("pass", "taobao")
    assert (done.returncode, "expected flags only, got 'taobao'" in done.stderr) == (FAILURE, True)


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "the disk is full while writing x"), (errno.EFBIG, "ulimit")]
)
def test_disk_errors_say_what_to_do(code, words):
    assert words in sentence(OSError(code, "text", "x"))


def test_a_full_disk_that_tensorflow_met_is_one_sentence_too():
    text = "{{function_node SaveV2}} /run/x.tmp; No space left on device [Op:SaveV2]"
    done = ended(f"raise RuntimeError({text!r})")
    assert done.returncode == FAILURE
    assert done.stderr.startswith(
        "error: the disk is full while writing /run/x.tmp; free some space"
    )
