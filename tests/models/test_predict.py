"""`Model.predict` gives the examples of a data set and nothing for the padding of its batches."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.models.registry import make_model
from dgin_tf.ops.parts import join_rows
from dgin_tf.training.evaluation import Evaluator
from tests.prepared import write_prepared

USERS, CUTS, CANDIDATES = 13, 2, 3
OPTIONS = BatchOptions(batch_rows=7, max_history=11)  # leaves a remainder at every length


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    write_prepared(folder, users=USERS, cuts=CUTS, negatives=CANDIDATES - 1)
    return PreparedData(folder)


@pytest.mark.parametrize("name", ["base_model", "din", "mimn", "dgin", "rocket_launching"])
def test_predictions_are_the_examples_in_the_order_of_the_split(data, name):
    model = make_model(name, data.schema)
    batches = data.evaluation("test", OPTIONS, model.input_transforms)
    probabilities = model.predict(batches, verbose=0)
    assert probabilities.shape == (USERS * CUTS, CANDIDATES)
    logits = Evaluator(model).score(batches)["logits"]
    np.testing.assert_allclose(probabilities.ravel(), 1 / (1 + np.exp(-logits)), rtol=1e-5)


def test_parts_of_a_training_batch_are_their_examples_too(data):
    model = make_model("base_model", data.schema)
    batches = data.training(BatchOptions(batch_rows=7, max_history=47), seed=1, epoch=0)
    assert "parts" in batches.element_spec
    masks = [join_rows(batch)["cand_mask"].numpy() for batch in batches]
    assert not np.concatenate(masks).all()
    assert len(model.predict(batches, verbose=0)) == USERS * CUTS


def test_a_row_with_fewer_candidates_has_no_score_for_the_others(data):
    model = make_model("base_model", data.schema)
    features = dict(next(iter(data.evaluation("test", OPTIONS))))
    mask = features["cand_mask"].numpy()
    mask[0, 1:] = False
    features["cand_mask"] = tf.constant(mask)
    probabilities = model.predict(tf.data.Dataset.from_tensors(features), verbose=0)
    assert np.isfinite(probabilities[0]).tolist() == [True, False, False]
    assert np.isfinite(probabilities[1:]).all()
    assert model.predict_on_batch(features).shape == mask.shape


def test_scores_that_are_no_numbers_are_not_taken_for_padding(data):
    model = make_model("base_model", data.schema)
    model.build()
    model.tower.trainable_variables[-1].assign([np.nan])
    assert len(model.predict(data.evaluation("test", OPTIONS), verbose=0)) == USERS * CUTS
