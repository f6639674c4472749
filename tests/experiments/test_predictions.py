"""The table of predictions, one row a candidate, in the order of the split."""

import numpy as np
import pytest

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.models.registry import make_model
from dgin_tf.training.evaluation import Evaluator, predictions_of
from experiments.running import predictions
from tests.prepared import write_prepared

OPTIONS = BatchOptions(batch_rows=7, max_history=11)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    write_prepared(folder, users=13, cuts=2)
    (folder / "vocabulary").mkdir()
    (folder / "vocabulary" / "item_id.txt").write_text("".join(f"B{n:03}\n" for n in range(99)))
    return PreparedData(folder)


@pytest.fixture(scope="module")
def scores(data):
    model = make_model("base_model", data.schema)
    evaluator = Evaluator(model, list(predictions.columns(data).values()))
    return evaluator.score(data.evaluation("test", OPTIONS))


def test_every_candidate_has_its_user_item_time_and_label(data, scores):
    rows = predictions.table(scores, predictions.columns(data), data)
    batches = [dict(batch) for batch in data.evaluation("test", OPTIONS)]
    mask = np.concatenate([batch["cand_mask"].numpy() for batch in batches])
    for column, feature in (("item", "cand_item_id"), ("timestamp", "cand_timestamp")):
        expected = np.concatenate([batch[feature].numpy() for batch in batches])[mask]
        np.testing.assert_array_equal(rows[column], expected)
    users = np.concatenate([batch["user_id"].numpy() for batch in batches])
    np.testing.assert_array_equal(rows["user"], np.repeat(users, mask.sum(axis=1)))
    assert (len(rows), rows["label"].sum()) == (13 * 2 * 2, 13 * 2)
    assert rows["history_length"].max() == 11


def test_raw_ids_are_there_where_the_data_have_a_vocabulary(data, scores):
    rows = predictions.table(scores, predictions.columns(data), data)
    assert list(rows["raw_item"]) == [f"B{item - 2:03}" for item in rows["item"]]
    assert "raw_user" not in rows


def test_probabilities_are_those_that_the_metrics_are_of(data, scores):
    rows = predictions.table(scores, predictions.columns(data), data)
    logits = predictions_of(scores).logits
    np.testing.assert_allclose(rows["probability"], 1 / (1 + np.exp(-logits)), rtol=1e-6)
