"""Freed memory must be used again by commands that ask for it."""

import subprocess
import sys

import pytest

_PAGES = """
import ctypes, resource, sys
from dgin_tf.commands.memory import keep_freed_memory
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


def pages_of(mode):
    """Support for the setting, and the number of new pages in each of three uses of 128 MiB."""
    output = subprocess.run(
        [sys.executable, "-c", _PAGES, mode], capture_output=True, text=True, check=True
    ).stdout.split()
    return output[0] == "True", [int(count) for count in output[1:]]


def test_freed_memory_is_used_again_without_new_pages():
    keeps, (first, *again) = pages_of("keep")
    if not keeps:
        pytest.skip("this C library has no mallopt")
    assert first > 10_000 > 100 > max(again)
    assert min(pages_of("default")[1]) > 10_000
