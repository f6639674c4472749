"""Requests with raw columns get the scores that the model gives to records with the same columns."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.serving.export.bundle import Release, export_bundle
from dgin_tf.serving.online.rank_requests import read_rank_request
from dgin_tf.serving.online.ranker import Ranker, RawRanker
from tests.data_prep.column_logs import names_of, random_din, run, write_log


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folder, log, data, a DIN with weights that matter, and its ranker."""
    folder = tmp_path_factory.mktemp("columns")
    tables = write_log(folder)
    run(folder)
    data = PreparedData(folder / "prepared")
    model = random_din(data)
    export_bundle(model, Release("din", data.data_dir, 25), folder / "exports")
    return folder, tables["log"], data, model, Ranker(folder / "exports")


def rank_request(ranker, body):
    return read_rank_request(body).answer(ranker).probabilities.tolist()


def test_a_raw_request_scores_as_its_record_does(exported):
    folder, log, data, model, ranker = exported
    batch = next(iter(data.evaluation("test", BatchOptions(64, 25))))
    scores = tf.sigmoid(model(batch)["logits"]).numpy()
    voc = {name: names_of(folder, name) for name in data.schema.vocabulary_sizes}
    log = log.set_index("timestamp")
    arrays = {name: values.numpy() for name, values in batch.items()}
    for row in range(5):
        history = [voc["item_id"][n] for n in arrays["hist_item_id"][row] if n]
        mask = arrays["cand_mask"][row]
        candidates = [voc["item_id"][n] for n in arrays["cand_item_id"][row][mask]]
        request = log.loc[arrays["cand_timestamp"][row, 0]]
        profile = {
            "user_age": float(request.age),
            "context_hour": str(request.hour),
            "context_words": request.words.split(),
        }
        ranks = RawRanker(ranker).rank({"item_id": history}, candidates, profile)
        np.testing.assert_allclose(ranks, scores[row][mask], atol=1e-5)


def test_a_request_as_json_has_a_context_and_lists(exported):
    ranker = exported[-1]
    body = b"""{"history": ["i1", "i2"], "candidates": {"item_id": ["i3", "new"], "tags": [["a"], ["b", "c"]],
        "price": [null, 3.5], "category_id": ["s0", "s1"]}, "user": {"user_age": 30},
        "context": {"context_hour": 5, "context_words": ["red", "shoes"]}, "raw_ids": true}"""
    answer = rank_request(ranker, body)
    assert len(set(answer)) == 2
    assert np.isfinite(answer).all()
    other = body.replace(b'["b", "c"]', b'["a"]').replace(b"3.5", b"30")
    assert rank_request(ranker, other)[1] != answer[1]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b'"context_hour": 5, ', b"", "reads context_hour of the request; give it"),
        (b'["red", "shoes"]', b'"red"', "must be lists of ids"),
        (b"null", b'"cheap"', "price of the candidates must be numbers"),
    ],
)
def test_a_request_without_what_the_model_reads_is_refused(exported, old, new, expected):
    body = b"""{"history": ["i1"], "candidates": {"item_id": ["i3"], "price": [null]}, "user": {"user_age": 30},
        "context": {"context_hour": 5, "context_words": ["red", "shoes"]}, "raw_ids": true}"""
    with pytest.raises(ValueError, match=expected):
        rank_request(exported[-1], body.replace(old, new))
