"""Protocol impressions: every example recomputed from the table by plain pandas."""

import json

import numpy as np
import pandas as pd
import pytest

from data_prep.engines import local
from data_prep.make_events import EventsOfLog
from data_prep.pipeline import Preparation
from data_prep.protocol import IMPRESSIONS, Limits, make_protocol
from data_prep.readers.table import TableReader
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from tests.data_prep.logs import all_bytes, raw_ids, records, run
from tests.forked_commands import ForkedCommands

NAMES = {"time_column": "second", "category_column": "shelf", "label_column": "clicked"}


def impressions(users=23, requests=13, items=41, seed=0):
    """Requests of one to five items a user at coarse seconds, so that some share one."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(1, users + 1):
        for number in range(requests):
            second = int(rng.integers(0, 60)) * 7 + 1_000
            for item in rng.choice(items, rng.integers(1, 6), replace=False).tolist():
                row = (user, item, item % 5, second + item % 3, int(rng.random() < 0.3))
                rows.append((*row, user * 100 + number))
    columns = ["user_id", "item_id", "shelf", "second", "clicked", "page"]
    return pd.DataFrame(rows, columns=columns)


def written(folder, name, table, ending):
    """Writes a table; returns its path."""
    path = folder / f"{name}.{ending}"
    if ending == "parquet":
        table.to_parquet(path, row_group_size=97)
    elif ending == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False)
    return str(path)


def prepared(
    folder,
    table,
    workers=1,
    behaviors=None,
    choices=None,
    buckets=3,
    max_bad=0.01,
    ending="csv",
    **options,
):
    """Prepares a table; returns the folder of the data set and its card."""
    folder.mkdir(exist_ok=True)
    path = written(folder, "impressions", table, ending)
    options = {**NAMES, **options}
    if behaviors is not None:
        options["behaviors"] = written(folder, "behaviors", behaviors, ending)
    reader = TableReader([path], options)
    protocol = make_protocol(IMPRESSIONS, "strict", **(choices or {}))
    request = Preparation(reader, protocol, Limits(buckets=buckets, max_bad_fraction=max_bad), 3)
    return folder / "out", run(request, folder / "out", workers)


def stored_examples(output):
    """(user, request's second, item, label, past items) of every candidate, sorted."""
    users, items = raw_ids(output, "user_id"), raw_ids(output, "item_id")
    return sorted(
        (
            int(users[record["user_id"][0]]),
            int(second),
            items.get(item, "?"),
            int(label),
            tuple(items.get(past, "?") for past in record["hist_item_id"][:cut]),
        )
        for record in sum(records(output).values(), [])
        for second, item, label, cut in zip(
            *(record[n] for n in ("cand_timestamp", "cand_item_id", "label", "cand_position")),
            strict=True,
        )
    )


def expected_examples(table, past, known, keys):
    """The same from the tables: requests are rows with equal `keys`, past events have no later second."""
    begins = table.groupby(keys)["second"].transform("min")
    past = past.drop_duplicates().sort_values("second", kind="stable")
    own_past = dict(iter(past.groupby("user_id")))

    def name(item):
        return str(item) if str(item) in known else "?"

    examples = []
    for row, second in zip(table.itertuples(), begins, strict=True):
        own = own_past.get(row.user_id, past.iloc[:0])
        seen = own.item_id[own.second < second]
        examples.append(
            (row.user_id, second, name(row.item_id), row.clicked, tuple(map(name, seen)))
        )
    return sorted(examples)


@pytest.mark.parametrize("request_column", ["page", ""])
def test_every_example_is_an_impression_seen_from_the_clicks_before_its_request(
    tmp_path, request_column
):
    table = impressions()
    if not request_column:  # what is left of equal rows is one impression
        table = table.drop(columns="page").drop_duplicates()
    output, card = prepared(tmp_path, table, request_column=request_column)
    known = set(raw_ids(output, "item_id").values())
    keys = ["page"] if request_column else ["user_id", "second"]
    past = table[table.clicked == 1]
    assert stored_examples(output) == expected_examples(table, past, known, keys)
    assert not any(card["leaks"].values())
    assert card["examples"]["positives"] == table.clicked.sum()


def test_a_request_is_one_row_of_a_batch(tmp_path):
    table = impressions()
    output, card = prepared(tmp_path, table, request_column="page")
    rows = []
    for split in card["splits"]:
        for batch in PreparedData(output).evaluation(split, BatchOptions(batch_rows=7)):
            requests, mask = batch["cand_request_id"].numpy(), batch["cand_mask"].numpy()
            rows += [tuple(set(r[m].tolist())) for r, m in zip(requests, mask, strict=True)]
    rows = [row for row in rows if row]
    assert sorted(rows) == sorted((page,) for page in set(table.page))
    assert sum(split["rows"] for split in card["splits"].values()) == len(rows)


def test_past_events_come_from_a_log_of_their_own_with_types_and_side_features(tmp_path):
    table = impressions()
    behaviors = impressions(requests=5, seed=1).drop(columns=["clicked", "page"])
    behaviors["action"] = np.array(["view", "buy", "skip"])[behaviors.item_id % 3]
    behaviors["city"] = "c" + (behaviors.item_id % 4).astype(str)
    output, card = prepared(
        tmp_path,
        table,
        behaviors=behaviors,
        choices={"history_types": ("view", "buy")},
        request_column="page",
        behavior_column="action",
        behavior_names=["view", "buy", "skip"],
        side_feature_columns=["city"],
    )
    known = set(raw_ids(output, "item_id").values())
    past = behaviors[behaviors.action != "skip"]
    assert stored_examples(output) == expected_examples(table, past, known, ["page"])
    cities = raw_ids(output, "city")
    items = raw_ids(output, "item_id")
    for record in sum(records(output).values(), []):
        for item, city in zip(record["hist_item_id"], record["hist_city"], strict=True):
            if item in items and city in cities:
                assert cities[city] == f"c{int(items[item]) % 4}"


@pytest.mark.parametrize("request_column", ["page", ""])
@pytest.mark.parametrize("ties", ["file", "item"])
def test_the_bytes_depend_neither_on_workers_nor_on_the_order_of_times(
    tmp_path, request_column, ties
):
    table = impressions(users=11)
    options = {"request_column": request_column, "ties": ties}
    one, _ = prepared(tmp_path / "one", table, **options)
    shuffled = table.sample(frac=1.0, random_state=0)
    if ties == "file":  # rows of one time stay as they were to each other
        seconds = shuffled.second.drop_duplicates()
        shuffled = pd.concat([table[table.second == second] for second in seconds])
    two, _ = prepared(tmp_path / "two", shuffled, workers=2, **options)
    names = {name for name in all_bytes(one) if name.endswith((".tfrecord", ".txt", ".npz"))}
    first, second = (all_bytes(folder) for folder in (one, two))
    assert names
    assert {n: first[n] for n in names} == {n: second[n] for n in names}


def test_a_given_split_is_honored_and_its_overlap_in_time_is_told(tmp_path):
    table = impressions()
    names = np.array(["train", "Valid", "TEST", "training"])
    table["part"] = names[table.page % 4]
    output, card = prepared(
        tmp_path,
        table,
        choices={"split_by": "given"},
        request_column="page",
        split_column="part",
    )
    begins = table.groupby("page").second.transform("min")
    is_train, is_test = ((table.page % 4).isin(pages) for pages in ((0, 3), (2,)))
    late = "training impressions at or after the first test impression"
    assert card["examples"][late] == (is_train & (begins >= table.second[is_test].min())).sum()
    for split, pages in (("train", (0, 3)), ("validation", (1,)), ("test", (2,))):
        stored = np.concatenate([r["cand_request_id"] for r in records(output)[split]])
        assert sorted(stored) == sorted(table.page[(table.page % 4).isin(pages)])


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"clicked": 2}, {}, "expected clicked to be 0 or 1, or --label_threshold=T .* got 2"),
        ({"clicked": 0}, {}, "expected clicked and ignored impressions, .* got 0 of the one"),
        ({"page": 7}, {"request_column": "page"}, "1 requests have impressions of several users"),
        ({"part": "hold-out"}, {"split_column": "part"}, "expected part to be one of train"),
    ],
)
def test_bad_columns_are_refused_by_a_sentence(tmp_path, change, options, message):
    choices = {"split_by": "given"} if "part" in change else {}
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path, impressions(users=5).assign(**change), choices=choices, **options)


@pytest.mark.slow  # it trains
def test_from_a_table_to_the_metrics_of_a_trained_model(tmp_path):
    impressions(users=31).to_csv(tmp_path / "log.csv", index=False)
    prepare = ["--dataset=table", f"--input={tmp_path / 'log.csv'}", "--time_column=second"]
    prepare += ["--time_unit=index", "--weight_column=shelf", "--negative_rate=0.5"]
    prepare += ["--protocol=impressions", "--label_column=clicked", "--request_column=page"]
    data = f"--data_dir={tmp_path / 'data'}"
    run_dir = f"--model_dir={tmp_path / 'run'}"
    commands = ForkedCommands(tmp_path)
    for module, *flags in (
        ("data_prep.prepare", *prepare, f"--output_dir={tmp_path / 'data'}"),
        ("experiments.train", "--config=defaults:din", data, run_dir, "--config.loop.epochs=1"),
        ("experiments.evaluate", data, run_dir, "--json"),
    ):
        done = commands.run(module, *flags)
        assert done.returncode == 0, done.stderr
    commands.close()
    result = json.loads(done.stdout)
    assert all(0.0 < result[name] < 1.0 for name in ("auc", "request_gauc", "ndcg_10", "mrr"))
    names = ("weighted_auc", "weighted_log_loss", "calibrated_log_loss")
    assert all(np.isfinite(result[name]) for name in names)


def test_the_report_tells_repetitions_and_the_positive_rate(tmp_path):
    table = impressions(users=7)
    again = table.assign(clicked=1 - table.clicked).head(11)
    table = pd.concat([table, again, table.head(5)])
    output, card = prepared(tmp_path, table, request_column="page")
    assert card["histories"]["duplicates"] == 5
    assert card["examples"]["repeated_impressions"] == 11
    assert card["examples"]["contradictory_impressions"] == 11
    positives = card["examples"]["positives"] / card["examples"]["impressions"]
    assert f">{positives:.2%}<" in (output / "report.html").read_text()


def test_ratings_from_the_threshold_on_are_clicks(tmp_path):
    table = impressions(users=7)
    table["stars"] = np.arange(len(table)) % 5 + 0.5
    options = {"label_column": "stars", "label_threshold": 3.5, "request_column": "page"}
    _, card = prepared(tmp_path, table, **options)
    assert card["examples"]["positives"] == int((table.stars >= 3.5).sum())


def test_weights_and_rates_of_negatives_are_stored_with_their_candidates(tmp_path):
    table = impressions(users=7)
    table["cost"] = np.arange(len(table)) / 8 % 5
    table["kept"] = np.where(table.page % 2, 0.25, 1.0)
    table.loc[3, "cost"], table.loc[5, "cost"] = -1.0, np.nan
    table.loc[8, "kept"] = 0.0
    options = {"weight_column": "cost", "negative_rate_column": "kept", "request_column": "page"}
    output, card = prepared(tmp_path, table, max_bad=0.1, **options)
    assert card["partition"]["bad_rows"] == 3
    items = raw_ids(output, "item_id")
    expected = {(r.page, str(r.item_id)): (r.cost, r.kept) for r in table.itertuples()}
    for record in sum(records(output).values(), []):
        names = ("cand_request_id", "cand_item_id", "cand_sample_weight", "cand_negative_rate")
        for page, item, weight, rate in zip(*(record[n].tolist() for n in names), strict=True):
            if item in items:
                assert (weight / 1e6, rate / 1e6) == expected[page, items[item]]


def test_a_behavior_log_has_no_weights_and_a_rate_may_be_one_for_all(tmp_path):
    table = impressions(users=7).assign(cost=0.5)
    behaviors = impressions(users=7, seed=1)[["user_id", "item_id", "shelf", "second"]]
    options = {"weight_column": "cost", "negative_rate": 0.1}
    output, _ = prepared(tmp_path, table, behaviors=behaviors, **options)
    for record in sum(records(output).values(), []):
        assert set(record["cand_sample_weight"].tolist()) == {500_000}
        assert set(record["cand_negative_rate"].tolist()) == {100_000}
        assert "hist_sample_weight" not in record


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negative_rate": 1.5}, "expected negative_rate above 0 up to 1"),
        ({"negative_rate": 0.0}, "expected negative_rate above 0 up to 1"),
        ({"negative_rate": 0.5, "negative_rate_column": "x"}, "no negative_rate_column beside it"),
        ({"label_column": "", "weight_column": "x"}, "weight_column.* beside a label_column"),
    ],
)
def test_weights_and_rates_that_cannot_be_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path, impressions(users=5), **options)


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_every_form_of_table_gives_the_same_records(tmp_path, ending):
    table = impressions(users=11).assign(part="train", cost=0.25)
    table.loc[table.page % 3 == 0, "part"] = "test"
    options = {"request_column": "page", "split_column": "part", "weight_column": "cost"}
    past = impressions(users=11, seed=1)[["user_id", "item_id", "shelf", "second"]]
    options |= {"behaviors": past, "choices": {"split_by": "given"}}
    text, _ = prepared(tmp_path / "text", table, **options)
    if ending == "parquet":  # flags are labels too
        table["clicked"] = table.clicked == 1
    other, _ = prepared(tmp_path / "other", table, ending=ending, **options)
    assert stored_examples(text) == stored_examples(other)
    first, second = all_bytes(text), all_bytes(other)
    names = {name for name in first if name.endswith((".tfrecord", ".txt"))}
    assert {n: first[n] for n in names} == {n: second[n] for n in names}


class KilledError(Exception):
    """Stands for a kill between two tasks."""


@pytest.mark.parametrize("survived", [1, 4, 8, 12])
def test_a_run_that_was_killed_gives_the_same_bytes_when_it_is_resumed(
    tmp_path, monkeypatch, survived
):
    path = written(tmp_path, "impressions", impressions(users=11), "csv")
    reader = TableReader([path], {**NAMES, "request_column": "page"})
    request = Preparation(reader, make_protocol(IMPRESSIONS, "strict"), Limits(buckets=3), 3)
    run(request, tmp_path / "whole")
    original, done = local.write_text, []

    def write_and_die(path, text):
        if path.suffix == ".json":
            if len(done) == survived:
                raise KilledError
            done.append(path)
        original(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(local, "write_text", write_and_die)
        with pytest.raises(KilledError):
            run(request, tmp_path / "out")
    run(request, tmp_path / "out")
    assert all_bytes(tmp_path / "out") == all_bytes(tmp_path / "whole")


@pytest.mark.parametrize("has_log", [True, False])
def test_events_made_of_impressions_are_the_past_events_of_a_preparation(tmp_path, has_log):
    table = impressions(users=7)
    past = impressions(users=7, seed=1)[["user_id", "item_id", "shelf", "second"]]
    path = written(tmp_path, "impressions", table, "csv")
    options = {**NAMES, "request_column": "page"}
    if has_log:
        options["behaviors"] = written(tmp_path, "behaviors", past, "csv")
    else:
        past = table[table.clicked == 1]
    log = EventsOfLog(TableReader([path], options), (), tmp_path, progress=False)
    events = [json.loads(line) for line in log.lines()]
    expected = past.drop_duplicates().sort_values("second", kind="stable")
    assert sorted(events[0]) == ["category_id", "item_id", "sequence", "timestamp", "user_id"]
    for user, own in expected.groupby("user_id"):
        items = [event["item_id"] for event in events if event["user_id"] == user]
        assert items == own.item_id.tolist()
    assert log.impressions == (len(table) if has_log else int((table.clicked == 0).sum()))
