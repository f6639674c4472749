"""Configs are found by path, name or module, from any directory; a wrong one gets a hint."""

import pathlib

import pytest

from experiments.dien import movielens
from experiments.running import configs, defaults

PATH = movielens.__file__


@pytest.mark.parametrize(
    "name",
    ["dien/movielens", "experiments.dien.movielens", "experiments/dien/movielens.py", PATH],
)
def test_a_config_is_found_from_any_directory(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configs.find(f"{name}:din") == f"{PATH}:din"
    assert configs.find(name) == PATH


def test_a_file_of_ones_own_is_found_by_path_and_by_module(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text("import x\n\ndef get_config(model):\n    return model\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert configs.find("own.py:din") == "own.py:din"
    assert configs.find("own:din") == f"{tmp_path / 'own.py'}:din"


def test_the_defaults_have_a_name_for_ones_own_data():
    assert configs.find("defaults:din") == f"{defaults.__file__}:din"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dien/movielen:din", "Did you mean dien/movielens"),
        ("experiments/dien/movilens.py", "Did you mean dien/movielens"),
        ("experiments.dien.movielen", "Did you mean dien/movielens"),
        ("movielens:din", "dien/movielens"),
        ("din", "defaults:din or dien/movielens:din"),
        ("nowhere/at-all", "There are defaults, dgin/movielens"),
        ("experiments.dien.paper", "experiments.dien.movielens"),
        ("", "There are defaults"),
    ],
)
def test_a_wrong_name_is_answered_by_those_that_are_written_alike(name, hint):
    with pytest.raises(ValueError, match="expected --config=FILE.py") as error:
        configs.find(name)
    assert hint in str(error.value)


def test_every_name_loads():
    assert {"dien/movielens", "mimn/taobao", "defaults"} <= set(configs.names())
    assert not [name for name in configs.names() if "variants" in name or "running" in name]
    for name in configs.names():
        assert pathlib.Path(configs.find(name)).is_file()
