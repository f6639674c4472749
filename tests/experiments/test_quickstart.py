"""The whole road in one command: from nothing to scores of an exported model, and to a report."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from dgin_tf.serving.online.ranker import Ranker, RawRanker

ROOT = pathlib.Path(__file__).resolve().parents[2]


def quickstart(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.quickstart", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    small = ("--users=60", "--epochs=1", "--targets_per_user=2", "--max_history=23")
    process = quickstart(f"--output_dir={folder}", *small)
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stderr == "", "TensorFlow's messages, a warning of retracing, or one of ours"
    return folder, process.stdout


def test_every_step_leaves_its_result(finished):
    folder, _ = finished
    for name in ("din", "dien"):
        assert (folder / name / "result.json").is_file()
        assert (folder / name / "seed-1" / "report.html").is_file()
        assert (folder / "exported" / name / "1" / "saved_model.pb").is_file()
    assert "Attention on the true causes" in (folder / "report.html").read_text()
    assert list((folder / "dien").rglob("user-1-evolution.png"))


def test_it_says_how_well_the_models_do_and_where_everything_is(finished):
    folder, said = finished
    assert said.count("AUC") >= 2
    assert "a fresh process scores one user's candidates" in said
    assert "<- the next click" in said
    assert str(folder / "report.html") in said
    assert "curl -d @" in said


def test_raw_ids_of_the_log_rank_with_the_exported_model(finished):
    folder, _ = finished
    items = [line.split(",")[1] for line in (folder / "log.csv").read_text().splitlines()[:7]]
    ranker = Ranker(folder / "exported" / "dien")
    found = RawRanker(ranker).rank(items[:4], items[4:])
    assert found.shape == (3,)
    assert np.isfinite(found).all()


def test_a_dataset_without_input_is_refused_in_one_sentence(tmp_path):
    process = quickstart("--dataset=movielens", f"--output_dir={tmp_path}")
    assert process.returncode == 2
    assert process.stderr.strip().splitlines()[-1].startswith("error: expected --input=FILE")
