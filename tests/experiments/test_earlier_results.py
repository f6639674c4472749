"""Results of earlier files are taken where they are what is wanted, and refused where they are not."""

import dataclasses
import json
import pathlib

import pytest

from dgin_tf.schema import Schema
from dgin_tf.training.loop import LoopOptions
from experiments.dien import movielens, paper
from experiments.reporting.earlier_results import EarlierResults
from experiments.running import runs
from tests.prepared import make_schema

RESULTS = pathlib.Path(paper.__file__).parents[1] / "results"
TABLES = sorted(
    path
    for paper_name in ("dien", "mimn", "sim", "encode", "dgin")
    for path in RESULTS.glob(f"{paper_name}_*.json")
)


@pytest.fixture
def data_dir(tmp_path):
    make_schema().save(tmp_path)
    return tmp_path


def result_of(seeds, **config):
    """A common result of DIN with so many seeds."""
    splits = {split: {"auc": 0.75} for split in runs.SPLITS}
    one = {**splits, "seconds": 1.0, "parameters": 7, "best_epoch": 1}
    plain = {**runs.plain_config(movielens.get_config("din")), **config}
    return runs.combine(plain, dict.fromkeys(range(1, seeds + 1), one))


def find(path, data_dir, seeds, data_set="popular", key="din"):
    config = movielens.get_config("din")
    return EarlierResults(path).find(data_set, key, config, data_dir, range(1, seeds + 1))


def write(path, result):
    runs.write_json(path, {"results": {"popular": {"din": result}}})
    return path


def test_a_result_with_as_many_seeds_or_more_is_taken_as_it_is(data_dir):
    path = write(data_dir / "earlier.json", result_of(3))
    expected = json.loads(path.read_text())["results"]["popular"]["din"]
    assert find([path], data_dir, 2) == find([path], data_dir, 3) == expected


def test_another_model_and_another_data_set_are_not_taken(data_dir):
    path = write(data_dir / "earlier.json", result_of(3))
    assert find([path], data_dir, 3, key="din_released") is None
    assert find([path], data_dir, 3, data_set="uniform") is None


def test_the_first_file_with_enough_seeds_is_taken(data_dir):
    paths = [write(data_dir / f"{seeds}.json", result_of(seeds)) for seeds in (2, 5, 4)]
    assert len(find(paths, data_dir, 3)["seeds"]) == 5


def test_files_that_have_some_of_the_seeds_are_taken_together(data_dir):
    paths = [write(data_dir / f"{seeds}.json", result_of(seeds)) for seeds in (2, 3)]
    found = find(paths, data_dir, 4)
    assert [entry["seed"] for entry in found["seeds"]] == [1, 2, 3]
    assert [origin["seeds"] for origin in runs.origins(found)] == [[1, 2], [3]]


def test_another_config_is_refused_with_the_setting_that_differs(data_dir):
    path = write(data_dir / "earlier.json", result_of(3, precision="mixed_bfloat16"))
    with pytest.raises(ValueError, match=r"precision \('mixed_bfloat16', now 'float32'\)"):
        find([path], data_dir, 3)


def test_seeds_of_another_program_are_not_taken(data_dir, caplog):
    ours, other = result_of(2), {**result_of(3), "program": "0123456789ab"}
    mixed = write(data_dir / "mixed.json", runs.merge([ours, other]))
    found = find([mixed], data_dir, 3)
    assert [entry["seed"] for entry in found["seeds"]] == [1, 2]
    assert "mixed.json: seeds [3] of din on popular are of another program" in caplog.text
    assert find([write(data_dir / "other.json", other)], data_dir, 3) is None


def test_a_config_of_another_program_is_no_reason_to_refuse(data_dir):
    other = {**result_of(3, precision="mixed_bfloat16"), "program": "0123456789ab"}
    assert find([write(data_dir / "earlier.json", other)], data_dir, 3) is None


def test_the_seed_of_a_run_is_no_difference_and_the_schema_of_its_data_is(data_dir):
    here = {"seed": 1, "data_dir_schema": Schema.load(data_dir).fingerprint()}
    assert find([write(data_dir / "earlier.json", result_of(3, **here))], data_dir, 3)
    elsewhere = write(data_dir / "elsewhere.json", result_of(3, data_dir_schema="another"))
    with pytest.raises(ValueError, match=r"differs in data_dir_schema \('another', now"):
        find([elsewhere], data_dir, 3)


@pytest.mark.parametrize("text", ["{", "[1]", '{"results": {"toy": {"din": {"config": {}}}}}'])
def test_a_file_that_the_tables_did_not_write_is_refused(data_dir, text):
    (data_dir / "other.json").write_text(text)
    with pytest.raises(ValueError, match=r"experiments.tables .*other"):
        EarlierResults([data_dir / "other.json"])


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_committed_rows_without_a_program_are_shown_as_of_an_earlier_one(path):
    table = path.with_suffix(".md").read_text(encoding="utf-8")
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    if any("program" not in result for rows in results.values() for result in rows.values()):
        assert "of an earlier program" in table or "of several programs" in table


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_committed_results_name_the_loops_settings_as_the_loop_does(path):
    fields = {field.name for field in dataclasses.fields(LoopOptions)} - {"seed"}
    for rows in json.loads(path.read_text())["results"].values():
        for result in rows.values():
            assert result["config"]["loop"].keys() == fields
            assert result["config"]["loop"]["evaluations_per_epoch"] == 1  # so best_epoch is one
