"""The training loop: what a run leaves behind, and that a kill changes nothing."""

import dataclasses
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ownership import LOCK_FILE, locked
from dgin_tf.training import callbacks, checkpoints, loop
from dgin_tf.training.display import Display
from dgin_tf.training.loop import LoopOptions, train
from dgin_tf.training.tensorboard import TensorBoard
from tests.prepared import write_prepared
from tests.training import tiny

ROOT = pathlib.Path(__file__).resolve().parents[2]
OPTIONS = tiny.OPTIONS


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared")
    write_prepared(path, users=23, cuts=2)
    return path


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    """Directory of a run that nobody interrupted."""
    run_dir = tmp_path_factory.mktemp("finished")
    train(tiny.make_task(data_dir), OPTIONS, run_dir)
    return run_dir


def values(run_dir, kind="state"):
    """Everything in the newest checkpoint: weights, moments, counters, generators."""
    newest = sorted((run_dir / "checkpoints").glob(f"{kind}-*"))[-1]
    reader = tf.train.load_checkpoint(str(newest / "values"))
    names = [name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name]
    return {name: reader.get_tensor(name) for name in names}


def assert_same_run(run_dir, expected_dir):
    for kind in ("state", "best"):
        found, expected = values(run_dir, kind), values(expected_dir, kind)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)
    found, expected = (loop.read_result(folder) for folder in (run_dir, expected_dir))
    assert found.pop("seconds") >= 0
    assert found == {key: value for key, value in expected.items() if key != "seconds"}


def test_the_result_holds_what_is_promised(finished):
    result = json.loads((finished / "result.json").read_text())
    for split in ("validation", "test"):
        assert set(result[split]) >= {
            "auc",
            "gauc",
            "log_loss",
            "calibration",
            "examples",
            "by_history_length",
        }
        assert result[split]["examples"] == 23 * 2 * 2
    assert len(result["history"]) == 4
    best = max(result["history"], key=lambda entry: entry["validation"]["auc"])
    assert result["validation"] == best["validation"]
    assert (result["history"].index(best) + 1) / 2 == best["epoch"] == result["best_epoch"]


def test_a_finished_run_is_not_trained_again(data_dir, finished, monkeypatch):
    monkeypatch.setattr(loop, "_Session", None)
    result = train(tiny.make_task(data_dir), OPTIONS, finished)
    assert result == loop.read_result(finished)


def test_two_trainings_of_one_directory_do_not_mix(data_dir, tmp_path):
    with locked(tmp_path / LOCK_FILE, ""), pytest.raises(ValueError, match="another training is"):
        train(tiny.make_task(data_dir), OPTIONS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]


@pytest.mark.parametrize("name", ["result.json", "tensorboard", "checkpoints"])
def test_a_directory_with_somebody_elses_file_is_refused(data_dir, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"it holds {name} without config.json"):
        train(tiny.make_task(data_dir), OPTIONS, tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_a_run_killed_with_sigkill_ends_with_the_same_bits(data_dir, finished, tmp_path):
    command = [sys.executable, "-m", "tests.training.tiny", str(data_dir), str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 600
    while not list(tmp_path.glob("checkpoints/state-0001")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()
    assert not (tmp_path / "result.json").exists()
    train(tiny.make_task(data_dir), OPTIONS, tmp_path)
    assert_same_run(tmp_path, finished)


class Killed(BaseException):
    """Stands for SIGKILL where a test has to choose the moment."""


@pytest.mark.parametrize("moment", [2, 3])
def test_no_moment_of_writing_is_a_bad_one_to_be_killed_at(
    data_dir, finished, tmp_path, monkeypatch, moment
):
    rename, calls = os.replace, []

    def kill_at(*arguments):
        calls.append(arguments)
        if len(calls) == moment:
            raise Killed
        rename(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill_at)
        with pytest.raises(Killed):
            train(tiny.make_task(data_dir), OPTIONS, tmp_path)
    train(tiny.make_task(data_dir), OPTIONS, tmp_path)
    assert_same_run(tmp_path, finished)


def test_training_stops_when_patience_is_over(data_dir, tmp_path):
    options = LoopOptions(epochs=30, patience=1)
    history = train(tiny.make_task(data_dir), options, tmp_path)["history"]
    aucs = [entry["validation"]["auc"] for entry in history]
    assert len(aucs) == int(np.argmax(aucs)) + 1 + 1 < 30


def test_the_best_epoch_by_log_loss_is_the_lowest(data_dir, tmp_path):
    options = LoopOptions(epochs=2, patience=0, monitor="log_loss")
    result = train(tiny.make_task(data_dir), options, tmp_path)
    log_losses = [entry["validation"]["log_loss"] for entry in result["history"]]
    assert result["best_epoch"] == int(np.argmin(log_losses)) + 1


def test_parts_of_an_epoch_are_the_epoch(data_dir, tmp_path):
    whole = train(tiny.make_task(data_dir), LoopOptions(epochs=1), tmp_path / "whole")
    parts = LoopOptions(epochs=1, evaluations_per_epoch=2)
    train(tiny.make_task(data_dir), parts, tmp_path / "parts")
    steps = [
        json.loads(p.read_text()) for p in tmp_path.glob("*/checkpoints/state-*/progress.json")
    ]
    assert {entry["step"] for entry in steps} == {whole["history"][-1]["step"]}
    expected, found = values(tmp_path / "whole"), values(tmp_path / "parts")
    for name in expected:
        if "_means" not in name:  # losses are averaged since the last validation
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_more_parts_than_batches_are_refused(data_dir, tmp_path):
    with pytest.raises(ValueError, match="at least 99 training batches"):
        train(tiny.make_task(data_dir), LoopOptions(evaluations_per_epoch=99), tmp_path)


def limited(data_dir, **limits):
    """A task whose config has these limits of its length, and options with them."""
    task, options = tiny.make_task(data_dir), dataclasses.replace(OPTIONS, **limits)
    loop_config = {"epochs": options.epochs, "patience": options.patience, "monitor": "auc"}
    return dataclasses.replace(task, config={**task.config, "loop": loop_config}), options


def test_a_finished_run_ends_under_a_larger_limit_as_one_that_had_it_from_the_start(
    data_dir, finished, tmp_path
):
    first = train(*limited(data_dir, epochs=1), tmp_path)
    assert len(first["history"]) == 2
    train(*limited(data_dir, epochs=2), tmp_path)
    assert_same_run(tmp_path, finished)
    assert json.loads((tmp_path / "config.json").read_text())["loop"]["epochs"] == 2


@pytest.fixture
def as_if_finished(tmp_path):
    """Writes the config and the result of a run that never was; gives its directory."""

    def write(config):
        loop.write_json(tmp_path / "config.json", config)
        loop.write_json(tmp_path / "result.json", {"history": []})
        return tmp_path

    return write


CONFIG = {"seed": 1, "loop": {"epochs": 2, "patience": 2, "monitor": "auc"}}


@pytest.mark.parametrize(
    ("loop_config", "is_opened"),
    [
        ({"epochs": 3}, True),
        ({"patience": 3}, True),
        ({"patience": 0}, True),  # for ever
        ({"epochs": 3, "patience": 3}, True),
        ({}, False),
        ({"epochs": 1}, False),
        ({"epochs": 3, "patience": 1}, False),
        ({"epochs": 3, "monitor": "gauc"}, False),
    ],
)
def test_larger_limits_alone_open_a_finished_run(as_if_finished, loop_config, is_opened):
    run_dir = as_if_finished(CONFIG)
    loop._extend(run_dir, {**CONFIG, "loop": {**CONFIG["loop"], **loop_config}})
    assert (run_dir / "result.json").exists() != is_opened


def test_a_smaller_limit_in_the_same_directory_is_refused(as_if_finished, data_dir):
    task, options = limited(data_dir, epochs=1)
    run_dir = as_if_finished({**task.config, "loop": {**task.config["loop"], "epochs": 2}})
    with pytest.raises(ValueError, match=r"differs in loop.epochs \(2, now 1\)"):
        train(task, options, run_dir)


def test_watching_changes_nothing_of_a_run(data_dir, finished, tmp_path):
    observers = [Display("tiny", stream=io.StringIO()), TensorBoard()]
    train(tiny.make_task(data_dir), OPTIONS, tmp_path, observers=observers)
    assert_same_run(tmp_path, finished)


def test_another_config_in_the_same_directory_is_refused(data_dir, finished):
    with pytest.raises(ValueError, match=r"differs in seed \(1, now 2\)"):
        train(tiny.make_task(data_dir, seed=2), OPTIONS, finished)


def test_a_checkpoint_of_another_model_schema_or_size_is_refused(data_dir, finished):
    task = tiny.make_task(data_dir)
    model = task.make_model()
    model(next(iter(task.evaluation("test"))))
    with pytest.raises(ValueError, match="trained under schema other; .*was trained under"):
        checkpoints.load_best(model, finished, "other")
    another = type("Another", (tiny.Tiny,), {})(model.schema)
    with pytest.raises(ValueError, match="of model 'Another'; .*holds one of 'Tiny'"):
        checkpoints.load_best(another, finished, task.schema)
    model = tiny.make_task(data_dir, dim=4).make_model()
    with pytest.raises(ValueError, match="other sizes: .* here and .* there"):
        checkpoints.load_best(model, finished, task.schema)


def test_a_directory_without_a_checkpoint_is_refused(data_dir, tmp_path):
    task = tiny.make_task(data_dir)
    with pytest.raises(FileNotFoundError, match="experiments.train"):
        checkpoints.load_best(task.make_model(), tmp_path, task.schema)


def test_a_loss_that_is_no_number_stops_the_run_with_step_and_name(data_dir, tmp_path):
    task = tiny.make_task(data_dir)

    def broken():
        model = task.make_model()
        compute = model.compute_losses
        diverged = tf.Variable(0.0, trainable=False)

        def compute_losses(features, outputs):
            step = diverged.assign_add(1.0)
            factor = tf.where(step < 4.0, 1.0, np.nan)
            return {name: loss * factor for name, loss in compute(features, outputs).items()}

        model.compute_losses = compute_losses
        return model

    broken_task = dataclasses.replace(task, make_model=broken)
    with pytest.raises(callbacks.DivergenceError, match="the target loss became nan at step 4;"):
        train(broken_task, LoopOptions(), tmp_path)
    assert not list(tmp_path.glob("checkpoints/*"))


def test_several_steps_in_one_execution_end_with_the_same_weights(data_dir, tmp_path):
    train(tiny.make_task(data_dir), LoopOptions(epochs=1), tmp_path / "one")
    options = LoopOptions(epochs=1, steps_per_execution=4)
    train(tiny.make_task(data_dir), options, tmp_path / "four")
    expected, found = values(tmp_path / "one"), values(tmp_path / "four")
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-7, err_msg=name)


def test_a_run_that_xla_compiles_ends_with_the_same_weights(data_dir, tmp_path):
    for name, compiled in (("plain", False), ("compiled", True)):
        options = LoopOptions(epochs=1, jit_compile=compiled)
        train(tiny.make_task(data_dir, model=tiny.Undropped), options, tmp_path / name)
    expected, found = values(tmp_path / "plain"), values(tmp_path / "compiled")
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-6, err_msg=name)
    histories = [
        json.loads((tmp_path / name / "result.json").read_text())["history"]
        for name in ("plain", "compiled")
    ]
    for plain, compiled in zip(*histories, strict=True):
        assert compiled["losses"] == pytest.approx(plain["losses"], rel=1e-5)


def test_xla_and_replicas_together_are_refused(data_dir, tmp_path, mirrored):
    options = LoopOptions(jit_compile=True)
    with pytest.raises(ValueError, match="jit_compile expects one device.*MirroredStrategy"):
        train(tiny.make_task(data_dir), options, tmp_path, mirrored)


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"monitor": "accuracy"}, {"steps_per_execution": 0}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LoopOptions(**options)
