"""From a config to results of several seeds, and to a paper's tables."""

import json
import pathlib
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from ml_collections import config_flags

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.models.registry import MODELS
from dgin_tf.training.evaluation import Evaluator
from experiments import tables
from experiments.dien import movielens, paper
from experiments.reporting import paper_tables
from experiments.running import defaults, runs, starts, tasks
from experiments.sim import movielens as sim_movielens
from tests.prepared import write_prepared

CONFIGS = ("amazon_books", "amazon_electronics", "movielens", "taobao")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared")
    write_prepared(path, users=31)
    return path


def small(config):
    """A config that trains in a second."""
    config.network.embedding_dim = 3
    config.network.tower_units = (5,)
    config.data.batch_rows = 16
    config.evaluation_rows = 32
    config.loop.epochs = 1
    config.loop.evaluations_per_epoch = 1
    return config


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """Two seeds of BaseModel: their directory and their common result."""
    model_dir = tmp_path_factory.mktemp("trained")
    config = small(defaults.get_config("base_model"))
    return model_dir, runs.train_seeds(config, str(data_dir), model_dir, [4, 5])


def test_the_common_result_is_the_mean_over_seeds(trained):
    model_dir, result = trained
    assert result["config"]["model"]["name"] == "base_model"
    assert [entry["seed"] for entry in result["seeds"]] == [4, 5]
    aucs = [entry["test"]["auc"] for entry in result["seeds"]]
    assert result["test"]["auc"] == pytest.approx(sum(aucs) / 2)
    assert result["deviation"]["test"]["auc"] == pytest.approx(abs(aucs[0] - aucs[1]) / np.sqrt(2))
    assert result["test"]["examples"] == 31 * 2
    assert json.loads((model_dir / "result.json").read_text())["seeds"] == result["seeds"]
    assert {"machine", "versions", "seconds", "parameters"} <= set(result)


def test_a_loaded_model_scores_what_its_run_reported(trained, data_dir):
    model_dir, result = trained
    data = PreparedData(data_dir)
    model, config = runs.load_model(model_dir, data)
    assert config["seed"] == 4
    task = runs.make_task(config, data, seed=4)
    found = Evaluator(model).evaluate(task.evaluation("test"))
    assert found["auc"] == result["seeds"][0]["test"]["auc"]


def test_a_folder_without_a_run_is_refused(tmp_path, data_dir):
    with pytest.raises(FileNotFoundError, match="experiments.train"):
        runs.load_model(tmp_path, PreparedData(data_dir))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_can_be_made_from_its_default_config(name, data_dir):
    config = runs.plain_config(defaults.get_config(name))
    model = runs.make_model(config, PreparedData(data_dir).schema)
    assert type(model) is MODELS[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_experiment_says_what_it_claims_costs_and_expects(name):
    module = pathlib.Path(paper.__file__).with_name(f"{name}.py").read_text()
    for word in ("Claim:", "python -m experiments.train", "Cost:", "Expected"):
        assert word in module


def test_settings_that_a_model_does_not_have_are_refused():
    with pytest.raises(ValueError, match="expected a model among"):
        defaults.get_config("dine")
    with pytest.raises(AttributeError, match="unitz"):
        defaults.get_config("dien").model.unitz = 3


def test_an_optional_setting_takes_the_type_that_the_model_wants():
    config = defaults.get_config("dien")
    assert config.model.units is None
    config.model.units = 36
    with pytest.raises(TypeError):
        config.model.units = "wide"


@pytest.mark.parametrize(("text", "value"), [("()", ()), ("('user_id',)", ("user_id",))])
def test_user_fields_can_be_chosen_on_the_command_line(text, value, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train", f"--config.network.user_fields={text}"])
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_dict(
        "config", defaults.get_config("pnn"), flag_values=values
    )
    values(sys.argv)
    assert holder.value.network.user_fields == value
    assert defaults.get_config("pnn").network.user_fields is None


def test_an_unknown_optimizer_is_refused(data_dir):
    config = defaults.get_config("din")
    config.optimizer.name = "sgd"
    with pytest.raises(ValueError, match="rowwise_adam, adam; got 'sgd'"):
        runs.make_task(runs.plain_config(config), PreparedData(data_dir), seed=1)


def result_of(aucs, config=None):
    """A common result with these test AUCs of seeds 1, 2, ..."""
    seeds = {
        seed: {
            **{split: {"auc": auc, "gauc": auc, "log_loss": 0.5} for split in runs.SPLITS},
            "seconds": 1.0,
            "parameters": 7,
            "best_epoch": 1,
        }
        for seed, auc in enumerate(aucs, 1)
    }
    return runs.combine(config or runs.plain_config(defaults.get_config("din")), seeds)


RESULTS = {
    "popular": {
        "base_model": result_of([0.70, 0.71, 0.72]),
        "din": result_of([0.75, 0.77, 0.765]),
        "dien": result_of([0.74, 0.77, 0.78]),
    }
}


def test_a_claim_holds_where_the_gain_is_beyond_noise():
    found = {
        (c["worse"], c["better"]): c
        for c in paper_tables.check_claims(RESULTS, [("base_model", "din"), ("din", "dien")])
    }
    assert found["base_model", "din"]["holds"]
    assert found["base_model", "din"]["difference"] == pytest.approx((0.05 + 0.06 + 0.045) / 3)
    assert not found["din", "dien"]["holds"]


def test_one_seed_is_no_test_of_a_claim():
    single = {"made_up": {"din": result_of([0.70]), "dien": result_of([0.77])}}
    (claim,) = paper_tables.check_claims(single, [("din", "dien")])
    assert claim["holds"] is None
    text = paper_tables.claims_markdown([claim], {"din": "DIN", "dien": "DIEN"})
    assert "| 0.7000 and 0.7700 | 1 | +0.0700 | one seed | not tested |" in text


def test_claims_about_models_without_results_are_left_out():
    assert not paper_tables.check_claims(RESULTS, [("base_model", "augru")])


def test_a_row_that_prints_more_than_its_table_has_columns_is_refused():
    row = paper_tables.Row("din", "DIN", (0.5, 0.6))
    assert paper_tables.PaperTable("two", ("here", "there"), (row,)).rows == (row,)
    with pytest.raises(ValueError, match="DIN in 'none' expects 0 printed figures.*got 2"):
        paper_tables.PaperTable("none", (), (row,))


def test_a_table_shows_the_papers_figures_ours_and_the_yardstick():
    text = paper_tables.markdown(paper.TABLES[0], RESULTS, paper.YARDSTICKS)
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
    assert "0.8608 | 0.8974 | 0.7617 ± 0.0104" in rows["DIN"]
    assert rows["DIN"].endswith("| 0.772 |")
    assert "PNN" not in rows
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_a_row_is_shown_as_soon_as_one_data_set_has_it():
    results = {**RESULTS, "uniform": {"din": result_of([0.87, 0.88])}}
    text = paper_tables.markdown(paper.TABLES[0], results, paper.YARDSTICKS)
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
    assert "0.7100 ± 0.0100" in rows["BaseModel"]
    assert rows["BaseModel"].endswith("| 0.725 |  |  |  |  |  | 0.879 |")
    assert "| 0.8750 ± 0.0071 | 2 | 0.8750 | 0.5000 | - | 0.894 |" in rows["DIN"]
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_a_released_model_has_a_key_of_its_own_and_the_yardstick_of_its_model():
    released = paper.TABLES[2]
    keys = ["base_model_released", "pnn_released", "din_released"]
    assert [row.key for row in released.rows] == keys
    results = {"popular": {"pnn_released": result_of([0.76, 0.77])}}
    (line,) = paper_tables.markdown(released, results, paper.YARDSTICKS).splitlines()[4:]
    assert line == "| PNN (released) | 0.7650 ± 0.0071 | 2 | 0.7650 | 0.5000 | - | 0.771 |"


def test_a_released_models_settings_are_those_of_the_data():
    for row in paper.TABLES[2].rows:
        config = tables._config(movielens, row)
        assert config.model.name == row.model == row.key
        assert config.network.user_fields == ()


def test_the_paired_test_is_over_the_seeds_that_both_models_have():
    both = {"few": result_of([0.7, 0.7]), "many": result_of([0.8, 0.75, 0.1])}
    found = paper_tables.compare(both, "few", "many")
    assert found["difference"] == pytest.approx(0.075)
    assert (found["seeds"], found["aucs"]) == ([1, 2], pytest.approx([0.7, 0.775]))


def test_a_gain_over_shared_seeds_stands_beside_the_means_of_these():
    results = {"toy": {"din": result_of([0.7, 0.7]), "dien": result_of([0.8, 0.75, 0.1])}}
    text = paper_tables.markdown(paper.TABLES[0], results, {})
    assert (
        "| 0.5500 ± 0.3905 | 3 |" in text
    )  # below DIN over all seeds, above it over the shared ones
    assert "+0.0750 (0.102), 0.7000 to 0.7750 over 2 shared" in text


def test_a_row_says_how_many_seeds_end_on_the_limit_of_epochs():
    config = runs.plain_config(defaults.get_config("din"))
    config["loop"]["epochs"] = 1
    assert (
        paper_tables.seeds_of(result_of([0.7, 0.8], config)) == "2; 2 end on the limit of 1 epochs"
    )
    assert paper_tables.seeds_of(result_of([0.7, 0.8])) == "2"


def test_a_row_of_another_program_says_so():
    now, other = result_of([0.7, 0.8]), {**result_of([0.7, 0.8, 0.9]), "program": "0123456789ab"}
    assert paper_tables.seeds_of(other) == "3; of an earlier program"
    assert paper_tables.seeds_of(runs.merge([now, other])) == "3; of several programs"
    versions = {"tensorflow": "2.0", "dgin_tf": "0.1.0"}
    old = {name: value for name, value in other.items() if name != "program"} | {
        "versions": versions
    }
    assert paper_tables.seeds_of(old) == "3; of an earlier program"
    newer = {**old, "versions": {**versions, "dgin_tf": "0.3.0"}, "seeds": old["seeds"][2:]}
    assert paper_tables.seeds_of(runs.merge([newer, old])) == "3; of several programs"


def test_the_seeds_of_one_program_are_a_common_result_of_their_own():
    here, all_seeds = result_of([0.70, 0.71]), result_of([0.70, 0.71, 0.75])
    merged = runs.merge([here, {**all_seeds, "program": "0123456789ab"}])
    assert runs.of_program(merged, here["program"]) == here
    third = runs.of_program(merged, "0123456789ab")
    assert [entry["seed"] for entry in third["seeds"]] == [3]
    assert third["test"]["auc"] == 0.75
    assert runs.of_program(merged, "another") is None


def test_a_run_that_another_program_began_is_not_gone_on_with(trained, data_dir, monkeypatch):
    model_dir, result = trained
    config = small(defaults.get_config("base_model"))
    assert runs.train_seeds(config, str(data_dir), model_dir, [4])["seeds"] == result["seeds"][:1]
    monkeypatch.setattr(tasks, "program_digest", lambda model: "0123456789ab")
    with pytest.raises(ValueError, match=r"program \('[0-9a-f]{12}', now '0123456789ab'\)"):
        runs.train_seeds(config, str(data_dir), model_dir, [4])


def test_the_origin_is_one_line_unless_rows_were_run_in_different_places():
    labels = {"base_model": "BaseModel", "din": "DIN", "dien": "DIEN"}
    same = paper_tables.origin(RESULTS, labels)
    assert same.startswith("3 seeds each; ")
    assert "\n" not in same
    elsewhere = {**RESULTS["popular"]["din"], "versions": {"tensorflow": "2.99.0"}}
    text = paper_tables.origin({"popular": {**RESULTS["popular"], "din": elsewhere}}, labels)
    assert "- popular: BaseModel, DIEN: 3 seeds each; " in text
    assert "- popular: DIN: 3 seeds each; " in text
    assert text.endswith("no GPU; tensorflow 2.99.0.")


def test_merged_results_are_those_of_all_seeds_and_say_where_each_was_run():
    here, all_seeds = result_of([0.70, 0.71]), result_of([0.70, 0.71, 0.75])
    elsewhere = {**all_seeds, "versions": {"tensorflow": "2.99.0"}}
    merged = runs.merge([here, elsewhere])
    for name in ("test", "validation", "deviation", "seeds", "seconds", "parameters"):
        assert merged[name] == all_seeds[name]
    assert [place["seeds"] for place in runs.origins(merged)] == [[1, 2], [3]]
    assert runs.merge([merged]) == merged
    lines = paper_tables.origin({"popular": {"din": merged}}, {"din": "DIN"}).splitlines()
    assert [line[:30] for line in lines[2:]] == [
        "- popular: DIN: 2 seeds each; ",
        "- popular: DIN: one seed each;",
    ]


@pytest.fixture
def small_tables(monkeypatch, data_dir, tmp_path):
    """Runs the command of the tables on small models; returns the folder of its results."""
    full = movielens.get_config
    monkeypatch.setattr(movielens, "get_config", lambda model: small(full(model)))
    flags.FLAGS.mark_as_parsed()

    def command(folder="tables", **arguments):
        given = {"data_dir": [f"toy={data_dir}"], "output_dir": str(tmp_path / folder), **arguments}
        with flagsaver.flagsaver(**given):
            tables.main([])
        return tmp_path / folder

    return command


def test_tables_train_what_is_missing_and_no_more(small_tables, monkeypatch, capsys):
    arguments = {"models": ["base_model", "din_released"], "seeds": 1}
    folder = small_tables(**arguments)
    first = (folder / "dien.md").read_text()
    assert first in capsys.readouterr().out
    monkeypatch.setattr(tasks, "make_model", None)
    small_tables(**arguments)
    assert (folder / "dien.md").read_text() == first
    results = json.loads((folder / "dien.json").read_text())["results"]["toy"]
    assert list(results) == ["base_model", "din_released"]
    assert results["din_released"]["config"]["model"]["name"] == "din_released"
    assert (folder / "toy" / "din_released" / "seed-1" / "result.json").exists()


def test_tables_take_what_an_earlier_file_has_and_train_the_rest(
    small_tables, tmp_path, monkeypatch
):
    config = runs.plain_config(movielens.get_config("base_model"))  # as the fixture makes it small
    earlier = {**result_of([0.7, 0.8], config), "machine": {**runs.machine(), "cpu": "Another"}}
    runs.write_json(tmp_path / "monday.json", {"results": {"toy": {"base_model": earlier}}})
    made, make_model = [], tasks.make_model
    monkeypatch.setattr(
        tasks,
        "make_model",
        lambda *args: made.append(args[0]["model"]["name"]) or make_model(*args),
    )
    results = [str(tmp_path / "monday.json")]
    folder = small_tables(models=["base_model", "din"], seeds=1, results=results)
    assert set(made) == {"din"}
    found = json.loads((folder / "dien.json").read_text())["results"]["toy"]
    assert found["base_model"]["machine"]["cpu"] == "Another"
    assert found["base_model"]["seeds"] == earlier["seeds"]
    assert found["din"]["machine"] == runs.machine()
    assert "2 seeds each; Another" in (folder / "dien.md").read_text()


def test_a_second_column_has_the_other_reader_of_the_newest_events(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(sim_movielens, "get_config", small_sim(sim_movielens.get_config))
    flags.FLAGS.mark_as_parsed()
    given = {"paper": "sim", "models": ["din", "eta"], "seeds": 1, "second_short_reader": "heads"}
    with flagsaver.flagsaver(data_dir=[f"toy={data_dir}"], output_dir=str(tmp_path), **given):
        tables.main([])
    results = json.loads((tmp_path / "sim.json").read_text())["results"]
    readers = {
        name: {key: result["config"]["model"].get("short_reader") for key, result in rows.items()}
        for name, rows in results.items()
    }
    assert readers == {"toy": {"din": None, "eta": "din"}, "toy-heads": {"eta": "heads"}}
    assert "| toy-heads: AUC |" in (tmp_path / "sim.md").read_text()


def small_sim(get_config):
    def small_config(model):
        config = small(get_config(model))
        if "short_events" in config.model:
            config.model.short_events = 3
        return config

    return small_config


def test_the_start_of_a_row_is_the_best_of_a_printed_grid_and_stays_so(small_tables, monkeypatch):
    monkeypatch.setattr(starts, "GRID", ((None, None), (2.0, 0.9)))
    arguments = {"models": ["base_model"], "seeds": 1, "choose_starts": True}
    folder = small_tables(**arguments)
    result = json.loads((folder / "dien.json").read_text())["results"]["toy"]["base_model"]
    grid = result["starts"]
    assert [start[:2] for start in grid] == [[None, None], [2.0, 0.9]]
    network = result["config"]["network"]
    best = max(grid, key=lambda start: start[-1])
    assert [network["embedding_limit"], network["momentum"]] == best[:2]
    text = (folder / "dien.md").read_text()
    assert "| data | model | Glorot, default | 2.0, 0.9 |" in text
    assert f"**{best[-1]:.4f}**" in text
    monkeypatch.setattr(tasks, "make_model", None)  # nothing is trained again
    again = small_tables(folder="again", results=[str(folder / "dien.json")], **arguments)
    found = json.loads((again / "dien.json").read_text())["results"]["toy"]["base_model"]
    assert found == result


def test_seeds_that_an_earlier_file_does_not_have_are_trained(small_tables, tmp_path):
    earlier = result_of([0.7, 0.8], runs.plain_config(movielens.get_config("base_model")))
    runs.write_json(tmp_path / "monday.json", {"results": {"toy": {"base_model": earlier}}})
    folder = small_tables(models=["base_model"], seeds=3, results=[str(tmp_path / "monday.json")])
    found = json.loads((folder / "dien.json").read_text())["results"]["toy"]["base_model"]
    assert found["seeds"][:2] == earlier["seeds"]
    trained = [path.name for path in (folder / "toy" / "base_model").glob("seed-*")]
    assert trained == ["seed-3"] == [f"seed-{found['seeds'][2]['seed']}"]
