"""SIM's experiments: configs, tables, and what their commands print."""

import math
import pathlib

import numpy as np
import pytest

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.models.registry import MODELS
from experiments.analysis import searches
from experiments.reporting import paper_tables
from experiments.running import runs
from experiments.sim import (
    amazon_books,
    movielens,
    paper,
    synthetic_500,
    synthetic_5000,
    taobao,
)
from tests.experiments.test_runs import result_of, small
from tests.prepared import write_prepared

CONFIGS = {
    "amazon_books": amazon_books,
    "movielens": movielens,
    "synthetic_500": synthetic_500,
    "synthetic_5000": synthetic_5000,
    "taobao": taobao,
}
SOFT, POOLED = "sim_soft_time", "avg_pooling_long_din"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared")
    write_prepared(path, users=31)
    return str(path)


def train(model, data_dir, model_dir):
    config = small(movielens.get_config(model))
    config.model.short_events = 3
    if "k" in config.model:
        config.model.k = 5
    runs.train_seeds(config, data_dir, model_dir, [1])


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """Runs of soft search with time and of average pooling."""
    folder = tmp_path_factory.mktemp("trained")
    for model in (SOFT, POOLED):
        train(model, data_dir, folder / model)
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_every_experiment_says_what_it_claims_costs_and_expects(name):
    module = pathlib.Path(paper.__file__).with_name(f"{name}.py").read_text()
    for word in ("Claim:", "python -m experiments.train", "Cost:", "Expected"):
        assert word in module


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_row_of_the_tables_has_a_config(config):
    rows = {row.model for table in paper.TABLES for row in table.rows}
    for model in sorted(rows):
        found = config.get_config(model)
        assert found.model.name in MODELS
        assert found.model.get("time", False) == model.endswith("_time")


def test_din_reads_the_short_part_alone_as_in_the_papers_tables():
    assert taobao.get_config("din").data.max_history == 100
    assert taobao.get_config("sim_hard").data.max_history == 500
    assert taobao.get_config("sim_hard").model.short_events == 100


def test_figures_that_the_paper_does_not_have_are_dashes():
    results = {"uniform": {name: result_of([0.7, 0.8]) for name in ("din", "sim_soft_time")}}
    text = paper_tables.markdown(paper.TABLES[0], results, paper.YARDSTICKS)
    assert "SIM(soft) with Timeinfo | 0.9501 | - | 0.7500" in text
    assert math.isnan(paper.NOT_RUN)


def test_days_are_those_of_what_each_model_ranks_first(trained, data_dir):
    data = PreparedData(data_dir)
    loaded = searches.load([f"soft={trained / SOFT}", str(trained / POOLED)], data)
    days = searches.days_since_category(loaded, data, "test", max_history=47)
    assert {name: len(values) for name, values in days.items()} == {
        "clicks": 31,
        "soft": 31,
        POOLED: 31,
    }
    assert all(np.all(values >= -1) for values in days.values())


def test_the_recall_of_an_index_is_found_for_every_number_of_tables(trained, data_dir):
    data = PreparedData(data_dir)
    run = runs.load_model(trained / SOFT, data)
    found = searches.index_recall(run, data, [2, 64])
    assert found[2] < found[64] <= (1.0, 1.0)


def test_a_model_without_soft_search_has_no_index(trained, data_dir):
    data = PreparedData(data_dir)
    with pytest.raises(ValueError, match=f"got one of '{POOLED}'"):
        searches.index_recall(runs.load_model(trained / POOLED, data), data, [2])
