"""Entry point of every command, which ends quietly or with one sentence and a non-zero exit code."""

import errno
import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from absl import app, flags

from dgin_tf.commands.start_up import INTERRUPTED, MESSAGE

FAILURE = 2
FAULT = os.EX_SOFTWARE  # 70: a fault of ours
_SHOWN = 300  # characters of an unexpected error


def run(
    main: Callable[[Sequence[str]], None], replaced_settings: Mapping[str, str] | None = None
) -> NoReturn:
    """Runs `main` under absl; a user's mistake prints one sentence instead of a traceback.

    Args:
      main: takes the arguments that absl left over. It raises ValueError, FileNotFoundError or
        another OSError for mistakes that its user can correct; any other exception is a fault of ours,
        whose traceback is written to a file.
      replaced_settings: name of a setting that configs no longer have -> a sentence that says what
        replaced it.
    """

    interrupts: list[int] = []

    def interrupt(number: int, frame: object) -> NoReturn:
        interrupts.append(number)
        raise KeyboardInterrupt

    def guarded(arguments: Sequence[str]) -> int:
        try:
            if len(arguments) > 1:
                raise ValueError(
                    f"expected flags only, got {' '.join(arguments[1:])!r}; write --name=value."
                )
            main(arguments)
        except KeyboardInterrupt:
            sys.stderr.write(MESSAGE)
            return INTERRUPTED
        except Exception as error:
            if interrupts:  # extension modules that were being imported raise something else
                sys.stderr.write(MESSAGE)
                return INTERRUPTED
            if not isinstance(error, ValueError | OSError) and not _full_disk(error):
                sys.stderr.write(f"error: {_fault(error)}\n")
                return FAULT
            sys.stderr.write(f"error: {sentence(error)}\n")
            return FAILURE
        return 0

    signal.signal(signal.SIGINT, interrupt)
    app.run(guarded, flags_parser=lambda arguments: _parse(arguments, replaced_settings or {}))
    raise SystemExit(0)  # absl exits by itself


def sentence(error: Exception) -> str:
    """Text of an error, in one line."""
    if match := _full_disk(error):
        where = f" while writing {match['file']}" if match["file"] else ""
        return f"the disk is full{where}; free some space and run the same command again."
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return f"a file is larger than this system allows ({error}); raise the limit (ulimit -f)."
    return " ".join(str(error).split())


def _fault(error: Exception) -> str:
    """Sentence about a fault of ours, which names the file that its traceback is written to."""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:_SHOWN]
    report = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="dgin_tf-", suffix=".traceback.txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(report)
    except OSError:  # no place to write: better a long report than none
        return f"this should not happen, please report it: {text}\n{report.rstrip()}"
    return f"this should not happen, please report it with {file.name}, its traceback: {text}"


def _full_disk(error: Exception) -> dict[str, str | None] | None:
    """The `file` that a full disk kept from being written, None if unknown; None for other errors."""
    if isinstance(error, OSError):
        return {"file": error.filename} if error.errno == errno.ENOSPC else None
    # TensorFlow has an error of its own, the text of which is a file's name and the system's reason.
    reason = re.search(rf"(?:(\S+); )?{re.escape(os.strerror(errno.ENOSPC))}", str(error))
    return {"file": reason[1]} if reason else None


def _parse(arguments: Sequence[str], replaced_settings: Mapping[str, str]) -> Sequence[str]:
    """Parses flags, of a config file too; a mistake in them is one sentence like any other."""
    try:
        return flags.FLAGS(arguments)
    except (AttributeError, KeyError) as error:  # how ml_collections refuses an unknown setting
        name, *hint = _innermost(error).split("\n")
        replacement = replaced_settings.get(name.strip("'\""), "")
        text = " ".join([f"the config has no setting {name}.", *hint, replacement])
    except (flags.Error, TypeError, ValueError, OSError) as error:
        # A config file that fails to load arrives as a text with its whole traceback in it.
        text = _innermost(error)
        failures = re.findall(r"^\s*(?:\w+Error: |\[Errno \d+\] )(.+)$", text, re.MULTILINE)
        text = failures[-1] if failures else text
    sys.stderr.write(f"error: {' '.join(text.split())}\n")
    sys.exit(FAILURE)


def _innermost(error: BaseException) -> str:
    """The text of an exception that may hold another one in place of a text."""
    content = error.args[0] if error.args else ""
    return _innermost(content) if isinstance(content, BaseException) else str(content or error)
