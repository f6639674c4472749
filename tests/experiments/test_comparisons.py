"""Rows of one table are trained by one rule and given the same, whatever the paper."""

import importlib
import pathlib

import ml_collections
import pytest

import experiments
from dgin_tf.training.loop import LoopOptions
from experiments import tables

FOLDERS = ("dien", "sim", "mimn", "encode", "dgin")
CONFIGS = [
    f"{folder}.{path.stem}"
    for folder in FOLDERS
    for path in sorted((pathlib.Path(experiments.__file__).parent / folder).glob("*.py"))
    if "def get_config(" in path.read_text() and path.stem not in ("variants", "copy_task")
]


def configs(name):
    """Row -> its config, of all tables of a config file's paper."""
    module = importlib.import_module(f"experiments.{name}")
    paper = importlib.import_module(f"experiments.{name.split('.')[0]}.paper")
    rows = {row.key: row for table in paper.TABLES for row in table.rows}
    return {key: tables._config(module, row) for key, row in rows.items()}


def test_all_config_files_are_looked_at():
    assert len(CONFIGS) > 20
    assert all(
        isinstance(next(iter(configs(name).values())), ml_collections.ConfigDict)
        for name in CONFIGS
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_one_rule_stops_all_rows_and_has_three_evaluations_of_patience(name):
    # Rows of a table of their own repeat another implementation's protocol.
    loops = [c.loop.to_dict() for row, c in configs(name).items() if "like_yardstick" not in row]
    assert all(loop == loops[0] for loop in loops)
    # The paper's single epoch has one evaluation; tables say that its rows end on it.
    assert loops[0]["patience"] >= 3
    assert loops[0]["epochs"] >= 30 or (loops[0]["epochs"] == 1 and name.startswith("encode."))


def test_the_loops_own_rule_is_the_tables():
    assert (LoopOptions().patience, LoopOptions().epochs) == (3, 30)


@pytest.mark.parametrize("name", CONFIGS)
def test_one_reader_reads_the_newest_events_of_all_rows(name):
    models = [config.model for config in configs(name).values()]
    readers = {(m.short_reader, m.softmax) for m in models if "short_reader" in m}
    assert len(readers) <= 1


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("dien.")])
def test_negatives_of_the_auxiliary_loss_are_uniform_but_where_the_release_is_run(name):
    module = importlib.import_module(f"experiments.{name}")
    assert module.get_config("dien").data.history_negatives is None  # the loss's own: uniform
    released = module.get_config("dien_released").data.history_negatives
    assert released == ("popularity" if name == "dien.movielens" else None)
