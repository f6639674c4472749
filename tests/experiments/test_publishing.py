"""The page of a run: what it counts are histories, and what it draws are real users."""

import numpy as np
import pytest

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from experiments.running import defaults, publishing, runs
from tests.prepared import write_prepared


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "data"
    write_prepared(folder, users=37, cuts=2, buckets=(16, 47))
    return PreparedData(folder)


def test_padding_rows_are_no_histories_and_lengths_are_those_before_the_cut(data):
    options = BatchOptions(batch_rows=32, max_history=1_000)
    batches = list(data.evaluation("test", options))
    real = [b["cand_mask"].numpy().any(axis=1) for b in batches]
    assert not all(rows.all() for rows in real), "these batches have padding rows"
    lengths = [
        b["hist_mask"].numpy().sum(axis=1)[rows] for b, rows in zip(batches, real, strict=True)
    ]
    counted = publishing.history_lengths(data, "test")
    assert sorted(counted) == sorted(np.concatenate(lengths))
    assert len(counted) == sum(shard.rows for shard in data.shards("test"))


def test_rows_that_are_drawn_are_of_different_users_nearest_to_the_length_first(data):
    rows = publishing.typical_rows(data, "test", BatchOptions(32, 1_000), wanted=30)
    lengths = [int(batch["hist_mask"].numpy()[row].sum()) for batch, row in rows]
    users = [int(batch["user_id"].numpy()[row]) for batch, row in rows]
    assert min(lengths) > 0
    assert np.abs(np.array(lengths) - 30).tolist() == sorted(np.abs(np.array(lengths) - 30))
    assert len(set(users)) == len(users)


def test_a_runs_page_says_where_histories_are_cut(data, tmp_path):
    config = defaults.get_config("din")
    config.data.max_history = 7
    config.loop.epochs = 1
    runs.train_seeds(config, data.data_dir, tmp_path / "run", [1])
    page = publishing.write_report(tmp_path / "run", data, users=1).read_text()
    lengths = publishing.history_lengths(data, "test")
    assert f"All {len(lengths)} histories of the split" in page
    assert f"{(lengths > 7).sum()} of them" in page
    assert "max_history = 7" in page
    assert page.count("<figcaption></figcaption>") == 0
