"""What processes need beyond the standard library."""

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import threading

_M_MMAP_MAX, _M_TRIM_THRESHOLD, _M_ARENA_MAX = -4, -1, -8  # as in malloc.h
# Never map a piece of its own, never shrink, and take all from the one heap that may grow without limit.
_KEEPING = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_ARENA_MAX: 1}


def end_with_parent() -> None:
    """Ends this worker when its parent dies, which otherwise would leave it working for nobody.

    An initializer for pools of spawned processes; does nothing in a process that has no parent.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def keep_freed_memory() -> bool:
    """Has the C library keep what is freed, for the next tensor, instead of returning it to the system.

    By default glibc maps every tensor of some megabytes anew. Pages that are new cost more than what is
    computed on them, on virtual machines several times more. The process stays as large as it once was:
    for commands that train or encode, which use as much in every step. Peaks hardly grow.

    Returns:
      Whether the C library has such settings; without, nothing changes.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    taken = [set_option(option, value) for option, value in _KEEPING.items()]
    return all(taken)


def return_freed_memory() -> None:
    """Has the C library return what is freed to the system, so that a process counts as what it holds."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return  # a C library that has no such function
