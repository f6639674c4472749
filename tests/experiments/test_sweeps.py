"""Sweeps: what a grid is, what is trained, and what is chosen."""

import json

import pytest

from experiments.running import defaults, sweeps, tasks
from experiments.running.runs import SeedPool
from tests.prepared import write_prepared

POINTS = sweeps.grid("optimizer.learning_rate=1e-3,2e-2;network.tower_units=(5,)")


def small_config():
    config = defaults.get_config("base_model")
    config.network.embedding_dim = 3
    config.data.batch_rows = 16
    config.loop.epochs = 1
    return config


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Data set, folder and content of a finished sweep."""
    data_dir, folder = tmp_path_factory.mktemp("prepared"), tmp_path_factory.mktemp("sweep")
    write_prepared(data_dir, users=31)
    with SeedPool(1) as pool:
        content = sweeps.run_sweep(pool, small_config(), POINTS, str(data_dir), folder, [1, 2])
    return data_dir, folder, content


def test_a_grid_is_the_product_of_its_settings():
    grid = sweeps.grid("model.units=16,36; optimizer.learning_rate=1e-3,2e-3")
    assert [tuple(point.values()) for point in grid] == [
        *((16, 0.001), (16, 0.002)),
        *((36, 0.001), (36, 0.002)),
    ]


def test_values_may_be_tuples_texts_and_nothing():
    (point,) = sweeps.grid("network.tower_units=(8,4);optimizer.name=adam;network.momentum=None")
    assert list(point.values()) == [(8, 4), "adam", None]
    config = sweeps.configure(defaults.get_config("din"), point)
    assert config.network.tower_units == (8, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "got none"),
        ("model.units", "expected --sweep="),
        ("a=1;a=2", "names a twice"),
        ("a=1,2,1", "value of a twice"),
        ("model.unitz=3", "model.unitz=3, which this config cannot take"),
        ("model.units=wide", "model.units='wide', which this config cannot take"),
        ("model=3", "cannot take"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        sweeps.configure(defaults.get_config("dien"), sweeps.grid(text)[0])


def test_the_row_with_the_best_mean_on_validation_is_chosen_and_tested_alone(swept):
    _, folder, content = swept
    aucs = [row["validation"]["auc"] for row in content["rows"]]
    assert content["chosen"] == aucs.index(max(aucs))
    best = folder / content["rows"][content["chosen"]]["folder"]
    result = json.loads((best / "result.json").read_text())
    assert content["test"]["auc"] == result["test"]["auc"]
    assert not [row for row in content["rows"] if "test" in row]
    assert {"config", "versions", "machine", "seeds"} <= set(content)


def test_the_table_has_every_point_and_the_test_of_the_chosen_one(swept):
    _, folder, content = swept
    text = (folder / "sweep.md").read_text()
    head, _, *rows, _, summary = text.strip().splitlines()
    assert head.startswith("| optimizer.learning_rate | network.tower_units | validation AUC |")
    assert ["**" in row for row in rows] == [n == content["chosen"] for n in range(2)]
    assert all(" ± " in row for row in rows)
    assert text.count("Test: AUC") == 1
    assert f"{content['test']['auc']:.4f}" in summary


def test_finished_points_are_not_trained_again(swept, monkeypatch):
    data_dir, folder, content = swept
    monkeypatch.setattr(tasks, "make_model", None)
    with SeedPool(1) as pool:
        again = sweeps.run_sweep(pool, small_config(), POINTS, str(data_dir), folder, [1, 2])
    assert again == content
