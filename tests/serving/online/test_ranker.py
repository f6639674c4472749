"""The ranker: ids in, probabilities out, every history encoded once."""

import shutil

import numpy as np
import pytest

from dgin_tf.integrity import read_json, sealed
from dgin_tf.schema import HISTORY
from dgin_tf.serving.export.versions import ASSETS, METADATA_FILE, open_bundle
from dgin_tf.serving.online.bundle_model import BundleModel
from dgin_tf.serving.online.ranker import Ranker, RawRanker
from tests.prepared import make_schema


@pytest.fixture(scope="module")
def ranker(din):
    return Ranker(din.version.parent)


@pytest.fixture
def request_ids(din):
    """One row of the batch as a caller has it: items without padding, candidates."""
    mask = din.batch["hist_mask"][5]
    return din.batch["hist_item_id"][5][mask], din.batch["cand_item_id"][5]


def test_categories_come_from_the_catalogue(ranker, din, request_ids):
    history, candidates = request_ids
    np.testing.assert_allclose(ranker.rank(history, candidates), din.expected[5], atol=1e-6)


def test_fields_that_are_given_are_taken_as_they_are(ranker, din, request_ids):
    history, candidates = request_ids
    other = np.full(len(history), 3)
    arguments = ranker.rank({"item_id": history, "category_id": other}, candidates)
    assert np.abs(arguments - ranker.rank(history, candidates)).max() > 1e-4


def test_raw_ids_are_translated_by_the_bundles_vocabularies(ranker, request_ids):
    history, candidates = request_ids
    raw = [[f"item {item}" for item in items] for items in request_ids]
    np.testing.assert_array_equal(RawRanker(ranker).rank(*raw), ranker.rank(history, candidates))


def test_a_raw_id_nobody_has_seen_is_the_unknown_id(ranker, request_ids):
    history, _ = request_ids
    np.testing.assert_array_equal(
        ranker.rank(history, RawRanker(ranker).to_ids(["never seen"])), ranker.rank(history, [1])
    )


def test_only_the_newest_events_count(ranker, request_ids):
    _, candidates = request_ids
    history = np.arange(2, 2 + 37)
    np.testing.assert_array_equal(
        ranker.rank(history, candidates), ranker.rank(history[-23:], candidates)
    )


def test_a_history_is_encoded_once(ranker, request_ids, monkeypatch):
    history, candidates = request_ids
    reference = ranker.rank(history, candidates)
    calls = []
    run = ranker.model.run
    monkeypatch.setattr(
        ranker.model, "run", lambda name, inputs: calls.append(name) or run(name, inputs)
    )
    np.testing.assert_array_equal(ranker.rank(history, candidates), reference)
    ranker.rank(history[1:-1], candidates)
    assert calls == ["score_candidates", "encode_user", "score_candidates"]


def test_the_least_recently_used_state_leaves_a_full_cache(din, request_ids):
    small = Ranker(din.version, cached_states=2)
    for history in ([2, 3], [4, 5], [2, 3], [6, 7]):
        small.histories.encode(history)
    cache_keys = set(small.histories._cache)
    small.histories.encode([2, 3])
    assert set(small.histories._cache) == cache_keys


@pytest.mark.parametrize(("history", "candidates"), [([], [2, 3]), ([2, 3, 4], []), ([], [])])
def test_empty_lists_are_ranked(ranker, history, candidates):
    actual = ranker.rank(history, candidates)
    assert actual.shape == (len(candidates),)
    assert np.isfinite(actual).all()


def test_a_user_field_that_the_model_reads_has_to_be_given(base_model):
    ranker = Ranker(base_model.version)
    with pytest.raises(ValueError, match="reads user_id of the user"):
        ranker.rank([2, 3], [5])
    batch, mask = base_model.batch, base_model.batch["hist_mask"][7]
    actual = ranker.rank(
        batch["hist_item_id"][7][mask], batch["cand_item_id"][7], {"user_id": batch["user_id"][7]}
    )
    np.testing.assert_allclose(actual, base_model.expected[7], atol=1e-6)


def test_newer_events_fold_into_a_state(base_model):
    ranker, user = Ranker(base_model.version), {"user_id": 11}
    history, candidates = np.array([2, 9, 4, 33, 12, 7, 5]), [3, 5, 8]
    state = ranker.histories.encode(history[:3], user)
    events = ranker.model.features(HISTORY, history[3:], "update_user")
    state = ranker.model.run("update_user", {**state, **events})
    np.testing.assert_allclose(
        ranker.score(state, candidates), ranker.rank(history, candidates, user), atol=1e-6
    )


def test_a_negative_size_of_the_cache_is_refused(din):
    with pytest.raises(ValueError, match="cached_states must not be negative; got -1"):
        Ranker(din.version, cached_states=-1)


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ({"category_id": [3]}, "expected item_id among the fields"),
        ({"item_id": [2, 3], "category_id": [4]}, "one category_id for each of 2 items"),
    ],
)
def test_incomplete_histories_are_refused(ranker, history, message):
    with pytest.raises(ValueError, match=message):
        ranker.rank(history, [5])


def test_a_bundle_of_another_schema_is_refused_in_one_sentence(din):
    with pytest.raises(ValueError, match="expected a bundle of schema"):
        BundleModel(din.version, make_schema(max_history=53))


def test_the_vocabulary_of_a_field_that_is_not_read_is_missing_with_a_reason(wide_deep):
    with pytest.raises(ValueError, match="no vocabulary 'user_id'"):
        RawRanker(Ranker(wide_deep.version)).to_ids({"user_id": "u17"})


def test_a_version_of_an_earlier_format_is_refused(din, tmp_path):
    shutil.copytree(din.version, tmp_path / "1")
    path = tmp_path / "1" / ASSETS / METADATA_FILE
    path.write_text(sealed({**read_json(path, "", ""), "format_version": 1}))
    with pytest.raises(ValueError, match="an export of format 1, .*; export the model again"):
        open_bundle(tmp_path)


def test_a_directory_that_is_no_export_of_ours_is_refused(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    with pytest.raises(ValueError, match="expected the description of an export in .*model.json"):
        open_bundle(tmp_path)
