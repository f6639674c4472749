"""DGIN's experiments: configs, tables, and edges learned from a training split."""

import pathlib

import pytest

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.models.registry import MODELS
from experiments import paper_tables, runs
from experiments.dgin import (
    learn_edges,
    movielens,
    paper,
    small_logs,
    synthetic,
    taobao,
    variants,
)
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
        assert found.backbone.activation == "prelu"


def test_every_variant_is_a_row_and_every_claim_is_about_rows():
    assert set(variants.ROWS) <= ROWS
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
