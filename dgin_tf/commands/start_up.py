"""Ctrl-C before a command has begun: importing TensorFlow takes seconds, in which nothing is to be cleaned up."""

import os
import signal
import sys
import threading

INTERRUPTED = 130
MESSAGE = "interrupted.\n"


def end_quietly_on_interrupt() -> None:
    """Ends the process at once on Ctrl-C, until `command_line.run` takes over.

    Raised as an exception in the middle of an import, an interrupt arrives as a traceback, and not always
    as one of its own. Does nothing where the package is imported by something else than one of its commands.
    """
    if _is_command() and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _end)


def _is_command() -> bool:
    """True where this process was started as `python -m experiments.train` and the like."""
    arguments = sys.orig_argv
    module = arguments[arguments.index("-m") + 1 :][:1] if "-m" in arguments else []
    return module != [] and module[0].split(".")[0] in ("dgin_tf", "data_prep", "experiments")


def _end(*_: object) -> None:
    os.write(2, MESSAGE.encode())
    os._exit(INTERRUPTED)
