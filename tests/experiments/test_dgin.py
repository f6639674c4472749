"""DGIN's experiments: configs, tables, and bucket boundaries learned from a training split."""

import pathlib
import shutil

import numpy as np
import pytest

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.integrity import sealed
from dgin_tf.layers.group_statistics import GroupStatistics
from dgin_tf.models.registry import MODELS
from dgin_tf.records import read_manifest
from dgin_tf.serving.online.bundle_model import BundleModel
from dgin_tf.serving.online.ranker import Ranker
from experiments.dgin import (
    movielens,
    paper,
    small_logs,
    synthetic,
    taobao,
    variants,
)
from experiments.reporting import paper_tables
from experiments.running import publishing, runs
from tests.experiments.test_runs import result_of, small
from tests.prepared import write_prepared

CONFIGS = {
    "movielens": movielens,
    "small_logs": small_logs,
    "synthetic": synthetic,
    "taobao": taobao,
}
ROWS = {row.model for table in paper.TABLES for row in table.rows}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared")
    write_prepared(path, users=31)
    return str(path)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_experiment_says_what_it_claims_costs_and_expects(name):
    module = pathlib.Path(paper.__file__).with_name(f"{name}.py").read_text()
    for word in ("Claim:", "python -m experiments.train", "Cost:", "Expected"):
        assert word in module


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_row_of_the_tables_has_a_config(config):
    for model in ROWS:
        found = config.get_config(model)
        assert found.model.name in MODELS
        assert found.network.activation == "prelu"


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_no_group_is_left_out(config):
    assert config.get_config("dgin").model.groups is None


def test_a_batch_on_taobao_has_the_papers_samples():
    assert 512 < taobao.get_config().data.batch_rows * (1 + 99) <= 1024


def test_every_variant_is_a_row_and_every_claim_is_about_rows():
    assert set(variants.ROWS) - ROWS == {
        "dgin_session"
    }  # learned nothing, see the tables' docstring
    assert {model for claim in paper.CLAIMS for model in claim} <= ROWS


def test_short_models_read_the_short_part_alone():
    for model in variants.SHORT:
        assert taobao.get_config(model).data.max_history == 100
    assert taobao.get_config("dgin").data.max_history == 500


def test_films_are_grouped_by_genre_and_goods_by_item():
    assert movielens.get_config("dgin").model.key == "category_id"
    assert movielens.get_config("dgin_session").model.key == "session"
    assert taobao.get_config("dgin").model.key == "item_id"


def test_the_tables_print_the_papers_figures():
    results = {"taobao": {"dgin_click_only": result_of([0.7, 0.8])}}
    (fourth,) = (table for table in paper.TABLES if "Table 4" in table.title)
    text = paper_tables.markdown(fourth, results, paper.YARDSTICKS)
    assert "click-only | 0.7003 | 0.7442 | 0.7500" in text


def test_rows_of_clicks_alone_read_clicks_whatever_the_model():
    tables = [table for table in paper.TABLES if table.title.startswith("Table 2")]
    for table in tables:
        types = {taobao.get_config(row.model).network.behavior_types for row in table.rows}
        assert types == ({("pv",)} if "of clicks" in table.title else {()})
    assert len(tables) == 4


def learning(name="dgin_category", buckets=3):
    config = small(taobao.get_config(name))
    config.model.boundaries = "learned"
    config.model.buckets = buckets
    return config


def boundaries_of(run_dir, data_dir):
    model, _ = runs.load_model(run_dir, PreparedData(data_dir))
    return model.group_module.statistics.learned_boundaries.numpy()


def test_learned_boundaries_are_a_setting_that_trains(data_dir, tmp_path):
    config = learning()
    runs.train_seeds(config, data_dir, tmp_path / "run", [1])
    learned = boundaries_of(tmp_path / "run", data_dir)
    fresh = runs.make_model(runs.plain_config(config), PreparedData(data_dir).schema)
    fresh.build()
    names = fresh.group_module.statistics.names
    assert learned.shape == (len(names), 2)
    assert np.any(learned != fresh.group_module.statistics.learned_boundaries.numpy())
    data = PreparedData(data_dir)
    batches = data.training(BatchOptions(**runs.plain_config(config)["data"]), 1, 0)
    fresh.adapt(batches)
    np.testing.assert_array_equal(learned, fresh.group_module.statistics.learned_boundaries)


def test_a_model_without_statistics_has_no_boundaries_to_learn(data_dir):
    config = runs.plain_config(learning("dgin_simple"))
    with pytest.raises(ValueError, match="expected statistics.*got a model without"):
        runs.make_model(config, PreparedData(data_dir).schema)


def test_a_resumed_run_has_the_boundaries_that_it_began_with(data_dir, tmp_path, monkeypatch):
    config = learning()
    config.loop.epochs = 1
    runs.train_seeds(config, data_dir, tmp_path / "run", [1])
    learned = boundaries_of(tmp_path / "run", data_dir)
    (tmp_path / "run" / "seed-1" / "result.json").unlink()

    def refuse(*args):
        raise AssertionError("adapted again")

    monkeypatch.setattr(GroupStatistics, "adapt", refuse)
    runs.train_seeds(config, data_dir, tmp_path / "run", [1])
    np.testing.assert_array_equal(boundaries_of(tmp_path / "run", data_dir), learned)


@pytest.fixture
def own_data(data_dir, tmp_path):
    """A copy of the data that a test may change."""
    return pathlib.Path(shutil.copytree(data_dir, tmp_path / "data"))


def test_boundaries_are_of_the_training_split_alone(own_data, tmp_path):
    runs.train_seeds(learning(), str(own_data), tmp_path / "run", [1])
    learned = boundaries_of(tmp_path / "run", own_data)
    other = tmp_path / "other"
    write_prepared(other, users=61, seed=9)
    for split in ("validation", "test"):
        shutil.rmtree(own_data / split)
        shutil.copytree(other / split, own_data / split)
    manifest, foreign = (read_manifest(folder) for folder in (own_data, other))
    manifest["splits"] |= {name: foreign["splits"][name] for name in ("validation", "test")}
    (own_data / "manifest.json").write_text(sealed(manifest))
    runs.train_seeds(learning(), str(own_data), tmp_path / "again", [1])
    np.testing.assert_array_equal(boundaries_of(tmp_path / "again", own_data), learned)


def scores(model, data):
    (batch,) = data.evaluation("test", BatchOptions(batch_rows=64)).take(1)
    return model(batch)["logits"].numpy()


@pytest.mark.slow
def test_a_run_and_its_bundle_keep_the_boundaries_that_they_were_trained_with(data_dir, tmp_path):
    runs.train_seeds(learning(), data_dir, tmp_path / "run", [1])
    data = PreparedData(data_dir)
    model, _ = runs.load_model(tmp_path / "run", data)
    expected = scores(model, data)
    version = publishing.export_run(tmp_path / "run", data, tmp_path / "export")
    ranker = Ranker(BundleModel(version, data.schema))
    (batch,) = data.evaluation("test", BatchOptions(batch_rows=64)).take(1)
    row = int(np.argmax(np.sum(batch["hist_mask"], axis=1)))
    mask = batch["hist_mask"].numpy()[row]
    history = {
        name: batch[f"hist_{name}"].numpy()[row][mask]
        for name in ("item_id", "category_id", "timestamp")
    }
    candidates = {
        name: batch[f"cand_{name}"].numpy()[row] for name in ("item_id", "category_id", "timestamp")
    }
    np.testing.assert_allclose(
        ranker.rank(history, candidates), 1 / (1 + np.exp(-expected[row])), rtol=0, atol=1e-5
    )
