"""Pictures of one user: every paper's model has its own, and none refuses to be drawn."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.inspection import memories, plots, traces, views
from dgin_tf.models import registry
from dgin_tf.models.base import ModelConfig
from tests.conformance.catalogue import CATALOGUE, batch, build
from tests.prepared import write_prepared

SHORT = {"short_events": 5}
PICTURES = {
    "base_model": ([], {}),
    "din": (["attention"], {}),
    "dien": (["attention", "evolution"], {}),
    "sim_hard": (["long", "short"], {**SHORT, "k": 3}),
    "sim_soft": (["long", "short"], {**SHORT, "k": 3}),
    "twin": (["long", "short"], {**SHORT, "k": 3}),
    "sdim": (["long", "short"], SHORT),
    "din_long": (["long", "short"], SHORT),
    "mimn": (["writing", "reading", "channels"], {"slots": 3}),
    "encode": (["clusters", "cluster-attention", "long", "short"], {**SHORT, "clusters": 3}),
    "dgin": (["groups"], {"key": "category_id"}),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("viewed") / "data"
    write_prepared(folder, users=31, cuts=2, negatives=2, buckets=(47,))
    return PreparedData(folder)


@pytest.fixture(scope="module")
def user(data):
    (batch,) = data.evaluation("test", BatchOptions(17, 29)).take(1)
    row = int(batch["hist_mask"].numpy().sum(1).argmax())
    return traces.with_candidates(batch, row, 3, data.schema)


@pytest.mark.parametrize("name", PICTURES)
def test_a_model_is_drawn_by_all_that_it_names(name, data, user):
    wanted, settings = PICTURES[name]
    model = registry.make_model(name, data.schema, ModelConfig(5, (), (7,)), **settings)
    pictures = views.user_pictures(model, user, traces.Names(data.data_dir))
    assert [picture.name for picture in pictures] == wanted
    for picture in pictures:
        assert picture.caption.endswith((".", "alone."))
        assert plots.to_png(picture.figure)
        named = [axis for axis in picture.figure.axes if axis.get_xlabel() or axis.get_ylabel()]
        assert named, "an axis says what it shows"


@pytest.mark.slow
@pytest.mark.parametrize("entry", CATALOGUE)
def test_no_model_of_the_registry_refuses_to_be_drawn(entry, tmp_path):
    model, features = build(entry), batch()
    row = int(features["hist_mask"].numpy().sum(1).argmax())
    user = traces.with_candidates(features, row, 3, model.schema)
    for picture in views.user_pictures(model, user, traces.Names(tmp_path)):
        assert plots.to_png(picture.figure)


def test_events_that_a_search_found_are_marked(data, user):
    settings = {**SHORT, "k": 3}
    model = registry.make_model("sim_hard", data.schema, ModelConfig(5, (), (7,)), **settings)
    long = views.user_pictures(model, user, traces.Names(data.data_dir))[0]
    count = user["hist_mask"].shape[1] - 5
    categories = user["hist_category_id"].numpy()[0, :count]
    for axis, category in zip(long.figure.axes, user["cand_category_id"].numpy()[0], strict=True):
        (marks,) = axis.lines
        assert len(marks.get_xdata()) == min(3, (categories == category).sum())


def test_a_slot_is_named_after_what_writes_it_more_than_other_slots():
    writing = np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [0.5, 0.5]])
    assert memories.topics_of_slots(writing, ["a", "a", "b", "b"]) == ["a", "b"]


def test_the_writing_of_events_sums_to_the_use_of_the_slots(data, user):
    model = registry.make_model("mimn", data.schema, ModelConfig(5, (), (7,)), slots=3)
    writing = memories.event_writing(model, user)
    usage = model.encode_user(user)["interest"]["usage"]
    np.testing.assert_allclose(writing.sum(axis=1), usage, rtol=1e-4)
    assert writing.shape == (1, int(tf.reduce_sum(tf.cast(user["hist_mask"], tf.int32))), 3)
