"""Scores from the behavior index are those of the whole history in the graph."""

import dataclasses

import numpy as np
import pytest

from dgin_tf.inputs.pipeline import BatchOptions
from dgin_tf.records import decode_record, read_records
from dgin_tf.serving.online.ranker import Ranker
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.index_building import build_index
from dgin_tf.stores.state_store import InMemoryStore
from tests.serving.exported import export

NEWEST, FOUND = 3, 4
SETTINGS = {"short_events": NEWEST, "k": FOUND, "user_fields": ("user_id",), "time": True}


@pytest.fixture(scope="module")
def sim(data, tmp_path_factory):
    return export("sim_hard", data, tmp_path_factory.mktemp("export"), **SETTINGS)


@pytest.fixture(scope="module")
def index(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "category"
    build_index(data.data_dir, folder, "category_id", NEWEST + FOUND)
    return BehaviorIndex(folder, data.schema, "category_id", InMemoryStore())


def rows(sim, data):
    """Users with their candidates and the second of the request, and the model's own scores."""
    (batch,) = data.evaluation("test", BatchOptions(200, data.schema.max_history)).take(1)
    reference = sim.model.predict_on_batch(batch)
    for row, user in enumerate(batch["user_id"].numpy()):
        if batch["cand_mask"][row, 0]:
            yield (
                int(user),
                {
                    "item_id": batch["cand_item_id"][row].numpy(),
                    "timestamp": batch["cand_timestamp"][row].numpy(),
                },
                reference[row],
            )


def test_hard_search_from_the_index_scores_as_the_whole_history_does(sim, data, index):
    ranker, comparisons = Ranker(sim.version, index=index), 0
    for user, candidates, reference in rows(sim, data):
        actual = ranker.rank(user, candidates, before=int(candidates["timestamp"][0]))
        np.testing.assert_allclose(actual, reference, atol=1e-6)
        comparisons += 1
    assert comparisons > 20


def test_the_index_saves_most_of_a_history(sim, data, index):
    (shard,) = data.shards("test")
    record = max(
        (decode_record(data.schema, r) for r in read_records(f"{data.data_dir}/{shard.path}")),
        key=lambda record: len(record["hist_item_id"]),
    )
    actual = index.history_slice(int(record["user_id"][0]), [2], NEWEST)
    assert len(actual["item_id"]) < len(record["hist_item_id"]) / 2


def test_late_events_change_the_score(sim, index):
    ranker = Ranker(sim.version, index=index)
    candidates = {"item_id": [5, 6], "timestamp": [2_000_000_000] * 2}
    before = ranker.rank(7, candidates)
    late = {"item_id": [5], "category_id": [7], "timestamp": [1_900_000_000]}
    assert index.append(7, late, sequence=1)
    assert np.abs(ranker.rank(7, candidates) - before).max() > 1e-4


def test_somebody_unknown_is_ranked_by_an_empty_history(sim, index):
    ranker = Ranker(sim.version, index=index)
    candidates = {"item_id": [5], "timestamp": [9]}
    empty = {"item_id": [], "category_id": [], "timestamp": []}
    np.testing.assert_array_equal(
        ranker.rank(10**6, candidates), ranker.rank(empty, candidates, {"user_id": 10**6})
    )


def test_an_index_that_cuts_lists_too_short_is_refused(sim, data, index, tmp_path):
    build_index(data.data_dir, tmp_path / "short", "category_id", NEWEST)
    short = BehaviorIndex(tmp_path / "short", data.schema, "category_id")
    with pytest.raises(ValueError, match="--max_events_per_key=7"):
        Ranker(sim.version, index=short)


def test_an_index_by_another_key_is_refused(sim, data, tmp_path):
    build_index(data.data_dir, tmp_path / "item", "item_id")
    other = BehaviorIndex(tmp_path / "item", data.schema, "item_id")
    with pytest.raises(ValueError, match="index of key 'category_id'; this one has 'item_id'"):
        Ranker(sim.version, index=other)


def test_an_index_of_another_schema_is_refused(sim, index, monkeypatch):
    other = dataclasses.replace(index.metadata, schema="other")
    monkeypatch.setattr(index, "metadata", other)
    with pytest.raises(ValueError, match="of schema .* this one has 'other'"):
        Ranker(sim.version, index=index)


def test_a_model_that_reads_whole_histories_takes_no_index(din, index):
    with pytest.raises(ValueError, match="'din' reads whole histories"):
        Ranker(din.version, index=index)


def test_without_an_index_users_cannot_be_named(sim):
    with pytest.raises(ValueError, match="by a user's id needs an index or stored states"):
        Ranker(sim.version).rank(5, [3])
