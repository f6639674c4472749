"""Settings of the C library's allocator, for commands that compute with large tensors."""

import ctypes

_M_MMAP_MAX, _M_TRIM_THRESHOLD, _M_ARENA_MAX = -4, -1, -8  # as in malloc.h
# Never map a block of its own, never shrink, and serve everything from the one heap that can grow freely.
_ALLOCATOR_OPTIONS = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_ARENA_MAX: 1}


def keep_freed_memory() -> bool:
    """Makes the C library keep freed memory for the next tensor instead of returning it to the system.

    By default glibc maps every tensor of some megabytes anew, and touching new pages costs more than
    computing on them, several times more on virtual machines. The process stays as large as its peak,
    which hardly grows: a setting for commands that train or encode and need as much in every step.

    Returns:
      True if the C library has these settings; otherwise nothing changes.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    results = [set_option(option, value) for option, value in _ALLOCATOR_OPTIONS.items()]
    return all(results)  # mallopt returns 1 on success


def return_freed_memory() -> None:
    """Returns freed memory to the system, so that the process is measured by what it still uses."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return  # a C library without this function
