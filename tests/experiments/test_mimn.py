"""MIMN's experiments: configs and tables."""

import math
import pathlib

import pytest

from dgin_tf.layers.pooling import Pooling
from dgin_tf.models.registry import MODELS
from experiments.mimn import (
    addressing,
    amazon_books,
    movielens,
    paper,
    synthetic_200,
    synthetic_1000,
    taobao,
    variants,
)
from experiments.reporting import paper_tables
from experiments.running import runs
from tests.experiments.test_runs import result_of, small
from tests.prepared import make_schema, write_prepared

CONFIGS = {
    "amazon_books": amazon_books,
    "movielens": movielens,
    "synthetic_200": synthetic_200,
    "synthetic_1000": synthetic_1000,
    "taobao": taobao,
}
ROWS = {row.key: row for table in paper.TABLES for row in table.rows}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_experiment_says_what_it_claims_costs_and_expects(name):
    module = pathlib.Path(paper.__file__).with_name(f"{name}.py").read_text()
    for word in ("Claim:", "python -m experiments.train", "Cost:", "Expected"):
        assert word in module


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_row_of_the_tables_has_a_config(config):
    for model in {row.model for row in ROWS.values()}:
        found = config.get_config(model)
        assert found.model.name in MODELS
        assert (found.network.embedding_dim, found.optimizer.decay) == (16, 0.9)


def test_the_tables_take_mimn_apart():
    configs = {name: taobao.get_config(name).model for name in (*variants.VARIANTS, "mimn")}
    parts = {
        name: (model.slots, model.utilization_weight > 0, model.top_k > 0)
        for name, model in configs.items()
    }
    assert parts == {
        "mimn_4_slots": (4, False, False),
        "mimn_6_slots": (6, False, False),
        "mimn_8_slots": (8, False, False),
        "mimn_without_induction": (8, True, False),
        "mimn_without_utilization": (8, False, True),
        "mimn_like_yardstick": (4, False, False),
        "mimn_like_yardstick_released": (4, False, False),
        "mimn_4_slots_released": (4, False, False),
        "mimn_without_induction_released": (8, True, False),
        "mimn": (8, True, True),
    }


@pytest.mark.parametrize(
    ("model", "weight", "negatives"),
    [("mimn", 0.0, "none"), ("mimn", 0.3, "uniform"), ("gru4rec", None, "none")],
)
def test_non_clicks_are_sampled_where_the_auxiliary_loss_is_used(model, weight, negatives):
    config = taobao.get_config(model)
    if weight is not None:
        config.model.auxiliary_weight = weight
    assert runs.plain_config(config)["data"]["history_negatives"] == negatives


@pytest.mark.parametrize("column", [0, 1])
def test_the_printed_figures_agree_with_the_claims(column):
    for worse, better in paper.CLAIMS:
        assert ROWS[worse].paper_values[column] < ROWS[better].paper_values[column]


def test_the_tables_print():
    results = {"uniform": {name: result_of([0.7, 0.8]) for name in ("gru4rec", "mimn")}}
    text = paper_tables.markdown(paper.TABLES[0], results, paper.YARDSTICKS)
    assert "GRU4REC | 0.9006 | 0.7411 | 0.7500" in text


def test_the_yardstick_stands_beside_rows_of_its_own_protocol_alone():
    models = {row.model.removesuffix("_released") for row in ROWS.values()}
    for yardsticks in paper.YARDSTICKS.values():
        assert set(yardsticks) == {"mimn_like_yardstick"} <= models
    for row in ROWS.values():
        if row.model.startswith("mimn_like_yardstick"):
            config = movielens.get_config(row.model)
            config.update_from_flattened_dict(row.override)
            assert (config.data.max_history, config.loop.epochs) == (100, 3)
            assert (config.model.utilization_weight, config.model.top_k) == (0, 0)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_row_has_the_summed_history_once(config):
    for model in {row.model for row in ROWS.values()}:
        settings = runs.plain_config(config.get_config(model))
        encoders = runs.make_model(settings, make_schema()).encoders
        sums = [encoder for encoder in encoders.values() if isinstance(encoder, Pooling)]
        assert len(sums) == 1


def test_rows_of_the_sweep_are_settings_of_mimn_and_its_table_has_validation_alone():
    for settings in addressing.ROWS.values():
        movielens.get_config("mimn").model.update(settings)  # an unknown one fails
    entry = {"auc": 0.75, "write_entropy": 0.5, "largest_read": 0.25, "effective_slots": 3.0}
    text = addressing.markdown({"printed": [entry, {**entry, "auc": 0.77}]})
    assert "| printed | 2 | 0.7600 | 0.500 | 0.250 | 3.000 |" in text


@pytest.mark.slow
def test_a_small_sweep_trains_and_measures(tmp_path):
    (tmp_path / "data").mkdir()
    write_prepared(tmp_path / "data", users=31)

    class Small:
        def get_config(self, model):
            config = small(movielens.get_config(model))
            config.data.batch_rows = 8
            return config

    arguments = (Small(), str(tmp_path / "data"), tmp_path / "sweep", ["learned, top 2"], [1], 1)
    text = addressing.run(*arguments)
    assert (tmp_path / "sweep" / "addressing.md").read_text() == text
    assert addressing.run(*arguments) == text  # nothing is trained twice


@pytest.mark.slow
def test_a_small_run_of_mimn_trains_and_scores(tmp_path):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    write_prepared(data_dir, users=31)
    config = small(movielens.get_config("mimn"))
    config.model.slots = 3
    config.data.batch_rows = 8  # too few for XLA, which would compile for longer than the run takes
    result = runs.train_seeds(config, str(data_dir), tmp_path / "run", [1])
    assert math.isfinite(result["seeds"][0]["test"]["auc"])
