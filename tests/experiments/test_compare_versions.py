"""Tests of comparing two versions by epochs of prepared data."""

import pathlib

import pytest

from experiments.benchmarking import epochs


def test_epochs_are_measured_by_turns_and_compared_turn_by_turn(monkeypatch, tmp_path):
    after = tmp_path / "after"
    seconds = {tmp_path: iter([2.0, 4.0]), after: iter([3.0, 4.0])}

    def measure(root: pathlib.Path, config: str, data_dir: pathlib.Path):
        value = next(seconds[root])
        return {"cpu_s": value, "wall_s": value / 2}

    monkeypatch.setattr(epochs, "measure_epoch", measure)
    cases = epochs.compare_epochs((tmp_path, after), tmp_path, ["c.py:din"], turns=2)
    content = {
        "cases": cases,
        "commits": {"before": "a", "after": "b"},
        "machine": {"cpu": "x", "cores": 2},
        "versions": {"tensorflow": "2"},
    }
    text = epochs.epochs_to_markdown(content)
    assert "| c.py:din | 3.0 | 3.5 | 1.25 (1.00 to 1.50) | 1.5 | 1.8 |" in text


def test_data_without_configs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected --configs beside --data_dir"):
        epochs.compare_epochs((tmp_path, tmp_path), tmp_path, [], turns=1)
