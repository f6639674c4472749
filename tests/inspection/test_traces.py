"""Traces: named outputs, raw names, one person against chosen candidates, evolving interests."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.inspection import traces
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.registry import MODELS
from tests.prepared import make_schema, write_prepared


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traced") / "data"
    write_prepared(folder, users=31, cuts=2, negatives=2, buckets=(47,))
    (folder / "vocabulary").mkdir()
    words = "\n".join(f"item {n}" for n in range(2, 101))
    (folder / "vocabulary" / "item_id.txt").write_text(words + "\n")
    return PreparedData(folder)


@pytest.fixture(scope="module")
def batch(data):
    (batch,) = data.evaluation("test", BatchOptions(17, 29)).take(1)
    return batch


@pytest.fixture(scope="module")
def dien(data, batch):
    model = MODELS["dien"](data.schema, ModelConfig(5, (), (7,)))
    model(batch)
    return model


def test_a_trace_holds_the_batch_the_probabilities_and_the_attention(dien, batch):
    trace = traces.trace(dien, batch)
    np.testing.assert_allclose(trace.probabilities, tf.sigmoid(dien(batch)["logits"]), rtol=1e-6)
    assert trace.attention.shape == (17, 3, 29)
    np.testing.assert_array_equal(trace.length, batch["hist_mask"].numpy().sum(1))


def test_arrays_are_found_by_the_end_of_their_path_in_the_models_order():
    first, second, state = np.zeros(2), np.ones(3), np.ones(5)
    outputs = {"interest": {"short": {"attention": first}, "long": {"attention": second}}}
    trace = traces.Trace({}, np.zeros([1, 1]), outputs, {"interest": {"usage": state}})
    assert trace.find("attention") is first
    assert trace.find("long", "attention") is second
    assert trace.find("usage") is state
    assert trace.find("interest", "attention") is None
    assert trace.names == ["interest/long/attention", "interest/short/attention", "interest/usage"]


def test_titles_stand_in_place_of_raw_ids_where_there_are_any(tmp_path):
    folder = tmp_path / "vocabulary"
    folder.mkdir()
    (folder / "item_id.txt").write_text("356\n296\n")
    assert traces.Names(tmp_path).of("item_id", [2, 3, 1, 9]) == ["356", "296", "unknown", "#9"]
    (folder / "item_id.titles.txt").write_text("Forrest Gump (1994)\n\n")
    names = traces.Names(tmp_path)
    assert names.of("item_id", [2, 3]) == ["Forrest Gump (1994)", "296"]
    features = {
        "hist_item_id": [[2, 0]],
        "hist_category_id": [[5, 0]],
        "hist_mask": np.array([[True, False]]),
    }
    events = traces.event_names(features, make_schema(), names)
    assert events == ["Forrest Gump (1994), category #5"]


def test_a_model_without_attention_says_none(data, batch):
    model = MODELS["base_model"](data.schema, ModelConfig(5, (), (7,)))
    assert traces.trace(model, batch).attention is None


def test_index_zero_of_an_evolution_is_equal_attention_and_the_end_is_the_interest(dien, batch):
    paths, attention = traces.trace_evolution(dien, batch)
    mask = batch["hist_mask"].numpy()
    equal = mask / mask.sum(1, keepdims=True)
    np.testing.assert_allclose(attention[:, 0], equal, rtol=1e-6)
    interest = traces.trace(dien, batch).find("interest", "interest")
    np.testing.assert_allclose(paths[:, 1:, -1], interest, atol=1e-6)


def test_a_model_that_does_not_evolve_interests_is_refused(data, batch):
    with pytest.raises(ValueError, match="no interest evolution"):
        traces.trace_evolution(MODELS["din"](data.schema), batch)


def test_one_user_keeps_history_and_clicks_and_borrows_others_clicks(data, batch):
    arrays = {name: value.numpy() for name, value in batch.items()}
    person = {
        name: value.numpy()
        for name, value in traces.with_candidates(batch, 5, 7, data.schema).items()
    }
    np.testing.assert_array_equal(
        person["hist_item_id"][0], arrays["hist_item_id"][5][arrays["hist_mask"][5]]
    )
    assert person["cand_item_id"].shape[0] == 1
    assert person["cand_item_id"][0, 0] == arrays["cand_item_id"][5][arrays["label"][5] > 0][0]
    assert person["label"].tolist() == [[1.0] + [0.0] * 6]
    assert len(set(person["cand_item_id"][0])) == 7
    others = arrays["cand_item_id"][arrays["label"] > 0]
    assert set(person["cand_item_id"][0, 3:]) <= set(others)


def test_names_are_the_logs_own_where_there_is_a_vocabulary(data):
    names = traces.Names(data.data_dir)
    assert names.of("item_id", [2, 100, 0, 1]) == ["item 2", "item 100", "padding", "unknown"]
    assert names.of("category_id", [7]) == ["#7"]


def test_every_event_and_candidate_of_a_user_has_a_name(data, batch):
    person = traces.with_candidates(batch, 3, 4, data.schema)
    features = {name: value.numpy() for name, value in person.items()}
    names = traces.Names(data.data_dir)
    events = traces.event_names(features, data.schema, names)
    assert len(events) == features["hist_mask"].sum()
    assert events[0].endswith(f"item item {features['hist_item_id'][0, 0]}")
    assert len(traces.candidate_names(features, data.schema, names)) == 4
