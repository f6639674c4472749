"""An export scores as its model does, where there is nothing but TensorFlow, and is whole or absent."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.models.registry import MODELS
from dgin_tf.ownership import NOTES_FILE
from dgin_tf.serving.export import bundle
from dgin_tf.serving.export.bundle import Release, export_bundle, usage
from dgin_tf.serving.export.versions import FILES, latest_version, open_bundle
from tests.prepared import make_schema
from tests.serving.exported import CANDIDATES, CUTS, MAX_HISTORY, USERS, score_in_a_fresh_process

TOLERANCE = {"rtol": 0, "atol": 1e-6}


@pytest.fixture(scope="module")
def fresh(din, base_model, tmp_path_factory):
    scores = score_in_a_fresh_process([din, base_model], tmp_path_factory.mktemp("fresh"))
    return dict(zip(("din", "base_model"), scores, strict=True))


@pytest.fixture(params=["din", "base_model"])
def served(request, fresh):
    return request.getfixturevalue(request.param), fresh[request.param]


def test_a_fresh_process_with_tensorflow_alone_scores_as_the_model(served):
    bundle_export, scores = served
    assert np.ptp(bundle_export.expected) > 0.1
    np.testing.assert_allclose(scores["whole"], bundle_export.expected, **TOLERANCE)


def test_encoding_once_and_scoring_later_is_the_whole_prediction(served):
    bundle_export, scores = served
    np.testing.assert_allclose(scores["parts"], bundle_export.expected, **TOLERANCE)


def test_serialized_records_give_one_row_a_record_with_its_candidates_as_stored(served):
    bundle_export, scores = served
    reference = bundle_export.expected.reshape(USERS, CUTS * CANDIDATES)
    np.testing.assert_allclose(scores["examples"], reference, **TOLERANCE)


def test_updating_an_early_state_with_the_late_events_is_the_whole_prediction(fresh, base_model):
    np.testing.assert_allclose(fresh["base_model"]["updated"], base_model.expected, **TOLERANCE)


def test_a_model_that_is_not_incremental_offers_no_update(wide_deep):
    assert "update_user" not in tf.saved_model.load(str(wide_deep.version)).signatures


def test_the_command_line_tool_shows_every_signature(din):
    tool = pathlib.Path(sys.executable).with_name("saved_model_cli")
    command = [tool, "show", "--dir", din.version, "--all"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in ("serving_default", "predict_examples", "encode_user", "score_candidates"):
        assert f"signature_def['{name}']" in shown
    assert "inputs['hist_item_id'] tensor_info" in shown


def test_only_what_the_model_reads_is_asked_for(din, base_model):
    input_names = [
        set(
            json.loads((e.version / "assets.extra/model.json").read_text())["signatures"][
                "encode_user"
            ]["inputs"]
        )
        for e in (din, base_model)
    ]
    assert input_names[0] == {"hist_item_id", "hist_category_id"}
    assert input_names[1] == {"hist_item_id", "hist_category_id", "user_id"}


def test_no_persons_vocabulary_leaves_unless_the_model_reads_it_or_keeps_states(
    wide_deep, din, base_model
):
    folders = [e.version / "assets.extra" / "vocabulary" for e in (wide_deep, din, base_model)]
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names[0] == ["category_id.txt", "item_id.txt"]
    assert names[1:] == [["category_id.txt", "item_id.txt", "user_id.txt"]] * 2


def test_weights_that_no_signature_reads_stay_at_home(din):
    weight_names = {
        name for name, _ in tf.train.list_variables(str(din.version / "variables/variables"))
    }
    weight_count = len([name for name in weight_names if name.startswith("weights/")])
    metric_variables = sum(len(metric.variables) for metric in din.model.metrics)
    assert metric_variables > 0
    assert (
        len(din.model.trainable_variables)
        < weight_count
        <= len(din.model.variables) - metric_variables
    )


def test_versions_count_up_and_the_files_for_the_server_lie_beside_them(data, tmp_path):
    model = MODELS["base_model"](data.schema)
    release = Release("clicks", data.data_dir, MAX_HISTORY)
    versions = [export_bundle(model, release, tmp_path) for _ in range(2)]
    assert [version.name for version in versions] == ["1", "2"]
    assert latest_version(tmp_path) == versions[1]
    assert sorted(os.listdir(tmp_path)) == [
        NOTES_FILE,
        "1",
        "2",
        "batching_parameters.txt",
        "models.config",
        "monitoring.config",
    ]
    config = (tmp_path / "models.config").read_text()
    assert f'base_path: "{tmp_path}"' in config
    assert 'name: "clicks"' in config
    assert "/v1/models/clicks:predict" in usage(versions[1])


def test_all_files_that_are_read_have_checksums(din):
    described = set(open_bundle(din.version)[1][FILES])
    files = {p.relative_to(din.version).as_posix() for p in din.version.rglob("*") if p.is_file()}
    requests = {name for name in files if "/requests/" in name}
    assert files - described == {*requests, f"{bundle.ASSETS}/{bundle.METADATA_FILE}"}
    assert {"saved_model.pb", "variables/variables.index"} < described


def test_states_are_marked_by_weights_and_settings(data, tmp_path):
    model, digests = MODELS["base_model"](data.schema), []
    for number, config in enumerate(({"beta": 2}, {"beta": 2}, {"beta": 3})):
        release = Release("clicks", data.data_dir, MAX_HISTORY, config)
        version = export_bundle(model, release, tmp_path / str(number))
        metadata = json.loads((version / bundle.ASSETS / bundle.METADATA_FILE).read_text())
        digests.append(metadata["weights_digest"])
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("base_exists", [False, True])
def test_an_export_that_fails_leaves_nothing(data, din, tmp_path, monkeypatch, base_exists):
    def full_disk(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle.warmup, "write_warmup", full_disk)
    base = tmp_path / "export"
    if base_exists:
        base.mkdir()
    with pytest.raises(OSError, match="No space"):
        export_bundle(din.model, Release("din", data.data_dir, MAX_HISTORY), base)
    assert base.exists() == base_exists
    assert not base_exists or os.listdir(base) == []


def test_a_saved_model_that_scores_otherwise_is_not_exported(data, din, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "_TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="differs from the model's scores"):
        export_bundle(din.model, Release("din", data.data_dir, MAX_HISTORY), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_model_of_another_schema_is_refused_in_one_sentence(data, tmp_path):
    other = MODELS["base_model"](make_schema(max_history=53))
    with pytest.raises(ValueError, match="built for schema"):
        export_bundle(other, Release("x", data.data_dir, MAX_HISTORY), tmp_path)


def test_a_name_that_is_no_address_is_refused(data):
    with pytest.raises(ValueError, match="part of an address"):
        Release("my/model", data.data_dir, MAX_HISTORY)


def test_a_directory_without_versions_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="experiments.export"):
        latest_version(tmp_path)
