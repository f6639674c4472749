"""DGIN's experiments: configs, tables, and edges learned from a training split."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from absl import flags

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.layers.group_statistics import quantile_edges
from dgin_tf.models.registry import MODELS
from dgin_tf.schema import Schema
from dgin_tf.serving.online.bundle_model import BundleModel
from dgin_tf.serving.online.ranker import Ranker
from experiments.dgin import (
    learn_edges,
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


def test_every_variant_is_a_row_and_every_claim_is_about_rows():
    assert set(variants.ROWS) <= ROWS
    assert {model for claim in paper.CLAIMS for model in claim} <= ROWS


def test_short_models_read_the_short_part_alone():
    for model in variants.SHORT:
        assert taobao.get_config(model).data.max_history == 100
    assert taobao.get_config("dgin").data.max_history == 500


def test_what_is_not_known_is_a_class_of_its_own_among_learned_ones():
    unknown, known = np.zeros(30, int), np.arange(5, 45)
    values = np.concatenate([unknown, known])
    edges = learn_edges.statistic_edges("mean_dwell", values, 5)
    assert edges[0] == 1
    sizes = np.bincount(np.searchsorted(edges, values, side="right"))
    assert sizes.tolist() == [30, 10, 10, 10, 10]
    assert learn_edges.statistic_edges("mean_dwell", unknown, 5) == []
    assert learn_edges.statistic_edges("count", known, 2) == quantile_edges(known, 2)


def test_films_are_grouped_by_genre_and_goods_by_item():
    assert movielens.get_config("dgin").model.key == "category_id"
    assert movielens.get_config("dgin_session").model.key == "session"
    assert taobao.get_config("dgin").model.key == "item_id"


def test_the_tables_print_the_papers_figures():
    results = {"taobao": {"dgin_click_only": result_of([0.7, 0.8])}}
    text = paper_tables.markdown(paper.TABLES[2], results, paper.YARDSTICKS)
    assert "click-only | 0.7003 | 0.7442 | 0.7500" in text


def test_learned_edges_are_a_setting_that_trains(data_dir, tmp_path):
    config = small(taobao.get_config("dgin_category"))
    edges = learn_edges.learn_edges(config, PreparedData(data_dir), classes=3, batches=2)
    names = [name for name, _ in edges]
    assert "count" in names
    assert all(1 <= len(values) <= 2 for _, values in edges)
    config.model.edges = edges
    runs.train_seeds(config, data_dir, tmp_path / "run", [1])
    model, _ = runs.load_model(tmp_path / "run", PreparedData(data_dir))
    learned = model.encoders["group_module"].statistics.edges
    assert learned["count"] == list(dict(edges)["count"])


def test_a_model_without_statistics_has_no_edges_to_learn(data_dir):
    config = small(taobao.get_config("dgin_simple"))
    with pytest.raises(ValueError, match="DGIN with statistics; got 'dgin' without"):
        learn_edges.learn_edges(config, PreparedData(data_dir))


def learn(monkeypatch, data_dir, *given, config="dgin_category"):
    """Runs the command in this process."""
    values = flags.FlagValues()
    learn_edges.define_flags(values)
    path = pathlib.Path(taobao.__file__)
    values(["learn_edges", f"--config={path}:{config}", f"--data_dir={data_dir}", *given])
    monkeypatch.setattr(flags, "FLAGS", values)
    learn_edges.main([])


@pytest.fixture
def own_data(data_dir, tmp_path):
    """A copy of the data that a test may change."""
    return pathlib.Path(shutil.copytree(data_dir, tmp_path / "data"))


def test_edges_are_of_the_training_split_alone(monkeypatch, own_data, tmp_path):
    learn(monkeypatch, own_data)
    learned = Schema.load(own_data).statistic_edges
    assert learned["category_id"]["count"]
    other = tmp_path / "other"
    write_prepared(other, users=61, seed=9)
    for split in ("validation", "test"):
        shutil.rmtree(own_data / split)
        shutil.copytree(other / split, own_data / split)
    manifest = json.loads((own_data / "manifest.json").read_text())
    foreign = json.loads((other / "manifest.json").read_text())
    manifest["splits"] |= {name: foreign["splits"][name] for name in ("validation", "test")}
    (own_data / "manifest.json").write_text(json.dumps(manifest))
    learn(monkeypatch, own_data, "--overwrite")
    assert Schema.load(own_data).statistic_edges == learned


def test_other_edges_are_not_replaced_unless_told(own_data):
    edges, others = (("count", (2, 5)), ("types", (2,))), (("count", (3,)),)
    learn_edges.store_edges(own_data, "item_id", edges)
    before = (own_data / "schema.json").read_bytes()
    learn_edges.store_edges(own_data, "item_id", edges)
    with pytest.raises(ValueError, match="has other edges of 'item_id' already.*--overwrite"):
        learn_edges.store_edges(own_data, "item_id", others)
    assert (own_data / "schema.json").read_bytes() == before
    learn_edges.store_edges(own_data, "session", others)
    learn_edges.store_edges(own_data, "item_id", others, overwrite=True)
    found = PreparedData(own_data).schema.statistic_edges
    assert found == {"item_id": dict(others), "session": dict(others)}


def test_edges_are_printed_alone_where_nothing_is_to_be_stored(monkeypatch, own_data, capsys):
    before = (own_data / "schema.json").read_bytes()
    learn(monkeypatch, own_data, "--print_only")
    assert capsys.readouterr().out.startswith("--config.model.edges=\"(('count', (")
    assert (own_data / "schema.json").read_bytes() == before


def test_edges_of_clicks_alone_are_not_stored(monkeypatch, own_data):
    with pytest.raises(ValueError, match=r"of all types of behavior; got a config of \['pv'\]"):
        learn(monkeypatch, own_data, config="dgin_click_only")


def scores(model, data):
    (batch,) = data.evaluation("test", BatchOptions(batch_rows=64)).take(1)
    return model(batch)["logits"].numpy()


@pytest.mark.slow
def test_a_run_and_its_bundle_keep_the_edges_that_they_were_trained_with(
    monkeypatch, own_data, tmp_path
):
    config = small(taobao.get_config("dgin_category"))
    runs.train_seeds(config, str(own_data), tmp_path / "before", [1])
    fixed = scores(
        runs.load_model(tmp_path / "before", PreparedData(own_data))[0], PreparedData(own_data)
    )
    learn(monkeypatch, own_data, "--classes=3")
    learned = Schema.load(own_data).statistic_edges
    result = runs.train_seeds(config, str(own_data), tmp_path / "run", [1])
    assert result["config"][runs.STATISTIC_EDGES] == learned
    model, _ = runs.load_model(tmp_path / "run", PreparedData(own_data))
    expected = scores(model, PreparedData(own_data))
    # Other edges now, of another number, and a run that began before there were any.
    learn(monkeypatch, own_data, "--classes=7", "--overwrite")
    data = PreparedData(own_data)
    assert data.schema.statistic_edges != learned
    for run, wanted in (("run", expected), ("before", fixed)):
        found, _ = runs.load_model(tmp_path / run, data)
        np.testing.assert_array_equal(scores(found, data), wanted)
    version = publishing.export_run(tmp_path / "run", data, tmp_path / "export")
    ranker = Ranker(BundleModel(version, data.schema))
    assert ranker.model.schema.statistic_edges == learned
    assert ranker.model.metadata["config"][runs.STATISTIC_EDGES] == json.loads(json.dumps(learned))
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
