"""Progress of a run as text, for terminals and for log files."""

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from dgin_tf.training.observers import Observer, Run

_REWRITE_SECONDS, _LOG_SECONDS = 0.2, 30.0  # between two lines on a terminal, and in a log file
_ERASE = "\r\x1b[K"  # to the start of the terminal's line, and erase it
_TARGET, _TOTAL = "target", "loss"
METRICS = {"auc": "AUC", "gauc": "GAUC", "log_loss": "log loss"}


class Display(Observer):
    """Shows a run as it goes: one line that is rewritten on a terminal, a line now and then elsewhere.

    Every evaluation has a line that stays.

    Args:
      title: what is trained, for the first line.
      prefix: of every line, where several runs share a stream; none of them rewrites a line then.
      stream: where to; standard output by default.
      clock: gives seconds, of any origin.
    """

    _run: Run

    def __init__(
        self,
        title: str,
        prefix: str = "",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._title, self._prefix = title, prefix
        self._stream = sys.stdout if stream is None else stream
        self._clock = clock
        self._rewrites = not prefix and self._stream.isatty()
        self._is_rewriting = (
            False  # True where the cursor stands behind a line that may be replaced
        )
        self._evaluations = 0
        # Time and step after the first call of an interval, which traces the model or fills buffers, and
        # after the last one; throughput is what lies between.
        self._first: tuple[float, int] | None = None
        self._last = (0.0, 0)
        self._shown_at = 0.0

    def started(self, run: Run) -> None:
        self._run, self._evaluations = run, run.evaluations
        resumed = f"; resumes after step {run.step:,}" if run.evaluations else ""
        self._keep(
            f"{self._title}: {run.parameters:,} parameters, {run.steps_per_epoch:,} steps an "
            f"epoch, at most {run.epochs} epoch{'s' if run.epochs > 1 else ''}{resumed}"
        )
        self._shown_at = self._clock()
        self._last = self._shown_at, run.step
        self._rewrite(self._step_text())

    def stepped(self, step: int, losses: Mapping[str, Any]) -> None:
        now = self._clock()
        self._last = now, step
        if self._first is None:
            self._first = self._last
        if now - self._shown_at >= (_REWRITE_SECONDS if self._rewrites else _LOG_SECONDS):
            self._shown_at = now
            show = self._rewrite if self._rewrites else self._keep
            show("  ".join([self._step_text(), loss_text(losses), *self._speed(remaining=True)]))

    def evaluating(self) -> None:
        self._rewrite(f"{self._step_text()}  evaluating")

    def evaluated(self, entry: Mapping[str, Any], is_best: bool) -> None:
        parts = [
            self._epoch_text(),
            loss_text(entry["losses"]),
            *self._speed(),
            f"validation {metrics_text(entry['validation'])}",
            *(["best so far"] if is_best else []),
        ]
        self._keep("  ".join(parts))
        self._evaluations += 1
        self._first, self._shown_at = None, self._clock()

    def finished(self, result: Mapping[str, Any]) -> None:
        validation = metrics_text(result["validation"])
        self._keep(f"best after epoch {result['best_epoch']:g}: validation {validation}")

    def close(self) -> None:
        if self._is_rewriting:  # what comes next, perhaps an error, gets a line of its own
            self._stream.write("\n")
            self._stream.flush()
            self._is_rewriting = False

    def _epoch_text(self) -> str:
        """The epoch, from 1, and the evaluation in it where it has several."""
        parts = self._run.evaluations_per_epoch
        epoch, part = divmod(self._evaluations, parts)
        of_epoch = f", evaluation {part + 1}/{parts}" if parts > 1 else ""
        return f"epoch {epoch + 1}/{self._run.epochs}{of_epoch}"

    def _step_text(self) -> str:
        """The epoch, and how many of its steps are done."""
        steps = self._run.steps_per_epoch
        epoch = self._evaluations // self._run.evaluations_per_epoch
        done = self._last[1] - epoch * steps
        return f"epoch {epoch + 1}/{self._run.epochs}  step {done:,}/{steps:,}"

    def _speed(self, remaining: bool = False) -> list[str]:
        """Throughput of this interval, and the time that remains of the epoch; none where unknown."""
        first, (last_time, last_step) = self._first, self._last
        if first is None or last_step == first[1] or last_time <= first[0]:
            return []
        steps_per_second = (last_step - first[1]) / (last_time - first[0])
        examples_per_step = self._run.examples_per_epoch / self._run.steps_per_epoch
        texts = [f"{steps_per_second * examples_per_step:,.0f} examples/s"]
        if remaining:
            epoch = self._evaluations // self._run.evaluations_per_epoch + 1
            steps = epoch * self._run.steps_per_epoch - last_step
            minutes, seconds = divmod(round(steps / steps_per_second), 60)
            texts.append(f"{minutes}:{seconds:02} left")
        return texts

    def _keep(self, line: str) -> None:
        erase = _ERASE if self._is_rewriting else ""
        self._stream.write(f"{erase}{self._prefix}{line}\n")
        self._stream.flush()
        self._is_rewriting = False

    def _rewrite(self, line: str) -> None:
        """Replaces the terminal's line; does nothing elsewhere."""
        if self._rewrites:
            # A line that wraps could not be erased.
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"{_ERASE}{line[:width]}")
            self._stream.flush()
            self._is_rewriting = True


def loss_text(losses: Mapping[str, Any]) -> str:
    """Losses as text: that of the target first, since others may be a hundred times as large.

    Example:

      >>> loss_text({"loss": 38.0, "target": 0.52, "auxiliary": 37.48})
      'target loss 0.5200, auxiliary 37.48'
    """
    parts = {name: float(value) for name, value in losses.items() if name != _TOTAL}
    if _TARGET not in parts:
        return f"loss {float(losses[_TOTAL]):.4f}"
    others = [f"{name} {value:.4g}" for name, value in parts.items() if name != _TARGET]
    return ", ".join([f"target loss {parts[_TARGET]:.4f}", *others])


def metrics_text(metrics: Mapping[str, Any]) -> str:
    """AUC, GAUC and log loss as text.

    Example:

      >>> metrics_text({"auc": 0.75, "gauc": 0.5, "log_loss": 0.6, "examples": 7})
      'AUC 0.7500  GAUC 0.5000  log loss 0.6000'
    """
    return "  ".join(f"{label} {metrics[name]:.4f}" for name, label in METRICS.items())
