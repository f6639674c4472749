"""ENCODE whole: the state that serving keeps, its loss, and what stops a run."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.dimension_reduction import DimensionReduction
from dgin_tf.layers.interest_clusters import InterestClusters
from dgin_tf.models.encode import ENCODE
from dgin_tf.models.registry import make_model
from dgin_tf.models.short_and_long import din_history
from dgin_tf.optimizers import rowwise_adam
from dgin_tf.training.callbacks import DivergenceError, StopOnNan
from tests.conformance.catalogue import BACKBONE, batch, build
from tests.prepared import make_schema


def test_interests_are_all_that_is_kept_of_the_long_part():
    state = build("encode").encode_user(batch())
    assert set(state["interest"]["long"]) == {"interests", "interest_mask"}
    assert state["interest"]["long"]["interests"].shape == (4, 2, 6)


def test_the_newest_events_alone_bring_the_real_time_part_of_a_stored_state_up_to_date():
    model, features = build("encode"), batch()
    stored = model.encode_user(features)
    newest = {
        name: value[:1, -2:] if name.startswith("hist_") else value[:1]
        for name, value in features.items()
    }
    recent = model.encode_user(newest)
    first_user = tf.nest.map_structure(lambda value: value[:1], stored)
    interest = {**first_user["interest"], "short": recent["interest"]["short"]}
    joined = {**first_user, "interest": interest}
    found = model.score(joined, newest)["logits"]
    np.testing.assert_allclose(found, model(features)["logits"][:1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("loss", "names"), [("dynamic", ["reduction"]), ("none", [])])
def test_the_loss_of_the_reduction_is_reported_where_there_is_one(loss, names):
    model = make_model(
        "encode", make_schema(), BACKBONE, clusters=2, dim=2, loss=loss, short_events=2
    )
    outputs = model(batch(), training=True)
    found = model.compute_losses(batch(), outputs)
    assert list(found) == ["target", *names]
    assert all(value > 0 for value in found.values())


def test_no_label_moves_the_projection():
    model, features = build("encode"), batch()
    with tf.GradientTape() as tape:
        target = model.compute_losses(features, model(features, training=True))["target"]
    kernel = model.long.reduction.kernel
    assert tape.gradient(target, kernel) is None


def test_more_clusters_than_the_history_is_long_train():
    model = make_model("encode", make_schema(), BACKBONE, clusters=31, dim=2, short_events=2)
    loss = tf.add_n(list(model.compute_losses(batch(), model(batch(), training=True)).values()))
    assert np.isfinite(loss)


def test_a_nan_in_an_embedding_stops_the_run_with_the_step_and_the_table():
    model, features = build("encode"), batch()
    item = int(features["hist_item_id"][0, 0])
    table = model.embedding.tables["item_id"]
    table.assign(tf.tensor_scatter_nd_update(table, [[item, 1]], [np.nan]))
    model.compile(rowwise_adam(model, 0.1))
    data = tf.data.Dataset.from_tensors(features)
    with pytest.raises(DivergenceError, match=r"at step 18; .*no numbers: .*item_id"):
        model.fit(data, verbose=0, callbacks=[StopOnNan(17)])


class Truncation(DimensionReduction):
    """A reduction written outside the package: the first columns, without a loss."""

    def __init__(self, dim=4, **kwargs):
        super().__init__(dim, loss="none")

    def call(self, vectors):
        return tf.cast(vectors[..., : self.dim], tf.float32)


def test_a_block_written_elsewhere_takes_the_papers_place():
    long = InterestClusters(Truncation(2), (3, "random"), ("dot",), name="long")
    model = ENCODE(make_schema(), BACKBONE, din_history(name="short"), long, short_events=2)
    losses = model.compute_losses(batch(), model(batch(), training=True))
    assert set(losses) == {"target"}
    assert np.isfinite(losses["target"])
    assert model.encode_user(batch())["interest"]["long"]["interests"].shape == (4, 3, 6)
