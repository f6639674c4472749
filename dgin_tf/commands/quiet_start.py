"""TensorFlow's start-up messages, kept off the screen of commands.

When it is loaded and when it looks for GPUs, TensorFlow writes some lines to standard error whatever
TF_CPP_MIN_LOG_LEVEL says: its code in C++ has not read any setting yet. What a command has to say would
stand below them.
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

_PACKAGE = "tensorflow"
# Lines that no user can act upon: of the log itself, of the kernels' arithmetic, of a machine without GPU.
# A GPU whose driver or libraries are broken is none of these.
_MESSAGES = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|.*\b(port|cpu_feature_guard|cudart_stub|cuda_diagnostics|cuda_fft|cuda_dnn|cuda_blas"
    rb"|computation_placer)\.cc:\d+\]"
    rb"|.*\bcuda_platform\.cc:\d+\] failed call to cuInit: .*(303|NO_DEVICE)"
)


def quiet_tensorflow() -> None:
    """Keeps the messages off when TensorFlow is imported, where it is not yet."""
    if _PACKAGE not in sys.modules and not any(isinstance(f, _Finder) for f in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@contextlib.contextmanager
def without_messages() -> Iterator[None]:
    """Drops the messages that are written to standard error, and passes on all other lines at the end."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        standard_error = os.dup(2)
        os.dup2(file.fileno(), 2)  # the file that C++ writes to
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(standard_error, 2)
            os.close(standard_error)
            file.seek(0)
            lines = [line for line in file if not _MESSAGES.match(line)]
            if lines:
                os.write(2, b"".join(lines))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow once, and has it loaded without its messages."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != _PACKAGE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _QuietLoader(spec.loader)
        return spec


class _QuietLoader(importlib.abc.Loader):
    """Loads a module as another loader does, without its messages."""

    def __init__(self, loader: Any):
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        with without_messages():
            self._loader.exec_module(module)
            module.config.list_physical_devices()  # it reports a missing GPU now, not in the middle of a run
