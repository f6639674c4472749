"""Forms of tables: without a line of names, JSON lines, folders and patterns, Parquet with missing ids."""

import bz2
import gzip
import json
import lzma
import pathlib
import tempfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.events import CATEGORY, ITEM, TIME, USER
from data_prep.preparation import Preparation
from data_prep.protocol import Protocol
from data_prep.readers.table import TableReader
from tests.data_prep.logs import run
from tests.data_prep.readers.reading import (
    INT64,
    SECONDS,
    as_rows,
    assert_every_line_is_accounted_for,
    damage,
    damaged,
    read_all,
    read_or_refused,
)

COLUMNS = {"columns": ["user", "item", "rating", "time"]}
PACKERS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


def log_of(folder, text, options, name="log.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_all(TableReader([str(path)], options))


def lines_of(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("separator", ["::", "\t", ",", ";", "|", " "])
def test_a_file_without_names_is_read_by_the_list_of_its_columns(tmp_path, separator):
    text = "".join(f"{separator.join(map(str, row))}\n" for row in [(3, 7, 5, 9), (2, 5, 1, 8)])
    assert as_rows(log_of(tmp_path, text, COLUMNS), USER, ITEM, TIME) == [(3, 7, 9), (2, 5, 8)]


def test_any_separator_can_be_named_with_or_without_names(tmp_path):
    options = {"separator": "-|-", **COLUMNS}
    assert as_rows(log_of(tmp_path, "3-|-7-|-5-|-9\n", options), USER, ITEM, TIME) == [(3, 7, 9)]
    text = "timestamp::item_id::user_id\n9::7::3\n"
    assert as_rows(log_of(tmp_path, text, {}), USER, ITEM, TIME) == [(3, 7, 9)]


def test_columns_that_are_not_read_need_no_names_and_ratings_choose_the_events(tmp_path):
    options = {"columns": ["_", "time", "item", "stars", "_", "user"], "time_column": "time"}
    options |= {"rating_column": "stars", "min_rating": 3.5}
    log = log_of(tmp_path, "a,9,7,4,b,3\na,8,5,3,b,2\na,8,5,,b,2\n", options)
    assert as_rows(log, USER, ITEM, TIME) == [(3, 7, 9)]
    assert log.bad["reason"].tolist() == ["rating '' is no decimal"]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("user,item,rating,time\n1,2,3,4\n", "user,item,rating,time", "got one with item, rating"),
        (
            "u,i,when\n1,2,3\n",
            "user,item,time",
            "no line of names .*; got 'u,i,when'. Leave columns",
        ),
        ("1,2,3\n", "user,item,rating,time", r"expected 4 columns, .*got the first line '1,2,3'"),
        ("1,2,3\n", "user,item,item", "expected different names of columns"),
        ("1,2,3\n", "who,item,time", "user_id missing or repeated"),
        ("1,2,3\n", "", "those of a file without a line of names by columns"),
    ],
)
def test_lists_of_columns_that_do_not_fit_are_refused(tmp_path, text, columns, message):
    with pytest.raises(ValueError, match=message):
        log_of(tmp_path, text, {"columns": columns})


def test_a_text_has_its_encoding(tmp_path):
    text = "user_id;item_id;timestamp\nJosé;7;9\n".encode("latin-1")
    assert as_rows(log_of(tmp_path, text, {"encoding": "latin-1"}), USER) == [("José",)]
    assert log_of(tmp_path, text + b"ann;7;9\n", {}).bad["reason"].tolist() == ["not UTF-8"]


@pytest.mark.parametrize("packed", PACKERS)
def test_json_lines_are_a_table(tmp_path, packed):
    row = {"user_id": "ann", "item_id": 7, "timestamp": 9.5, "text": "a\nb", "shelves": ["x", "y"]}
    text = lines_of(row, {**row, "item_id": 8, "shelves": []}, {**row, "shelves": None})
    content = PACKERS[packed](text.encode())
    log = log_of(tmp_path, content, {"category_column": "shelves"}, f"log.jsonl{packed}")
    expected = [("ann", 7, 9, "y"), ("ann", 8, 9, ""), ("ann", 7, 9, "")]
    assert as_rows(log, USER, ITEM, TIME, CATEGORY) == expected
    assert log.bad.empty


def test_json_lines_with_other_types_are_bad_rows(tmp_path):
    row = {"user_id": "ann", "item_id": 7, "timestamp": 9}
    wrong = [{**row, "item_id": "7"}, {**row, "user_id": 5}, {**row, "timestamp": True}]
    wrong += [{**row, "item_id": 2**70}, {**row, "user_id": "\ud800"}, {"user_id": "ann"}, [1], {}]
    log = log_of(tmp_path, lines_of(*[row] * 1_001, *wrong) + "{oops\n", {}, "log.json")
    assert len(log.events) == 1_001
    assert log.bad["line"].tolist() == list(range(1_001, 1_010))
    assert log.bad["reason"].tolist()[:3] == [
        "item_id '7' is no integer",
        "user_id '5' is no text",
        "timestamp 'True' is no integer",
    ]


def test_json_ids_of_mixed_types_are_refused_unless_all_are_said_to_be_words(tmp_path):
    rows = [{"user_id": user, "item_id": 7, "timestamp": 9} for user in (5, "ann", "5")]
    with pytest.raises(ValueError, match=r"log\.json.*one type.*'user_id'; got 5 and 'ann'.*=word"):
        log_of(tmp_path, lines_of(*rows), {}, "log.json")
    log = log_of(tmp_path, lines_of(*rows), {"id_type": "word"}, "log.json")
    assert as_rows(log, USER) == [("5",), ("ann",), ("5",)]


def test_a_file_that_is_no_json_lines_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"log\.json: expected JSON lines with user_id, item_id"):
        log_of(tmp_path, '[{"user_id": 1,\n "item_id": 2}]\n', {}, "log.json")


@pytest.mark.parametrize("packed", [".gz", ".xz", ".bz2"])
@pytest.mark.parametrize("form", ["columns", "json", "items"])
def test_a_damaged_archive_of_any_form_is_one_sentence_with_its_name(tmp_path, packed, form):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 10**9, (60_000, 3))
    if form == "json":
        names = ("user_id", "item_id", "timestamp")
        text = lines_of(*(dict(zip(names, row, strict=True)) for row in rows.tolist()))
    else:
        text = "".join(f"{a},{b},{c}\n" for a, b, c in rows.tolist())
    content = PACKERS[packed](text.encode())
    name = f"damaged.{'jsonl' if form == 'json' else 'csv'}{packed}"
    (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
    options = {} if form == "json" else {"columns": "user,item,time"}
    paths = [str(tmp_path / name)]
    if form == "items":
        (tmp_path / "log.csv").write_text("1,2,3\n")
        options |= {"item_table": paths[0], "item_columns": "_,item,c", "category_column": "c"}
        paths = [str(tmp_path / "log.csv")]
    with pytest.raises(ValueError, match=rf"damaged\.{name.split('.')[1]}.* is no complete compr"):
        read_all(TableReader(paths, options))


def test_a_pattern_and_a_folder_are_their_files_in_the_order_of_names(tmp_path):
    for day in (2, 10, 1):
        (tmp_path / f"day-{day:02}.csv").write_text(f"user_id,item_id,timestamp\n1,2,{day}\n")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / ".log.crc").write_text("")
    for paths in ([str(tmp_path / "day-*.csv")], [str(tmp_path)]):
        assert as_rows(read_all(TableReader(paths, {})), TIME) == [(1,), (2,), (10,)]
    with pytest.raises(FileNotFoundError, match=r"files of names like .*night-\*.*found none"):
        TableReader([str(tmp_path / "night-*.csv")], {})


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_column_that_vanishes_in_the_second_file_is_told_with_its_name(tmp_path, ending):
    table = pd.DataFrame({"user_id": [1], "item_id": [2], "timestamp": [3]})
    for name, content in (("a", table), ("b", table.rename(columns={"item_id": "sku"}))):
        path = tmp_path / f"{name}.{ending}"
        if ending == "csv":
            content.to_csv(path, index=False)
        elif ending == "parquet":
            content.to_parquet(path)
        else:
            content.to_json(path, orient="records", lines=True)
    with pytest.raises(ValueError, match=rf"b\.{ending}: expected .*item_id"):
        TableReader([str(tmp_path / f"*.{ending}")], {}).pieces()


def test_parquet_integers_with_missing_values_are_integers_and_bad_rows(tmp_path):
    frame = pd.DataFrame(
        {"user_id": [1.0, np.nan, 3.0], "item_id": [4, 5, 6], "timestamp": [7, 8, 9]}
    )
    frame["shelf"] = [2.0, 3.0, np.nan]
    frame.to_parquet(tmp_path / "log.parquet")
    log = read_all(TableReader([str(tmp_path / "log.parquet")], {"category_column": "shelf"}))
    assert as_rows(log, USER, ITEM, CATEGORY) == [(1, 4, 2), (3, 6, -1)]
    assert log.bad["reason"].tolist() == ["no user_id, or no 64-bit integer"]
    frame.assign(item_id=["x", "y", "z"]).to_parquet(tmp_path / "more.parquet")
    log = read_all(TableReader([str(tmp_path)], {"category_column": "shelf"}))
    assert as_rows(log, USER, ITEM) == [(1, "4"), (3, "6"), (1, "x"), (3, "z")]


def test_a_parquet_list_of_categories_counts_by_its_last(tmp_path):
    frame = pd.DataFrame({"user_id": [1, 1], "item_id": [4, 5], "timestamp": [7, 8]})
    frame["shelves"] = [["x", "y"], []]
    frame.to_parquet(tmp_path / "log.parquet")
    log = read_all(TableReader([str(tmp_path / "log.parquet")], {"category_column": "shelves"}))
    assert as_rows(log, CATEGORY) == [("y",), ("",)]


ROWS = st.lists(st.tuples(st.text(min_size=1), INT64, SECONDS), min_size=1, max_size=17)


@settings(max_examples=60, deadline=None)
@given(ROWS, damage())
def test_damage_to_json_lines_gives_clean_errors_and_loses_no_line(rows, changes):
    names = ("user_id", "item_id", "timestamp")
    text = lines_of(*(dict(zip(names, row, strict=True)) for row in rows)).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "log.jsonl"
        path.write_bytes(damaged(text, changes))
        log = read_or_refused(lambda: read_all(TableReader([str(path)], {})), "expected")
        if log is not None:
            assert_every_line_is_accounted_for(log, str(path), others=0)


@pytest.mark.parametrize("id_type", ["", "word"])
def test_negative_ids_are_read_as_words_or_the_message_says_how(tmp_path, id_type):
    rows = "".join(f"{user},{item},{9 + user}\n" for user in range(-8, 0) for item in range(5))
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n" + rows)
    reader = TableReader([str(tmp_path / "log.csv")], {"id_type": id_type})
    request = Preparation(reader, Protocol(fractions=(1.0, 0.0, 0.0)))
    if id_type:
        with pytest.raises(ValueError, match="no item left to be a negative"):  # read to its end
            run(request, tmp_path / "out")
        return
    with pytest.raises(
        ValueError, match=r"negative user_id.*words or negative need --id_type=word"
    ):
        run(request, tmp_path / "out")
