"""TensorFlow's start-up messages stay off the screen of commands, and nothing else does."""

import os
import pathlib
import subprocess
import sys

import pytest

from dgin_tf.commands.quiet_start import without_messages

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOISE = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795992902.758134    7025 port.cc:153] oneDNN custom operations are on.",
    "I0000 00:00:1795992902.758554    7025 cudart_stub.cc:31] Could not find cuda drivers",
    "E0000 00:00:1795992915.655244    7025 cuda_platform.cc:52] failed call to cuInit: INTERNAL: (303)",
    "2026-01-01 00:00:00.1: I tensorflow/core/platform/cpu_feature_guard.cc:210] This binary is",
)
NEWS = (
    "E0000 00:00:1795992915.655244 7025 cuda_platform.cc:52] failed call to cuInit: DRIVER_MISMATCH",
    "W0000 00:00:1795992915.655244 7025 gpu_device.cc:2348] Cannot dlopen some GPU libraries.",
    "error: expected a.",
)


@pytest.mark.parametrize("line", NOISE)
def test_a_message_that_nobody_can_act_upon_is_dropped(line, capfd):
    with without_messages():
        os.write(2, f"{line}\n".encode())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("line", NEWS)
def test_any_other_line_is_passed_on_even_when_something_fails(line, capfd):
    def fail():
        with without_messages():
            os.write(2, f"{NOISE[1]}\n{line}\n".encode())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert capfd.readouterr().err == f"{line}\n"


def test_commands_load_tensorflow_without_a_word():
    code = "import experiments, tensorflow as tf; tf.ones(1) + 1; print(tf.__spec__.loader)"
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert process.stderr == ""
    assert "SourceFileLoader" in process.stdout  # as if nothing had been in between
