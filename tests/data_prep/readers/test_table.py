"""Tables of anybody's own: columns by name, kinds by looking, times in any unit."""

import csv
import datetime
import gzip
import io
import pathlib
import tempfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.events import BEHAVIOR, CATEGORY, ITEM, MICROSECOND, MISSING, TIME, USER
from data_prep.readers import READERS, times
from data_prep.readers.table import TableReader
from tests.data_prep.readers.reading import (
    INT64,
    SECONDS,
    as_rows,
    assert_every_line_is_accounted_for,
    damage,
    damaged,
    read_all,
    read_or_refused,
    sample,
)

NAMES = {"user_column": "who", "item_column": "what", "time_column": "when"}


def table(folder, text, name="log.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def rows_of(path, options, *columns):
    return as_rows(read_all(TableReader([path], {**NAMES, **options})), *columns)


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
def test_columns_are_found_by_name_under_any_separator(tmp_path, separator):
    lines = ["when what extra who", "9 7 a 3", "8 5 b 2"]
    path = table(tmp_path, "".join(line.replace(" ", separator) + "\n" for line in lines))
    assert rows_of(path, {}, USER, ITEM, TIME) == [(3, 7, 9), (2, 5, 8)]


def test_ids_are_words_where_the_first_values_are(tmp_path):
    path = table(tmp_path, "who,what,when\nann,7,9\n12,5,8\n")
    assert rows_of(path, {}, USER, ITEM) == [("ann", 7), ("12", 5)]
    with pytest.raises(ValueError, match="id_type to be one of auto, integer, word; got 'text'"):
        TableReader([path], {**NAMES, "id_type": "text"})


def test_a_word_far_below_integers_is_a_bad_row_unless_ids_are_said_to_be_words(tmp_path):
    path = table(tmp_path, "who,what,when\n" + "3,7,9\n" * 1_009 + "ann,7,9\n")
    log = read_all(TableReader([path], NAMES))
    assert log.bad[["line", "reason"]].to_numpy().tolist() == [
        [1_010, "user_id 'ann' is no integer"]
    ]
    words = read_all(TableReader([path], {**NAMES, "id_type": "word"}))
    assert words.words(USER)[-1] == "ann"


def test_categories_and_behaviors_come_from_their_columns(tmp_path):
    path = table(tmp_path, "who,what,when,kind,did\n1,2,3,x,see\n1,2,4,,buy\n1,2,5,x,eat\n")
    options = {
        "category_column": "kind",
        "behavior_column": "did",
        "behavior_names": ["see", "buy"],
    }
    reader = TableReader([path], {**NAMES, **options})
    log = read_all(reader)
    assert as_rows(log, CATEGORY, BEHAVIOR) == [("x", 0), ("", 1)]
    assert reader.behavior_types == ("see", "buy")
    assert log.bad["reason"].tolist() == ["unknown did, expected one of see, buy"]


def test_categories_come_from_the_item_table(tmp_path):
    items = table(tmp_path, "what\tkind\n7\tx\n5\ty\n7\tz\nbad\tx\n", "items.tsv")
    path = table(tmp_path, "who,what,when\n1,7,3\n1,5,4\n1,6,5\n")
    reader = TableReader([path], {**NAMES, "category_column": "kind", "item_table": items})
    log = read_all(reader)
    assert as_rows(log, ITEM, CATEGORY) == [(7, "x"), (5, "y"), (6, "")]
    assert log.events[CATEGORY][2] == MISSING
    assert reader.files() == (path, items)
    assert log.bad[["path", "line"]].to_numpy().tolist() == [[items, 4]]


@pytest.mark.parametrize(
    ("unit", "cell", "second"),
    [
        ("s", "1511539200", 1511539200),
        ("s", "1511539200.9", 1511539200),
        ("index", "-0.5", -1),
        ("auto", "1511539200", 1511539200),
        ("auto", "1511539200.75", 1511539200),
        ("auto", "1511539200999", 1511539200),
        ("auto", "1511539200999999", 1511539200),
        ("auto", "1511539200999999999", 1511539200),
        ("auto", "2017-11-24T16:00:00Z", 1511539200),
        ("auto", "20171124", 1511481600),
        ("auto", "2017112416", 1511539200),
        ("auto", "17112416", 1511539200),
        ("ms", "1511539200999", 1511539200),
        ("us", "1511539200999999", 1511539200),
        ("iso", "2017-11-24T16:00:00Z", 1511539200),
        ("iso", "2017-11-25 00:00:00+08:00", 1511539200),
        ("iso", "2017-11-24 16:00:00.75", 1511539200),
        ("iso", "2017-11-24", 1511481600),
    ],
)
def test_times_of_any_unit_become_seconds(tmp_path, unit, cell, second):
    path = table(tmp_path, f"who,what,when\n1,2,{cell}\n")
    assert rows_of(path, {"time_unit": unit}, TIME) == [(second,)]


@pytest.mark.parametrize(
    ("unit", "cell", "message"),
    [
        (
            "auto",
            "17",
            "expected times between 1990 and tomorrow, in one of s, ms.*got 17 .*unit=index",
        ),
        ("auto", "99", "expected times between 1990 and tomorrow"),
        ("auto", "yesterday", "expected times as numbers or in ISO 8601.*got 'yesterday'"),
        ("auto", "20100512", "may be yyyymmdd or yymmddhh. Say which by --time_unit"),
        (
            "s",
            "1511539200999",
            "by --time_unit=s the median of the first ones is in the year 49,869",
        ),
        ("ms", "1511539200", "by --time_unit=ms the median of the first ones is 1970-01-18"),
        ("iso", "1969-12-31", "by --time_unit=iso the median of the first ones is 1969-12-31"),
    ],
)
def test_times_before_1990_or_after_tomorrow_are_refused(tmp_path, unit, cell, message):
    path = table(tmp_path, f"who,what,when\n1,2,{cell}\n1,2,{cell}\n")
    with pytest.raises(ValueError, match=message):
        TableReader([path], {**NAMES, "time_unit": unit}).pieces()


def test_a_clock_that_only_counts_is_read_as_it_is(tmp_path):
    path = table(tmp_path, "who,what,when\n1,2,17\n")
    assert rows_of(path, {"time_unit": "index"}, TIME) == [(17,)]


def test_each_file_has_the_unit_of_its_own_times(tmp_path):
    table(tmp_path, "who,what,when\n1,2,1511539200\n", "a.csv")
    table(tmp_path, "who,what,when\n1,2,1511539201250\n", "b.csv")
    found = rows_of(str(tmp_path), {"time_unit": "auto"}, TIME, MICROSECOND)
    assert found == [(1511539200, 0), (1511539201, 250_000)]


def test_floats_give_the_nearest_microsecond():
    values = pd.Series([1593898068.378, 1593898068.9999999, -0.25])
    seconds, microseconds, wrong = times.seconds_of(values, "s")
    assert seconds.tolist() == [1593898068, 1593898069, -1]
    assert microseconds.tolist() == [378_000, 0, 750_000]
    assert not wrong.any()


def test_times_that_are_none_are_bad_rows(tmp_path):
    path = table(tmp_path, "who,what,when\n1,2,2017-11-24\n1,2,2017-13-24\n1,2,\n1,2,soon\n")
    log = read_all(TableReader([path], {**NAMES, "time_unit": "iso"}))
    assert (len(log.events), log.bad["line"].tolist()) == (1, [2, 3, 4])
    assert set(log.bad["reason"]) == {"when is no time in iso"}


def test_parquet_and_text_give_the_same_events(tmp_path):
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "who": [f"u{n}" for n in rng.integers(0, 9, 211)],
            "what": rng.integers(0, 10**12, 211),
            "when": rng.integers(0, 2 * 10**9, 211),
            "kind": rng.integers(0, 5, 211),
        }
    )
    frame.to_csv(tmp_path / "log.csv", index=False)
    frame.to_parquet(tmp_path / "log.parquet", row_group_size=50)
    options = {**NAMES, "category_column": "kind"}
    text, parquet = (
        TableReader([str(tmp_path / name)], options) for name in ("log.csv", "log.parquet")
    )
    assert len(parquet.pieces()) == 5
    pd.testing.assert_frame_equal(read_all(text).events, read_all(parquet).events)


def test_parquet_times_of_any_type_become_seconds(tmp_path):
    times = pd.Series(pd.to_datetime(["2017-11-24T16:00:00.5", "2017-11-25T00:00:00.5"]))
    for number, column in enumerate(
        [
            times,
            times.dt.tz_localize("UTC").dt.tz_convert("Asia/Shanghai"),
            times.astype("int64") / times.astype("int64").iloc[0] * 1511539200.5,
        ]
    ):
        path = tmp_path / f"{number}.parquet"
        pd.DataFrame({"who": [1, 1], "what": [2, 3], "when": column}).to_parquet(path)
        first, second = (row[0] for row in rows_of(str(path), {}, TIME))
        assert (first, round(second, -2)) == (1511539200, 1511568000)


def test_parquet_dates_are_their_midnight(tmp_path):
    dates = [datetime.date(2017, 11, 24), datetime.date(1969, 12, 31)]
    path = tmp_path / "log.parquet"
    pd.DataFrame({"who": [1, 1], "what": [2, 3], "when": dates}).to_parquet(path)
    assert rows_of(str(path), {}, TIME) == [(1511481600,), (-86400,)]


def test_parquet_rows_without_an_id_or_beyond_int64_are_bad(tmp_path):
    path = tmp_path / "log.parquet"
    frame = pd.DataFrame(
        {
            "who": pd.array([1, None, 3, 4, 5], "Int64"),
            "what": np.array([2, 2, 2**63, 2, 2], np.uint64),
            "when": pd.array([7, 7, 7, None, 7], "Int64"),
            "kind": ["x", "x", "x", "x", None],
        }
    )
    frame.to_parquet(path)
    log = read_all(TableReader([str(path)], {**NAMES, "category_column": "kind"}))
    assert as_rows(log, USER, ITEM, CATEGORY) == [(1, 2, "x"), (5, 2, "")]
    assert log.bad["line"].tolist() == [1, 2, 3]
    assert [reason.split(",")[0] for reason in log.bad["reason"]] == [
        "no user_id",
        "no item_id",
        "no timestamp",
    ]


def test_parquet_text_that_shall_be_integers_is_converted_or_bad(tmp_path):
    path = tmp_path / "log.parquet"
    pd.DataFrame({"who": ["1", "x", None], "what": [2, 3, 4], "when": [5, 6, 7]}).to_parquet(path)
    log = read_all(TableReader([str(path)], {**NAMES, "id_type": "integer"}))
    assert as_rows(log, USER) == [(1,)]
    assert log.bad["reason"].tolist() == ["user_id is no integer"] * 2


def test_empty_and_negative_ids_are_bad_rows(tmp_path):
    path = table(tmp_path, "who,what,when\nann,7,9\n,7,9\nbob,-7,9\n")
    log = read_all(TableReader([path], NAMES))
    assert log.bad[["line", "reason"]].to_numpy().tolist() == [
        [2, "empty user_id"],
        [3, "negative item_id"],
    ]


def test_several_files_agree_on_what_ids_are(tmp_path):
    table(tmp_path, "who,what,when\n1,2,3\n", "a.csv")
    table(tmp_path, "when;who;what\n4;ann;5\n", "b.csv")
    assert rows_of(str(tmp_path), {}, USER, ITEM, TIME) == [("1", 2, 3), ("ann", 5, 4)]


@pytest.mark.parametrize(
    ("text", "options", "named"),
    [
        ("a,b\n1,2\n", {}, r"expected the columns who, what, when.*got 'a, b'"),
        ("", {}, "expected the columns"),
        ("who,who,what,when\n1,1,2,3\n", {}, "who missing or repeated"),
        ("who,what,when\n1,2,yesterday\n", {}, r"expected rows with.*begins '1,2,yesterday'"),
        ("who,what,when\n1,2,3\n", {"item_column": "who"}, "a column for each of"),
        ("who,what,when\n1,2,3\n", {"separator": "::"}, "what, when missing"),
        ("who,what,when\n1,2,3\n", {"separator": '"'}, "without line ends and quotation marks"),
        ("who,what,when\n1,2,3\n", {"encoding": "utf-16"}, "an encoding that contains ASCII"),
        ("who,what,when\n1,2,3\n", {"rating_column": "when"}, "together or not at all; got column"),
        (
            "who,what,when\n1,2,3\n",
            {"time_unit": "h"},
            "time_unit to be one of auto, s, ms, us, ns, iso",
        ),
        ("who,what,when\n1,2,3\n", {"behavior_column": "when"}, "together or not at all"),
        ("who,what,when\n1,2,3\n", {"item_table": "x.csv"}, "needs the option category_column"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_says_why(tmp_path, text, options, named):
    with pytest.raises(ValueError, match=named):
        TableReader([table(tmp_path, text)], {**NAMES, **options}).pieces()


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"log\.csv.*your own log"):
        TableReader([str(tmp_path / "log.csv")], NAMES)
    path = table(tmp_path, "who,what,when\n")
    with pytest.raises(FileNotFoundError, match=r"items\.csv"):
        TableReader([path], {**NAMES, "item_table": "items.csv", "category_column": "c"})


@pytest.mark.parametrize(
    ("content", "named"),
    [(b"PAR1 no", "expected a Parquet file"), (None, "to hold integers or text; got double")],
)
def test_parquet_files_that_cannot_be_read_are_errors(tmp_path, content, named):
    path = tmp_path / "log.parquet"
    pd.DataFrame({"who": [0.5], "what": [2], "when": [3]}).to_parquet(path)
    if content:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=named):
        TableReader([str(path)], NAMES).pieces()


def test_an_archive_that_ends_early_is_an_error(tmp_path):
    packed = gzip.compress(b"who,what,when\n" + b"".join(b"%d,2,3\n" % n for n in range(9_973)))
    path = table(tmp_path, packed[: len(packed) // 2], "log.csv.gz")
    with pytest.raises(ValueError, match="no complete compressed file"):
        read_all(TableReader([path], NAMES))


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1, max_size=9)
WORDS = CELLS.map(lambda text: f"w{text}")
EVENTS = st.lists(st.tuples(WORDS, INT64, SECONDS), min_size=1, max_size=17)


def text_of(rows, separator):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerows([["who", "what", "when"], *rows])
    return text.getvalue().encode()


@settings(max_examples=40, deadline=None)
@given(EVENTS, st.sampled_from([",", ";", "|"]))
def test_any_rows_come_back(rows, separator):
    with tempfile.TemporaryDirectory() as folder:
        path = table(pathlib.Path(folder), text_of(rows, separator))
        log = read_all(TableReader([path], {**NAMES, "separator": separator}))
    assert log.bad.empty
    assert as_rows(log, USER, ITEM, TIME) == rows


@settings(max_examples=60, deadline=None)
@given(EVENTS, damage())
def test_damage_gives_clean_errors_and_loses_no_line(rows, changes):
    with tempfile.TemporaryDirectory() as folder:
        path = table(pathlib.Path(folder), damaged(text_of(rows, ","), changes))
        log = read_or_refused(lambda: read_all(TableReader([path], NAMES)), "expected")
        if log is not None:
            assert_every_line_is_accounted_for(log, path, others=1)


def test_the_grocery_log_has_the_known_counts():
    log_file, items = sample("rechorus_grocery/train.csv.xz", "rechorus_grocery/item_meta.csv.xz")
    options = {"time_column": "time", "item_table": items, "category_column": "i_category"}
    reader = READERS["table"]([log_file], options)
    log = read_all(reader)
    assert len(log.events) == 121_892
    assert log.events[[USER, ITEM]].nunique().tolist() == [14_681, 8_687]
    assert len(np.unique(reader._categories.categories)) == 57
    assert log.bad.empty


def test_the_taobao_log_reads_as_a_table_too(tmp_path):
    (path,) = sample("taobao/UserBehavior.csv.xz")
    names = ["who", "what", "kind", "did", "when"]
    frame = pd.read_csv(path, header=None, names=names)
    frame.to_parquet(tmp_path / "log.parquet")
    options = {
        **NAMES,
        "category_column": "kind",
        "behavior_column": "did",
        "behavior_names": "pv,buy,cart,fav",
    }
    log = read_all(TableReader([str(tmp_path / "log.parquet")], options))
    assert len(log.events) == 65_407
    assert log.events[[USER, ITEM, CATEGORY]].nunique().tolist() == [630, 43_900, 2_607]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_numeric_features_are_stored_in_thousandths_and_an_empty_cell_is_unknown(tmp_path, suffix):
    numbers, path = [2.5, None, 0.0, 1e3], tmp_path / f"log.{suffix}"
    frame = pd.DataFrame({"who": 1, "what": range(4), "when": range(4), "stay": numbers})
    frame = frame.assign(paid=["1", "", "3.25", None])
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    options = {"numeric_columns": ["dwell=stay", "paid"]}
    found = rows_of(str(path), options, "dwell", "paid")
    assert found == [(2501, 1001), (0, 0), (1, 3251), (1_000_001, 0)]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_is_no_number_is_a_bad_row(tmp_path, suffix):
    path = tmp_path / f"log.{suffix}"
    frame = pd.DataFrame({"who": 1, "what": 2, "when": 3, "paid": ["-1", "x", "1e11", "nan", "7"]})
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    log = read_all(TableReader([str(path)], {**NAMES, "numeric_columns": "paid"}))
    assert log.events["paid"].tolist() == [7001]
    assert len(log.bad) == 4
    assert "paid is above 10,000,000,000" in set(log.bad["reason"])


@pytest.mark.parametrize(
    "columns", ["dwell=stay,dwell=paid", "Dwell", "timestamp", "total_paid", "mask=x", "=stay"]
)
def test_names_of_numeric_features_that_would_collide_are_refused(tmp_path, columns):
    with pytest.raises(
        ValueError, match="expected side_feature_columns and numeric_columns as different"
    ):
        TableReader([table(tmp_path, "who,what,when\n")], {"numeric_columns": columns})


def test_a_numeric_feature_that_the_table_does_not_have_is_refused(tmp_path):
    reader = TableReader(
        [table(tmp_path, "who,what,when\n1,2,3\n")], {**NAMES, "numeric_columns": "dwell"}
    )
    with pytest.raises(ValueError, match="with dwell missing"):
        reader.pieces()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_side_features_are_words_and_an_empty_cell_is_unknown(tmp_path, suffix):
    path, cities = tmp_path / f"log.{suffix}", ["Rome", None, "Oslo, N", ""]
    frame = pd.DataFrame({"who": 1, "what": range(4), "when": range(4), "city": cities, "zip": 7})
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    options = {"side_feature_columns": "location=city,zip"}
    log = read_all(TableReader([str(path)], {**NAMES, **options}))
    assert log.words("location") == ["Rome", "", "Oslo, N", ""]
    assert log.words("zip") == ["7"] * 4
    with pytest.raises(ValueError, match="as different names"):
        TableReader([str(path)], {**options, "numeric_columns": "location=zip"})


@pytest.mark.parametrize("option", ["side_feature_columns", "numeric_columns"])
def test_a_feature_of_past_events_that_is_called_label_is_refused(tmp_path, option):
    path = table(tmp_path, "who,what,when,clicked\n1,2,3,1\n")
    with pytest.raises(ValueError, match="cannot be called label, the name of the click; call it"):
        TableReader([path], {**NAMES, option: "label=clicked"})
