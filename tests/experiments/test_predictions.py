"""Scores as a table, of a split or of a table of one's own: an example a row, in a known order."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.models.registry import make_model
from dgin_tf.records import decode_record
from dgin_tf.training.evaluation import Evaluator, predictions_of
from experiments.running import own_tables, predictions
from tests.prepared import write_prepared

OPTIONS = BatchOptions(batch_rows=7, max_history=11)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    write_prepared(folder, users=13, cuts=2)
    (folder / "vocabulary").mkdir()
    for name, raw in (("item_id", "B"), ("user_id", "U"), ("category_id", "C")):
        lines = [f"{raw}{number:03}\n" for number in range(99)]
        (folder / "vocabulary" / f"{name}.txt").write_text("".join(lines))
    return PreparedData(folder)


@pytest.fixture(scope="module")
def model(data):
    model = make_model("din", data.schema)
    model(next(iter(data.evaluation("test", OPTIONS))))
    rng = np.random.default_rng(3)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0.0, 0.3, variable.shape))
    return model


@pytest.fixture(scope="module")
def scores(data, model):
    evaluator = Evaluator(model, list(predictions.columns(data).values()))
    return evaluator.score(data.evaluation("test", OPTIONS))


def test_every_example_has_its_user_item_time_label_and_score(data, scores):
    rows = predictions.table(scores, predictions.columns(data), data)
    assert list(rows) == ["user", "item", "time", "label", "score", "history_length"]
    assert (len(rows), rows["label"].sum()) == (13 * 2 * 2, 13 * 2)
    reference = predictions_of(scores)
    by_item = pd.DataFrame(
        {
            "user": [f"U{user - 2:03}" for user in scores["user_id"]],
            "item": [f"B{item - 2:03}" for item in scores["cand_item_id"]],
            "time": scores["cand_timestamp"],
            "expected": 1 / (1 + np.exp(-reference.logits)),
        }
    )
    merged = rows.merge(by_item, on=["user", "item", "time"], validate="one_to_one")
    np.testing.assert_allclose(merged["score"], merged["expected"], rtol=1e-6)
    assert rows["history_length"].max() == 11


def test_the_order_of_a_split_does_not_depend_on_its_batches(data, model, scores):
    columns = predictions.columns(data)
    evaluator = Evaluator(model, list(columns.values()))
    other = evaluator.score(data.evaluation("test", BatchOptions(batch_rows=3, max_history=11)))
    assert not np.array_equal(other["cand_item_id"], scores["cand_item_id"])
    left, right = (predictions.table(part, columns, data) for part in (scores, other))
    names = ["user", "item", "time", "label", "history_length"]
    pd.testing.assert_frame_equal(left[names], right[names])
    np.testing.assert_allclose(left["score"], right["score"], rtol=1e-5)


def test_without_a_vocabulary_ids_are_the_models(data, scores, tmp_path):
    schema = write_prepared(tmp_path, users=3)
    assert schema == data.schema
    bare = predictions.table(scores, predictions.columns(data), PreparedData(tmp_path))
    assert set(bare["item"]) == set(scores["cand_item_id"])


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
def test_a_table_is_read_as_it_was_written(data, scores, tmp_path, name):
    rows = predictions.table(scores, predictions.columns(data), data)
    predictions.claim_file(tmp_path / name)
    predictions.write(rows, tmp_path / name)
    read = pd.read_csv if name.endswith("csv") else pd.read_parquet
    pd.testing.assert_frame_equal(read(tmp_path / name), rows, rtol=1e-8, check_dtype=False)


def test_a_file_of_another_kind_or_of_somebody_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.csv or \.parquet; got .*scores\.json"):
        predictions.claim_file(tmp_path / "scores.json")
    (tmp_path / "mine.csv").write_text("a\n")
    with pytest.raises(ValueError, match="was not written by this command"):
        predictions.claim_file(tmp_path / "mine.csv")


def history_of(data, user):
    """The user's record of the whole histories."""
    records = (decode_record(data.schema, payload) for _, payload in data.whole_records())
    return next(record for record in records if int(record["user_id"][0]) == user)


def rows_of(users, items, times):
    return pd.DataFrame({"user": users, "item": items, "time": times})


def score(data, model, rows, options=OPTIONS, more=None):
    return own_tables.score_table(rows, rows["time"].to_numpy(), data, model, options, more)


def test_rows_of_a_table_are_scored_by_what_came_strictly_before(data, model):
    rng = np.random.default_rng(5)
    users, items = rng.integers(2, 15, 83), rng.integers(2, 101, 83)
    times = 1_500_000_000 + rng.integers(-2, 50, 83)
    raw = rows_of([f"U{u - 2:03}" for u in users], [f"B{i - 2:03}" for i in items], times)
    table, counts = score(data, model, raw)
    assert table["user"].tolist() == raw["user"].tolist()
    assert counts.unknown_users == counts.unknown_items == 0
    for row in range(0, 83, 9):
        record = history_of(data, users[row])
        cut = int((record["hist_timestamp"] < times[row]).sum())
        events = slice(max(cut - 11, 0), cut)
        history = {n: v[events] for n, v in record.items() if n.startswith("hist_")}
        count = len(history["hist_item_id"])
        features = {n: np.pad(v, (0, 11 - count))[None] for n, v in history.items()}
        features |= {
            "hist_mask": (np.arange(11) < count)[None],
            "user_id": users[row : row + 1],
            "cand_item_id": items[row : row + 1, None],
            "cand_category_id": data.catalogue["category_id"][items[row : row + 1, None]],
            "cand_timestamp": times[row : row + 1, None],
        }
        expected = model.predict_on_batch({n: np.asarray(v) for n, v in features.items()})
        np.testing.assert_allclose(table["score"][row], expected[0, 0], rtol=1e-5)
        assert table["history_length"][row] == count


def test_scores_do_not_depend_on_what_else_a_table_has(data, model):
    rng, size = np.random.default_rng(9), 47
    rows = rows_of(
        [f"U{n:03}" for n in rng.integers(0, 13, size)],
        [f"B{n:03}" for n in rng.integers(0, 99, size)],
        1_500_000_000 + rng.integers(0, 9, size),
    )
    alone, _ = score(data, model, rows.iloc[[31]].reset_index(drop=True))
    together, _ = score(data, model, rows, dataclasses.replace(OPTIONS, batch_rows=5))
    np.testing.assert_allclose(together["score"][31], alone["score"][0], rtol=1e-5)


def test_unknown_ids_are_scored_and_counted(data, model):
    users, items = ["U001", "nobody", None, "U001"], ["B005", "B005", "B005", "new"]
    table, counts = score(data, model, rows_of(users, items, [1_600_000_000] * 4))
    assert dataclasses.astuple(counts) == (2, 1, 2, ())
    assert table["score"].notna().all()
    assert table["score"][1] == pytest.approx(table["score"][2])
    assert table["history_length"].tolist()[1:3] == [0, 0]


def test_a_column_of_a_candidates_field_tells_what_the_catalogue_does_not(data, model):
    rows = rows_of(["U001"] * 2, ["B005", "new"], [1_600_000_000] * 2)
    plain, _ = score(data, model, rows)
    category = f"C{data.catalogue['category_id'][7] - 2:03}"
    more = pd.DataFrame({"category_id": [category, category]})
    told, counts = score(data, model, rows, more=more)
    assert counts.unknown_fields == ()
    assert told["score"][0] == pytest.approx(plain["score"][0])
    assert abs(told["score"][1] - plain["score"][1]) > 1e-4


def test_times_of_a_table_have_a_unit():
    numbers = pd.Series(["1500000000000", "1500000000999"])
    assert own_tables.seconds_of(numbers, "ms").tolist() == [1_500_000_000] * 2
    dates = pd.Series(["2017-07-14T02:40:00Z", "2017-07-14 02:40:01"])
    assert own_tables.seconds_of(dates, "iso").tolist() == [1_500_000_000, 1_500_000_001]
    with pytest.raises(ValueError, match="half of them are beyond 1,500,000,000,"):
        own_tables.seconds_of(numbers, "s")
    with pytest.raises(ValueError, match="row 2 has 'x', and 1 rows have none"):
        own_tables.seconds_of(pd.Series(["5", "x"]), "s")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uid,item_id,timestamp\n1,2,3\n", "has no column 'user_id'; it has"),
        ("user_id,item_id,timestamp\n", "has no rows"),
        ("", "cannot be read as CSV"),
    ],
)
def test_a_table_that_is_no_good_is_one_sentence(tmp_path, text, message):
    (tmp_path / "my.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        own_tables.read_table(tmp_path / "my.csv", own_tables.ColumnNames())
    with pytest.raises(FileNotFoundError, match="found no such file"):
        own_tables.read_table(tmp_path / "other.csv", own_tables.ColumnNames())


def test_ids_of_a_parquet_table_may_be_missing(tmp_path):
    content = {"user_id": [7, None], "item_id": ["a", "b"], "timestamp": [5, 6], "label": [0, 1]}
    table = pd.DataFrame(content).astype({"user_id": "Int64"})
    table.to_parquet(tmp_path / "my.parquet")
    rows, _ = own_tables.read_table(tmp_path / "my.parquet", own_tables.ColumnNames())
    assert list(rows) == ["user", "item", "time", "label"]
    assert rows["user"].astype("string").tolist() == ["7", pd.NA]
