"""Scores of a table of one's own whose data set has declared columns."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from experiments.running.own_tables import ColumnNames, read_table, score_table, seconds_of
from tests.data_prep.column_logs import names_of, random_din, run, write_log


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Folder, data, model, and the test split's impressions with the model's own scores."""
    folder = tmp_path_factory.mktemp("columns")
    log = write_log(folder)["log"].set_index("timestamp")
    run(folder)
    data = PreparedData(folder / "prepared")
    model = random_din(data)
    batch = next(iter(data.evaluation("test", BatchOptions(512, 400))))
    real = batch["cand_mask"].numpy()
    times = batch["cand_timestamp"].numpy()[real]
    scores = tf.sigmoid(model(batch)["logits"]).numpy()[real]
    return folder, data, model, log.loc[times].reset_index().assign(score=scores)


def score(scored, table):
    folder, data, model, _ = scored
    path = folder / "own.csv"
    table.drop(columns="score").to_csv(path, index=False)
    rows, more = read_table(path, ColumnNames())
    seconds = seconds_of(rows["time"], "s")
    return score_table(rows, seconds, data, model, BatchOptions(64, 400), more)


def test_a_table_of_one_s_own_scores_as_the_split_does(scored):
    table = scored[3].rename(columns={"words": "context_words"})
    table["context_words"] = table["context_words"].str.replace(" ", "|")
    own, counts = score(scored, table)
    np.testing.assert_allclose(own["score"], table["score"], atol=1e-5)
    assert counts.unknown_fields == ()


def test_a_context_that_the_table_lacks_is_unknown_and_named(scored):
    own, counts = score(scored, scored[3].drop(columns=["hour", "words"]))
    assert counts.unknown_fields == ("context_hour", "context_words")
    assert np.isfinite(own["score"]).all()


def test_item_columns_of_the_table_go_before_the_catalogue(scored):
    table = scored[3]
    assert "a" in names_of(scored[0], "tags")
    plain, _ = score(scored, table)
    other, _ = score(scored, table.assign(tags="c|a", price=7.0))
    assert (plain["score"] != other["score"]).any()
