"""Workers must not outlive the command that they work for."""

import os
import signal
import subprocess
import sys
import time

import pytest

_PAGES = """
import ctypes, resource, sys
from dgin_tf.processes import keep_freed_memory
keeps = sys.argv[1] == "keep" and keep_freed_memory()
memory = ctypes.CDLL(None)
memory.malloc.restype = ctypes.c_void_p
memory.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
memory.free.argtypes = [ctypes.c_void_p]
new = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    place = memory.malloc(ctypes.c_size_t(1 << 27))
    memory.memset(place, 1, 1 << 27)
    memory.free(place)
    new.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(keeps, *new)
"""
_PARENT = """
import concurrent.futures, multiprocessing, os, time
from dgin_tf.processes import end_with_parent
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context, end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_ends_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment
    )
    worker = int(parent.stdout.readline())
    assert is_running(worker)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 60
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(worker)


def pages_of(mode):
    """Whether memory is kept, and how many pages were new each time that 128 MiB were used."""
    found = subprocess.run(
        [sys.executable, "-c", _PAGES, mode], capture_output=True, text=True, check=True
    ).stdout.split()
    return found[0] == "True", [int(count) for count in found[1:]]


def test_freed_memory_is_used_again_without_new_pages():
    keeps, (first, *again) = pages_of("keep")
    if not keeps:
        pytest.skip("this C library has no mallopt")
    assert first > 10_000 > 100 > max(again)
    assert min(pages_of("default")[1]) > 10_000
