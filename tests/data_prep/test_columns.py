"""Declared columns of a log: from a YAML file and its tables to records and a catalogue."""

import json
import textwrap

import numpy as np
import pandas as pd
import pytest

from data_prep.columns import LIST_SEPARATOR, Column, DeclaredColumns
from data_prep.make_events import EventsOfLog
from data_prep.readers.table import TableReader
from data_prep.stages.columns import (
    Sample,
    encode_numbers,
    encode_words,
    number_values,
    parse_numbers,
)
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.records import load_catalogue
from tests.data_prep.column_logs import FILE, ITEMS, OPTIONS, names_of, run, write_log
from tests.data_prep.logs import records


@pytest.mark.parametrize("protocol", ["impressions", "every_event", "last_event"])
def test_every_example_has_the_cells_of_its_row_and_its_item(tmp_path, protocol):
    tables = write_log(tmp_path)
    run(tmp_path, protocol)
    data = PreparedData(tmp_path / "prepared")
    fields = {f.name: f for f in data.schema.fields}
    voc = {n: names_of(tmp_path, n) for n in data.schema.vocabulary_sizes}
    batches = data.training(BatchOptions(batch_rows=512, lengths=1), seed=1, epoch=0)
    arrays = {name: value.numpy() for name, value in next(iter(batches)).items()}
    log = tables["log"].assign(user=tables["log"].user_id.astype(str)).set_index("timestamp")
    for row in np.flatnonzero(arrays["cand_mask"].any(axis=1)):
        request = log.loc[arrays["cand_timestamp"][row, 0]]
        assert voc["user_id"][arrays["user_id"][row]] == request.user
        assert voc["context_hour"][arrays["context_hour"][row]] == str(request.hour)
        words = [voc["context_words"][n] for n in arrays["context_words"][row] if n]
        assert words == request.words.split()
        ages = sorted(set(tables["log"].age))
        bounds = fields["user_age"].boundaries
        assert arrays["user_age"][row] == 2 + sum(request.age >= bound for bound in bounds)
        assert set(bounds) <= set(map(float, ages))
        check_items(arrays, "hist", row, tables["items"], voc)
        check_items(arrays, "cand", row, tables["items"], voc)
        for time, place in zip(
            arrays["hist_timestamp"][row], arrays["hist_place"][row], strict=True
        ):
            if place:
                assert voc["place"][place].replace("?", "") == log.loc[time].city


def check_items(arrays, prefix, row, items, voc):
    for place in np.flatnonzero(arrays[f"{prefix}_mask"][row]):
        item = items.loc[voc["item_id"][arrays[f"{prefix}_item_id"][row, place]]]
        tags = [voc["tags"][n] for n in arrays[f"{prefix}_tags"][row, place] if n]
        expected = list(dict.fromkeys(tag for tag in item.tags.split("|") if tag.strip()))
        assert tags == expected[:2]
        np.testing.assert_allclose(arrays[f"{prefix}_price"][row, place], item.price, rtol=1e-6)


def test_the_catalogue_has_every_attribute_and_unknown_ones_of_unknown_items(tmp_path):
    write_log(tmp_path)
    run(tmp_path)
    catalogue = load_catalogue(tmp_path / "prepared")
    assert catalogue["tags"].shape == (13, 2)
    assert catalogue["price"].shape == (13,)
    np.testing.assert_array_equal(catalogue["tags"][:2], [[0, 0], [1, 0]])
    assert catalogue["price"][0] == 0
    assert np.isnan(catalogue["price"][1])


def test_the_card_lists_columns_by_role_with_what_is_missing(tmp_path):
    write_log(tmp_path, {n: v[:-2] for n, v in ITEMS.items()})
    whole_card = run(tmp_path)
    card = whole_card["columns"]
    assert card["columns"]["tags"]["role"] == "item"
    assert card["columns"]["tags"]["longest_list"] == 3
    assert 0.2 < card["columns"]["context_words"]["missing"] < 0.3
    assert card["item_table"]["without_line"] == 2
    test = whole_card["splits"]["test"]
    assert 0 < test["unknown_columns"]["price"] < test["candidates"]
    assert card["item_table"]["training_rows_without_line"] > 0


def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
    write_log(tmp_path)
    run(tmp_path)
    run(tmp_path, output="other", workers=2)
    for path in sorted((tmp_path / "prepared").rglob("*.tfrecord")):
        other = tmp_path / "other" / path.relative_to(tmp_path / "prepared")
        assert path.read_bytes() == other.read_bytes()


def test_one_request_of_two_contexts_becomes_two_rows(tmp_path):
    write_log(tmp_path, page=lambda log: log.user_id * 100 + np.arange(400) // 40)
    rows = run(tmp_path, request_column="page")
    assert rows["splits"]["train"]["rows"] > 0.8 * rows["splits"]["train"]["candidates"]
    assert all(
        len(r["context_hour"]) == len(r["label"]) for r in records(tmp_path / "prepared")["test"]
    )


def test_users_may_have_a_table_and_past_events_a_log_of_their_own(tmp_path):
    tables = write_log(tmp_path, file="user_table: users.csv\n" + textwrap.dedent(FILE))
    ages = {"user_id": range(1, 13), "age": np.arange(12) * 5}  # the thirteenth has no line
    pd.DataFrame(ages).to_csv(tmp_path / "users.csv", index=False)
    tables["log"].drop(columns=["city", "age"]).to_csv(tmp_path / "log.csv", index=False)
    past = tables["log"].assign(timestamp=tables["log"].timestamp - 7)
    past[["user_id", "item_id", "timestamp", "city"]].to_csv(tmp_path / "past.csv", index=False)
    card = run(tmp_path, behaviors=str(tmp_path / "past.csv"))
    assert card["columns"]["user_table"]["without_line"] == 1
    (user,) = np.flatnonzero(np.array(names_of(tmp_path, "user_id")) == "13")
    of_users = {r["user_id"][0]: r for rs in records(tmp_path / "prepared").values() for r in rs}
    assert of_users[user]["user_age"].tolist() == [1]
    assert {n for r in of_users.values() for n in r["hist_place"]} == {1, 2, 3}


def test_lists_of_parquet_are_multi_valued(tmp_path):
    write_log(tmp_path)
    items = pd.DataFrame(ITEMS)
    items["tags"] = [[t for t in cell.split("|") if t] or None for cell in items["tags"]]
    items.at[0, "tags"] = ["a|b", None, ""]
    items.to_parquet(tmp_path / "items.parquet")
    run(tmp_path, item_table=str(tmp_path / "items.parquet"))
    assert "a|b" in names_of(tmp_path, "tags")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("columns: {label: {role: event, kind: categorical}}", "cannot be called label"),
        ("columns: {x: {role: shop, kind: categorical}}", "expected the role of column 'x'"),
        ("columns: {x: {role: item, kind: categorical}}", "need a table of items"),
        ("columns: {x: {role: user, kind: bucketed, buckets: many}}", "buckets of column 'x' to be a number"),
        ("columns: {x: {kind: bucketed}}", "with the keys role and kind"),
        ("columns: {item_id: {role: event, kind: categorical}}", "expected names of columns"),
        ("columns: {x: {role: event, kind: multi_valued}}", "cannot be multi_valued"),
        ("columns: {x: {role: event, kind: standardized}}", "cannot be standardized"),
        ("columns: [a, b]", "expected the keys"),
        ("columns: {x: [", "no readable YAML or JSON"),
        ("columns: {user_x: {role: user, kind: bucketed}, x: {role: user, kind: bucketed}}", "twice"),
        ("columns: {x: {role: context, kind: categorical}}", "x missing or repeated"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_by_one_sentence(tmp_path, file, expected):
    write_log(tmp_path, file=file)
    with pytest.raises(ValueError, match=expected) as error:
        run(tmp_path)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "prepared").glob("*.json"))


def test_infinite_numbers_are_quarantined_and_nan_is_unknown(tmp_path):
    items = {**ITEMS, "price": ["inf", "nan", "x", "", *range(7)]}
    write_log(tmp_path, items)
    reader = TableReader(
        [str(tmp_path / "log.csv")], {**OPTIONS, "columns_file": str(tmp_path / "columns.yaml")}
    )
    bad = [row for p in reader.pieces() for c in reader.read(p) for row in c.bad["reason"]]
    assert bad == ["price is no finite number"] * 2
    parts = list(reader.item_attributes())
    assert len(parts[0][0]) == 9


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ({**ITEMS, "item_id": [f"other{n}" for n in range(11)]}, "none of the 11 keys of the log"),
        ({n: [*v, *v[:6]] if n != "tags" else [*v, *"xxxxxx"] for n, v in ITEMS.items()}, "6 of the 17 lines"),
        ({**ITEMS, "price": [""] * 11}, "has no number in training"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused(tmp_path, items, expected):
    write_log(tmp_path, items)
    with pytest.raises(ValueError, match=expected):
        run(tmp_path)
    assert not (tmp_path / "prepared/manifest.json").exists()


def test_repeated_lines_that_agree_are_counted(tmp_path):
    write_log(tmp_path, {n: [*v, v[0]] for n, v in ITEMS.items()})
    figures = run(tmp_path)["columns"]["item_table"]
    assert figures["repeated_lines"] == 1
    assert figures["contradictory_lines"] == 0


def test_lists_are_split_cut_and_numbered_by_training_rows():
    column = Column("tags", "item", "multi_valued", "tags", values=2)
    cells = ["a|b|c", "b| |b", "", f"a|b{LIST_SEPARATOR}c"]
    encoding = encode_words(column, cells, np.array([1, 5, 2, 0]))
    assert encoding.words.tolist() == ["b", "a", "c"]  # 6 rows, 1, 1; a|b never trains
    np.testing.assert_array_equal(encoding.table, [[3, 2], [2, 0], [0, 0], [1, 4]])
    assert encoding.figures == {"values": 3, "longest_list": 3, "lists_cut": 1, "missing": 0.25}


def test_buckets_hold_about_equally_many_training_numbers():
    column = Column("age", "item", "bucketed", "age", buckets=4)
    parts = [
        Sample.draw(np.arange(0.0, 100.0)),
        Sample.draw(np.array([np.nan, 5.0]), np.array([3, 100])),
    ]
    field = encode_numbers(column, parts).field
    ids = number_values(field, np.array([*np.repeat(5.0, 100), *np.arange(100.0), np.nan]))
    assert ids[-1] == 1
    assert field.boundaries[0] == 5.0
    assert len(field.boundaries) <= 3
    assert np.bincount(ids)[2:].max() <= 150  # the hundred equal ones cannot be parted


def test_moments_are_those_of_all_training_numbers():
    column = Column("age", "item", "standardized", "age")
    numbers = np.random.default_rng(0).normal(3, 2, 1000)
    parts = [Sample.draw(numbers[:300]), Sample.draw(numbers[300:])]
    mean, deviation = encode_numbers(column, parts).field.moments
    np.testing.assert_allclose([mean, deviation], [numbers.mean(), numbers.std()])


def test_cells_are_numbers_unknown_or_wrong():
    numbers, wrong = parse_numbers(pd.Series(["1e3", "", " NaN", "inf", "1,5", "-2"]))
    np.testing.assert_array_equal(numbers, [1000, np.nan, np.nan, np.nan, np.nan, -2])
    assert wrong.tolist() == [False, False, False, True, True, False]


def test_a_second_day_keeps_ids_boundaries_and_moments_of_columns(tmp_path):
    write_log(tmp_path)
    run(tmp_path)
    tags = ["new|b", "b", "", "a| |a", "c|b", "a", "b|c", "newer", "a", "b", "c"]
    items = {**ITEMS, "tags": tags, "price": np.arange(11) * 7.0}
    cities = np.where(np.arange(400) % 2, "Oslo", "Bern")
    write_log(tmp_path, items, city=cities, age=np.arange(400) % 90)
    run(tmp_path, output="next", earlier=tmp_path / "prepared")
    first, second = (PreparedData(tmp_path / name).schema for name in ("prepared", "next"))
    assert second.fields == first.fields
    for name in ("place", "tags", "context_words"):
        before, after = names_of(tmp_path, name), names_of(tmp_path, name, "next")
        assert after[: len(before)] == before
    assert {"Oslo"} < set(names_of(tmp_path, "place", "next"))
    catalogue, names = load_catalogue(tmp_path / "next"), names_of(tmp_path, "tags", "next")
    raw = names_of(tmp_path, "item_id", "next")
    for number in range(2, len(raw)):
        words = [names[n] for n in catalogue["tags"][number] if n]
        expected = dict.fromkeys(t for t in tags[ITEMS["item_id"].index(raw[number])].split("|"))
        assert words == [tag for tag in expected if tag.strip()][:2]


def test_events_for_the_stream_have_columns_of_events_alone(tmp_path):
    write_log(tmp_path)
    options = {"category_column": "shelf", "columns_file": str(tmp_path / "columns.yaml")}
    log = EventsOfLog(TableReader([str(tmp_path / "log.csv")], options), (), tmp_path, False)
    events = [json.loads(line) for line in log.lines()]
    assert {event.get("place") for event in events} == {"Bern", "Rome", None}
    assert set(events[0]) - {"place"} == {
        "user_id",
        "sequence",
        "item_id",
        "category_id",
        "timestamp",
    }


def test_json_files_declare_columns_too(tmp_path):
    path = tmp_path / "columns.json"
    path.write_text(json.dumps({"columns": {"hour": {"role": "context", "kind": "categorical"}}}))
    (column,) = DeclaredColumns.load(path).of_requests
    assert column.name == "context_hour"
    assert column.column == "hour"


def test_all_genres_of_movielens_are_a_column_beside_the_first(tmp_path):
    from data_prep.readers.movielens import MovieLensReader
    from tests.data_prep.readers.test_movielens import dat_folder

    folder = dat_folder(tmp_path)
    reader = MovieLensReader([str(folder)], {"genres": "all"})
    ((keys, table),) = reader.item_attributes()
    assert len(keys) == len(table)
    assert "|" in table["genres"].iloc[0]
    assert not list(MovieLensReader([str(folder)], {}).item_attributes())
