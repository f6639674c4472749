"""What a run shows while it trains: a line that is rewritten on a terminal, few lines in a file."""

import io
import pathlib

import pytest

from dgin_tf.training.display import Display
from dgin_tf.training.observers import Run

METRICS = {"auc": 0.75, "gauc": 0.5, "log_loss": 0.6}
LOSSES = {"loss": 55.52, "target": 0.52, "auxiliary": 55.0}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run_of(parts, evaluations=0):
    return Run(None, 1234, pathlib.Path(), 2, parts, 4, 80, evaluations, 0, dict)


def shown(stream, parts=1, seconds_a_step=1.0, prefix=""):
    """Text of an epoch of four steps of twenty examples, and of its evaluations."""
    now = [100.0]
    display = Display("din, seed 1", prefix, stream, lambda: now[0])
    display.started(run_of(parts))
    for step in range(1, 5):
        now[0] += seconds_a_step
        display.stepped(step, LOSSES)
        if step % (4 // parts) == 0:
            display.evaluating()
            now[0] += 99.0  # no time of training
            entry = {"epoch": step / 4, "step": step, "losses": LOSSES, "validation": METRICS}
            display.evaluated(entry, step == 4)
    display.finished({"best_epoch": 1.0, "validation": METRICS})
    display.close()
    return stream.getvalue()


def test_a_log_file_has_a_line_for_the_start_each_evaluation_and_the_end():
    assert shown(io.StringIO()).splitlines() == [
        "din, seed 1: 1,234 parameters, 4 steps an epoch, at most 2 epochs",
        "epoch 1/2  target loss 0.5200, auxiliary 55  20 examples/s  "
        "validation AUC 0.7500  GAUC 0.5000  log loss 0.6000  best so far",
        "best after epoch 1: validation AUC 0.7500  GAUC 0.5000  log loss 0.6000",
    ]


def test_a_log_file_has_a_line_now_and_then_in_a_long_epoch():
    lines = shown(io.StringIO(), seconds_a_step=20.0).splitlines()
    assert (
        lines[1] == "epoch 1/2  step 2/4  target loss 0.5200, auxiliary 55  1 examples/s  0:40 left"
    )
    assert [line[:19] for line in lines[1:-2]] == ["epoch 1/2  step 2/4", "epoch 1/2  step 4/4"]


def test_several_evaluations_in_an_epoch_are_no_epochs():
    lines = shown(io.StringIO(), parts=2).splitlines()
    assert [line.split("  ")[0] for line in lines[1:3]] == [
        "epoch 1/2, evaluation 1/2",
        "epoch 1/2, evaluation 2/2",
    ]


def test_a_terminal_has_one_line_that_is_rewritten_and_keeps_those_of_evaluations():
    kept, *rewritten = shown(Terminal()).split("\n")[1].split("\r\x1b[K")[::-1]
    assert kept.startswith("epoch 1/2  target loss")
    assert len(rewritten) == 7  # the start, four steps, the evaluation, and what stood before any
    assert rewritten[1].startswith("epoch 1/2  step 4/4  target loss")


def test_a_line_on_a_terminal_never_wraps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    assert max(map(len, shown(Terminal()).split("\n")[1].split("\r\x1b[K")[:-1])) < 30


def test_an_error_gets_a_line_of_its_own():
    stream = Terminal()
    display = Display("din", stream=stream)
    display.started(run_of(1))
    display.close()
    assert stream.getvalue().endswith("step 0/4\n")


def test_runs_that_share_a_terminal_name_themselves_in_every_line():
    lines = shown(Terminal(), prefix="[din] ").splitlines()
    assert [line[:6] for line in lines] == ["[din] "] * 3


@pytest.mark.parametrize("evaluations", [0, 1])
def test_the_first_line_says_whether_a_run_resumes(evaluations):
    stream = io.StringIO()
    Display("din", stream=stream).started(run_of(1, evaluations))
    assert ("resumes" in stream.getvalue()) == bool(evaluations)
