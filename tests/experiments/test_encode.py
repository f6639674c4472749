"""ENCODE's experiments: configs, tables, and what their commands print."""

import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.models.registry import MODELS
from dgin_tf.serving.center.state_versions import StateVersions
from dgin_tf.serving.export.versions import state_version
from dgin_tf.serving.online.ranker import Ranker
from dgin_tf.stores.addresses import open_store
from experiments.analysis import measures, relevance
from experiments.encode import (
    amazon_books,
    movielens,
    movielens_small,
    paper,
    reference_examples,
    synthetic_1000,
    variants,
)
from experiments.reporting import paper_tables
from experiments.running import publishing, runs
from tests.experiments.test_runs import result_of, small
from tests.prepared import write_prepared

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = {
    "amazon_books": amazon_books,
    "movielens": movielens,
    "movielens_small": movielens_small,
    "reference_examples": reference_examples,
    "synthetic_1000": synthetic_1000,
}
UNTIL_PATIENCE = ("movielens_small", "reference_examples", "synthetic_1000")  # the others one epoch
ROWS = {row.model: row for table in reversed(paper.TABLES) for row in table.rows}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared")
    write_prepared(path, users=31)
    return str(path)


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """Runs of ENCODE and of DIN-L."""
    folder = tmp_path_factory.mktemp("trained")
    for name in ("encode", "din_long"):
        config = small(movielens.get_config(name))
        config.model.short_events = 5
        config.data.batch_rows = (
            8  # too few for XLA, which would compile for longer than this takes
        )
        runs.train_seeds(config, data_dir, folder / name, [1])
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_every_experiment_says_what_it_claims_costs_and_expects(name):
    module = pathlib.Path(paper.__file__).with_name(f"{name}.py").read_text()
    for word in ("Claim:", "python -m experiments.train", "Cost:", "Expected"):
        assert word in module


@pytest.mark.parametrize("name", CONFIGS)
def test_every_row_of_the_tables_has_a_config(name):
    for model in ROWS:
        found = CONFIGS[name].get_config(model)
        assert found.model.name in MODELS
        assert (found.loop.epochs == 1) == (name not in UNTIL_PATIENCE)


def test_every_variant_is_a_row_and_differs_in_one_setting():
    assert set(variants.VARIANTS) <= set(ROWS)
    for name in variants.VARIANTS:
        plain, found = movielens.get_config("encode").model, movielens.get_config(name).model
        assert sum(found[key] != plain[key] for key in plain) == 1


def test_rows_of_the_form_that_was_a_variant_say_what_they_are_called_now():
    for old, new in (("encode_multiply", "encode"), ("encode_multiply_random", "encode_random")):
        with pytest.raises(ValueError, match=f"write '{new}'; .*'encode_printed'"):
            movielens.get_config(old)


def test_searches_and_hashes_are_as_large_as_in_table_1():
    for name in ("sim_hard", "ubr4ctr", "eta", "twin", "eta_ta", "eta_encode"):
        assert movielens.get_config(name).model.k == 50
    assert movielens.get_config("sdim").model.bits == 64
    assert movielens.get_config("eta").network.embedding_dim * 2 * 2 == 64  # bits of two fields


def test_din_reads_the_real_time_part_alone():
    assert movielens.get_config("din").data.max_history == 50
    assert movielens.get_config("encode").data.max_history == 1550


def test_the_printed_figures_agree_with_the_claims():
    for worse, better in paper.CLAIMS:
        assert ROWS[worse].paper_values[0] < ROWS[better].paper_values[0]


def test_the_tables_print():
    results = {"toy": {name: result_of([0.7, 0.8]) for name in ("din", "encode_random")}}
    text = paper_tables.markdown(paper.TABLES[5], results, paper.YARDSTICKS)
    assert "Random | 0.7219 | 0.6848 | 0.7500" in text


def test_a_row_that_the_paper_has_not_is_as_wide_as_the_others():
    results = {"toy": {name: result_of([0.7, 0.8]) for name in ("encode", "encode_printed")}}
    text = paper_tables.markdown(paper.TABLES[0], results, paper.YARDSTICKS)
    assert "ENCODE, Eq. 9 as printed | - | - | - | - | 0.7500" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_runs_are_measured_for_the_columns_of_table_3_and_figure_1(trained, data_dir, monkeypatch):
    monkeypatch.setattr(measures, "CANDIDATES", 20)
    monkeypatch.setattr(measures, "_TURNS", 2)
    data = PreparedData(data_dir)
    run_dirs = {name: str(trained / name) for name in ("encode", "din_long")}
    named = {name for table in paper.TABLES for name in table.measures}
    assert named == {"relevance indicator", "request ms"} <= set(measures.MEASURES)
    results = {name: result_of([0.7, 0.8]) for name in run_dirs}
    for name in named:
        found = measures.MEASURES[name](list(run_dirs), run_dirs, data)
        assert list(found) == list(run_dirs)
        assert all(value > 0 for value in found.values())
        results = {
            row: {**result, runs.MEASURED: {**result.get(runs.MEASURED, {}), name: found[row]}}
            for row, result in results.items()
        }
    # Table 3 has ENCODE alone of the two; every model is further from DIN-L than DIN-L itself.
    relevance_of = {
        row: result[runs.MEASURED]["relevance indicator"] for row, result in results.items()
    }
    assert relevance_of["encode"] > relevance_of["din_long"]
    (third,) = (t for t in paper.TABLES if "relevance indicator" in t.measures)
    text = paper_tables.markdown(third, {"toy": results}, paper.YARDSTICKS)
    assert f"| {relevance_of['encode']:.2f} |" in text
    assert "request ms" not in text


def test_relevance_without_a_reference_is_refused(trained, data_dir):
    run_dirs = {"encode": str(trained / "encode")}
    with pytest.raises(ValueError, match="compares with the row 'din_long'"):
        measures.relevance_indicators(["encode"], run_dirs, PreparedData(data_dir))


def test_people_with_the_longest_histories_ask_every_model_for_the_same_candidates(data_dir):
    data = PreparedData(data_dir)
    batches = measures._batches(data, 1000)
    people, candidates = measures._users_and_candidates(batches)
    assert len(set(people)) == len(people)
    assert candidates["cand_mask"].shape == (1, measures.CANDIDATES)
    lengths = [int(np.sum(h["hist_mask"])) for h in measures._histories(batches, people)]
    short = [
        int(np.sum(h["hist_mask"])) for h in measures._histories(measures._batches(data, 3), people)
    ]
    assert lengths == sorted(lengths, reverse=True)
    assert short == [min(length, 3) for length in lengths]


def extract_interests(**places):
    """Runs the command, in a process of its own since its flags are named as those of others are."""
    command = [sys.executable, "-m", "experiments.extract_interests", "--noprogress"]
    command += ["--batch_users=8", *(f"--{name}={place}" for name, place in places.items())]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.slow
def test_extraction_writes_every_user_and_then_none(trained, data_dir, tmp_path):
    store = f"lmdb:{tmp_path / 'store'}"
    places = {"data_dir": data_dir, "model_dir": trained / "encode", "store": store}
    said = [extract_interests(**places) for _ in range(2)]
    assert said[0].stdout.startswith("31 users written, 0 kept"), said[0].stderr
    assert said[1].stdout.startswith("0 users written, 31 kept"), said[1].stderr


@pytest.mark.slow
def test_an_exported_model_is_served_from_its_extracted_interests(trained, data_dir, tmp_path):
    version = publishing.export_run(trained / "encode", PreparedData(data_dir), tmp_path / "export")
    address = f"lmdb:{tmp_path / 'store'}"
    places = {"data_dir": data_dir, "export_dir": tmp_path / "export", "store": address}
    said = [extract_interests(**places) for _ in range(2)]
    assert said[0].stdout.startswith("31 users written, 0 kept"), said[0].stderr
    assert said[1].stdout.startswith("0 users written, 31 kept"), said[1].stderr
    with open_store(address) as store:
        ranker = Ranker(version, states=store)
        assert state_version(ranker.model.metadata) in StateVersions(store, "encode").warm
        scores = [ranker.rank(user, [5, 40]) for user in range(2, 9)]
    assert np.all(np.ptp(scores, axis=0) > 0)
    both = extract_interests(**places, model_dir=trained / "encode")
    assert "error: expected one of --export_dir," in both.stderr


def test_the_relevance_indicator_is_found_for_runs(trained, data_dir):
    dirs = {"encode": str(trained / "encode")}
    found = relevance.indicators(dirs, str(trained / "din_long"), PreparedData(data_dir), "test", 2)
    assert 0 < found["reference"] <= found["encode"]
    assert math.isfinite(found["encode"])
