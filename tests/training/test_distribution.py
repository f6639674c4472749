"""Strategies by name: what they need, and that they take the steps of one device."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.optimizers import rowwise_adam
from dgin_tf.training import distribution
from dgin_tf.training.evaluation import Evaluator
from dgin_tf.training.loop import LoopOptions, train
from dgin_tf.training.observers import Observer
from dgin_tf.training.tensorboard import TensorBoard
from tests.conformance.catalogue import batch, build
from tests.prepared import write_prepared
from tests.training import tiny

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Reader(Observer):
    """Reads the losses of every step, as a display does."""

    def __init__(self, losses):
        self.losses = losses

    def stepped(self, step, losses):
        self.losses.append({name: float(value) for name, value in losses.items()})


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared")
    write_prepared(path, users=23)
    return path


@pytest.mark.parametrize(
    "optimizer", ["rowwise_adam", pytest.param("adam", marks=pytest.mark.slow)]
)
def test_two_replicas_train_as_one_device_does(data_dir, tmp_path, two_devices, optimizer):
    one_device = tf.distribute.ReductionToOneDevice()
    mirrored = tf.distribute.MirroredStrategy(two_devices, one_device)
    task = tiny.make_task(data_dir, optimizer=optimizer, model=tiny.Undropped, replicas=2)
    watched: list[dict[str, float]] = []
    results = [
        train(
            task,
            LoopOptions(epochs=2, patience=0),
            tmp_path / str(i),
            strategy,
            [Reader(watched), TensorBoard()],
        )
        for i, strategy in enumerate([None, mirrored])
    ]
    half = len(watched) // 2
    for single, double in zip(watched[:half], watched[half:], strict=True):
        assert double == pytest.approx(single, rel=1e-3)
    for single, double in zip(*(result["history"] for result in results), strict=True):
        assert double["losses"] == pytest.approx(single["losses"], rel=1e-4)
        for figure in ("auc", "gauc", "log_loss", "examples"):
            expected = pytest.approx(single["validation"][figure], rel=1e-3)
            assert double["validation"][figure] == expected


def test_no_step_of_a_replica_makes_anything_of_the_size_of_a_table(mirrored):
    features = batch()
    with mirrored.scope():
        model = build("wide_deep")  # its crosses are a table too
        model.compile(rowwise_adam(model))
        model.optimizer.build(model.trainable_variables)
    step = tf.function(lambda: mirrored.run(model.train_step, args=(features,)), autograph=False)
    graph = step.get_concrete_function().graph
    shapes = {tuple(o.shape) for op in graph.get_operations() for o in op.outputs if o.shape.rank}
    tables = {tuple(table.shape) for table in model.embedding_variables}
    assert len(tables) == 4
    assert not shapes & tables


def free_ports(count):
    """Ports of this machine that nothing listens on."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.mark.slow
def test_two_workers_train_and_report_as_one_device_does(data_dir, tmp_path):
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    workers = []
    for index in range(2):
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
        program = [sys.executable, "-m", "tests.training.tiny", data_dir, tmp_path / "double"]
        workers.append(subprocess.Popen(program, cwd=ROOT, env=environment))
    try:
        assert [worker.wait(timeout=900) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    task = tiny.make_task(data_dir, model=tiny.Undropped, replicas=2)
    single = train(task, tiny.OPTIONS, tmp_path / "single")
    double = json.loads((tmp_path / "double" / "result.json").read_text())
    for one, two in zip(single["history"], double["history"], strict=True):
        assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
        assert two["validation"]["auc"] == pytest.approx(one["validation"]["auc"], rel=1e-3)


def test_two_replicas_score_in_the_order_of_the_data(data_dir, two_devices):
    one_device = tf.distribute.ReductionToOneDevice()
    task = tiny.make_task(data_dir)
    dataset, found, weights = task.evaluation("test"), [], None
    for strategy in (
        tf.distribute.get_strategy(),
        tf.distribute.MirroredStrategy(two_devices, one_device),
    ):
        with strategy.scope():
            evaluator = Evaluator(task.make_model())
            evaluator.predict(dataset)  # makes the weights
            weights = weights or evaluator.model.get_weights()
            evaluator.model.set_weights(weights)
            found.append(evaluator.predict(dataset))
    np.testing.assert_allclose(found[1].logits, found[0].logits, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found[1].groups, found[0].groups)
    np.testing.assert_array_equal(found[1].history_lengths, found[0].history_lengths)


def test_without_user_ids_every_row_is_a_group(data_dir):
    task = tiny.make_task(data_dir)
    nameless = task.evaluation("test").map(
        lambda features: {name: value for name, value in features.items() if name != "user_id"}
    )
    found = Evaluator(task.make_model()).predict(nameless)
    sizes = np.unique(found.groups, return_counts=True)[1]
    np.testing.assert_array_equal(sizes, [2] * 23)


def test_a_batch_that_the_replicas_do_not_divide_is_refused(two_devices):
    strategy = tf.distribute.MirroredStrategy(two_devices)
    distribution.check_batch(14, strategy)
    with pytest.raises(ValueError, match="2 replicas divide evenly; got 15 rows. Use 14 or 16"):
        distribution.check_batch(15, strategy)


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="default, mirrored, .*; got 'horovod'"):
        distribution.make_strategy("horovod")


@pytest.mark.parametrize("name", ["multi_worker", "parameter_server"])
def test_strategies_of_many_machines_need_a_cluster(name, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="expects TF_CONFIG"):
        distribution.make_strategy(name)
    monkeypatch.setenv("TF_CONFIG", "{cluster}")
    with pytest.raises(ValueError, match="must be JSON"):
        distribution.make_strategy(name)


@pytest.mark.parametrize(
    ("task", "serves"),
    [("chief", False), ("worker", True), ("ps", True)],
)
def test_workers_and_parameter_servers_serve_and_the_chief_does_not(task, serves, monkeypatch):
    config = {
        "cluster": {"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1"]},
        "task": {"type": task},
    }
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert distribution.serves_others() is serves


def test_mirrored_without_gpus_takes_all_logical_cpus():
    strategy = distribution.make_strategy("mirrored")
    assert strategy.num_replicas_in_sync == len(tf.config.list_logical_devices("CPU"))
    assert distribution.is_chief(strategy)
