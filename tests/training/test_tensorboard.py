"""What a run leaves for TensorBoard: curves, histograms, the graph and the projector's files."""

import types

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dgin_tf.training import tensorboard
from dgin_tf.training.loop import LoopOptions, train
from dgin_tf.training.tensorboard import Projection, TensorBoard
from tests.prepared import write_prepared
from tests.training import tiny


class AttendedMean(tiny.DroppedMean):
    """Has an attention of one half to every event, and of seven to padding."""

    def encode(self, history, training=False):
        return {**super().encode(history, training), "events": history.mask}

    def interest(self, state, target, training=False):
        attention = tf.where(state["events"][:, tf.newaxis], 0.5, 7.0)
        return {**super().interest(state, target, training), "attention": attention}


class Attended(tiny.Tiny):
    def __init__(self, schema):
        super().__init__(schema)
        self.encoders[""] = AttendedMean()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The TensorBoard folder of a run of one epoch in two intervals."""
    data_dir, run_dir = tmp_path_factory.mktemp("prepared"), tmp_path_factory.mktemp("run")
    write_prepared(data_dir, users=23, cuts=2)
    projection = Projection(
        "item_id", np.eye(3), ["item_id", "title"], [("7", "Heat"), ("9", ""), ("4", "M\tA")]
    )
    task = tiny.make_task(data_dir, model=Attended)
    options = LoopOptions(epochs=1, evaluations_per_epoch=2)
    train(task, options, run_dir, observers=[TensorBoard(lambda model: projection)])
    return run_dir / "tensorboard"


@pytest.fixture(scope="module")
def events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    return accumulator.Reload()


def test_losses_and_learning_rate_have_curves_however_short_an_epoch_is(events):
    tags = set(events.Tags()["tensors"])
    assert {"training/target", "training/learning_rate", "validation/auc", "test/auc"} <= tags
    assert len(events.Tensors("training/target")) == 5  # 46 rows in batches of 10
    assert len(events.Tensors("validation/gauc")) == 2


def test_a_call_of_several_steps_misses_no_point(monkeypatch):
    points = []
    board = tensorboard.TensorBoard()
    board._run, board._every = types.SimpleNamespace(model=None), 5
    monkeypatch.setattr(tensorboard, "_learning_rate", lambda model: 0.1)
    monkeypatch.setattr(board, "_scalars", lambda prefix, step, values: points.append(step))
    for step in range(4, 24, 4):
        board.stepped(step, {})
    assert points == [8, 16]


def test_weights_and_the_attention_of_real_events_have_histograms(events):
    tags = set(events.Tags()["tensors"])
    assert len([tag for tag in tags if tag.startswith("weights/")]) > 5
    first, last, _ = tf.make_ndarray(events.Tensors("attention")[-1].tensor_proto).T
    assert (first.min(), last.max()) == (0.5, 0.5)  # of buckets


def test_the_graph_is_there(events):
    assert events.Tags()["graph"]


def test_the_projector_finds_vectors_and_names_of_the_items(folder):
    config = (folder / "projector_config.pbtxt").read_text()
    assert 'tensor_path: "item_id.vectors.tsv"' in config
    assert 'metadata_path: "item_id.tsv"' in config
    assert (folder / "item_id.tsv").read_text() == "item_id\ttitle\n7\tHeat\n9\t-\n4\tM A\n"
    np.testing.assert_array_equal(np.loadtxt(folder / "item_id.vectors.tsv"), np.eye(3))
